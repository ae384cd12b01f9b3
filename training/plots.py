"""Pictures of a run, readable in print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen


def curves(history: list[dict[str, float]], best_epoch: int, path: Path) -> None:
    """Loss and macro F1 over the epochs, the kept epoch marked."""
    epochs = [entry["epoch"] for entry in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.plot(epochs, [entry["training_loss"] for entry in history], "o--", color="grey", label="training")
    left.plot(epochs, [entry["loss"] for entry in history], "o-", color="black", label="validation")
    left.set(xlabel="epoch", ylabel="loss (cross entropy; training with augmentation and smoothing)")
    right.plot(epochs, [entry["macro_f1"] for entry in history], "o-", color="black", label="validation")
    right.set(xlabel="epoch", ylabel="macro F1", ylim=(0, 1))
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
