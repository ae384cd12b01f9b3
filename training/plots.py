"""Pictures of a run, readable in print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

from training.augment import Augment
from training.data import Films, TrainingSet
from training.recipe import TrainingRecipe
from training.split import Part

SHOWN = 4
"""Films of each class in the plot of augmented samples; each is shown as read and SHOWN times changed."""


def before(parts: dict[Part, Films], recipe: TrainingRecipe, folder: Path) -> None:
    """What can be looked at before the first epoch: class frequencies and augmented samples."""
    classes({part: films.class_counts() for part, films in parts.items()}, folder / "classes.png")
    augmented(parts["train"], recipe, folder / "augmented.png")


def classes(counts: dict[Part, dict[str, int]], path: Path) -> None:
    """Films of each class in each part."""
    figure, axis = plt.subplots(figsize=(8, 4))
    width = 0.8 / len(counts)
    for (place, (part, films)), hatch in zip(enumerate(counts.items()), ("", "//", ".."), strict=True):
        positions = np.arange(len(films)) + (place - (len(counts) - 1) / 2) * width
        bars = axis.bar(positions, list(films.values()), width, label=part, hatch=hatch, color=f"{0.35 + 0.25 * place}")
        axis.bar_label(bars, fontsize=8)
    axis.set_xticks(range(len(films)), list(films))
    axis.set(ylabel="films", title="Films of each class and part")
    axis.legend()
    _save(figure, path)


def augmented(films: Films, recipe: TrainingRecipe, path: Path) -> None:
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
    _save(figure, path)


def curves(history: list[dict[str, float]], best_epoch: int, path: Path) -> None:
    """Loss, accuracy and macro F1 over the epochs, the kept epoch marked."""
    epochs = [entry["epoch"] for entry in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.plot(epochs, [entry["training_loss"] for entry in history], "o--", color="grey", label="training")
    left.plot(epochs, [entry["loss"] for entry in history], "o-", color="black", label="validation")
    left.set(xlabel="epoch", ylabel="loss (cross entropy; training with augmentation and smoothing)")
    for key, style, label in (
        ("training_accuracy", "o--", "accuracy, training"),
        ("accuracy", "o-", "accuracy, validation"),
        ("macro_f1", "s:", "macro F1, validation"),
    ):  # a run begun before training accuracy was kept has no such entry in its first epochs
        values = [entry.get(key, np.nan) for entry in history]
        right.plot(epochs, values, style, color="grey" if "training" in label else "black", label=label)
    right.set(xlabel="epoch", ylabel="share (training: with augmentation and dropout)", ylim=(0, 1))
    for axis in (left, right):
        axis.axvline(best_epoch, color="grey", linestyle=":", label=f"kept: epoch {best_epoch}")
        axis.legend()
        axis.grid(alpha=0.3)
    _save(figure, path)


def confusion(matrix: list[list[int]], labels: tuple[str, ...], title: str, path: Path) -> None:
    """Counts, shaded by share of the true class."""
    shares = [[value / max(1, sum(row)) for value in row] for row in matrix]
    figure, axis = plt.subplots(figsize=(6, 5))
    axis.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    axis.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="predicted", ylabel="true", title=title)
    for y, row in enumerate(matrix):
        for x, value in enumerate(row):
            axis.text(x, y, str(value), ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
