"""Drawings of a training from plain numbers, for a run folder (PNG) and for the report (SVG); readable in print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.augment import Augment
from training.data import Films, TrainingSet
from training.recipe import TrainingRecipe
from training.split import Part

SHOWN = 4
"""Films of each class in the plot of augmented samples; each is shown as read and SHOWN times changed."""
HATCHES = ("", "///", "...", "xx")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "svg.hashsalt": "cxr",  # the same numbers give the same file
    "figure.constrained_layout.use": True,
}


# --- files of a run folder -------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def before(parts: dict[Part, Films], recipe: TrainingRecipe, folder: Path) -> None:
    """What can be looked at before the first epoch: classes.png and augmented.png."""
    counts = {part: films.class_counts() for part, films in parts.items()}
    _save(class_frequencies(counts), folder / "classes.png")
    _save(augmented(parts["train"], recipe), folder / "augmented.png")


@matplotlib.rc_context(STYLE)
def after(entries: list[dict[str, float]], best_epoch: int, folder: Path) -> None:
    """curves.png: `entries` of history.json."""
    _save(history(entries, best_epoch), folder / "curves.png")


@matplotlib.rc_context(STYLE)
def judged(part: Part, matrix: list[list[int]], labels: Sequence[str], folder: Path) -> None:
    """confusion_<part>.png; rows of the matrix true."""
    _save(confusion({part: matrix}, labels), folder / f"confusion_{part}.png")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
    plt.close(figure)


# --- figures ---------------------------------------------------------------------------------------


def class_frequencies(counts: Mapping[Any, Mapping[str, int]]) -> Figure:
    """Films of each class, by part; every part names the same classes."""
    labels = list(next(iter(counts.values())))
    figure, axis = plt.subplots(figsize=(6.5, 2.8))
    width = 0.8 / len(counts)
    for index, (part, by_class) in enumerate(counts.items()):
        places = [place + (index - (len(counts) - 1) / 2) * width for place in range(len(labels))]
        bars = axis.bar(
            places, [by_class[label] for label in labels], width,
            label=part, color=str(0.45 + 0.15 * index), hatch=HATCHES[index % 4], edgecolor="black", linewidth=0.6,
        )  # fmt: skip
        axis.bar_label(bars, fontsize=7)
    axis.set_xticks(range(len(labels)), labels)
    axis.set_ylabel("films")
    axis.grid(axis="x", visible=False)
    axis.legend()
    return figure


def confusion(matrices: Mapping[Any, list[list[int]]], labels: Sequence[str]) -> Figure:
    """Counts of each part, rows true, shaded by the share of the row."""
    figure, axes = plt.subplots(1, len(matrices), figsize=(3.4 * len(matrices), 3.5), squeeze=False)
    for axis, (part, matrix) in zip(axes[0], matrices.items(), strict=True):
        _matrix(axis, matrix, labels, part)
    return figure


def _matrix(axis: Axes, matrix: list[list[int]], labels: Sequence[str], title: str) -> None:
    shares = [[value / max(1, sum(row)) for value in row] for row in matrix]
    axis.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="predicted", ylabel="true", title=title)
    axis.grid(visible=False)
    for y, row in enumerate(matrix):
        for x, value in enumerate(row):
            axis.text(x, y, str(value), ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black")


def history(entries: list[dict[str, float]], best_epoch: int) -> Figure:
    """Loss, accuracy and macro F1 over the epochs, the kept one marked; `entries` of history.json, one or more."""
    epochs = [entry["epoch"] for entry in entries]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    left.plot(epochs, [entry["training_loss"] for entry in entries], "o--", color="0.55", label="training")
    left.plot(epochs, [entry["loss"] for entry in entries], "o-", color="black", label="validation")
    left.set(xlabel="epoch", ylabel="cross entropy")
    for key, label, style, grey in (
        ("macro_f1", "validation macro F1", "o-", "black"),
        ("accuracy", "validation accuracy", "s:", "0.3"),
        ("training_accuracy", "training accuracy", "o--", "0.55"),
    ):
        values = [entry.get(key, np.nan) for entry in entries]  # an older run kept no training accuracy at first
        right.plot(epochs, values, style, color=grey, label=label, markersize=4)
    right.set(xlabel="epoch", ylabel="share")
    for axis in (left, right):
        axis.axvline(best_epoch, color="0.7", label="kept epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    return figure


def augmented(films: Films, recipe: TrainingRecipe) -> Figure:
    """One training film of each class as it is read, and beside it as the network is shown it."""
    first = [int(np.flatnonzero(films.classes == index)[0]) for index in range(len(films.labels))]
    shown = TrainingSet(films, Augment(recipe.augment), [film for film in first for _ in range(SHOWN)], recipe.seed)
    figure, axes = plt.subplots(len(first), SHOWN + 1, figsize=(2 * (SHOWN + 1), 2.1 * len(first)), squeeze=False)
    for row, film in enumerate(first):
        pictures = [torch.from_numpy(films.pictures[film]), *(shown[row * SHOWN + k][0] for k in range(SHOWN))]
        for column, (axis, picture) in enumerate(zip(axes[row], pictures, strict=True)):
            axis.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=255)
            axis.set_axis_off()
            axis.set_title(f"{films.labels[row]}, as read" if column == 0 else f"changed, {column}", fontsize=8)
    return figure
