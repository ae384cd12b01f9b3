"""Figures of one trained network on one part of the data, each with its interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support, roc_auc_score

RESAMPLES = 1000
ECE_BINS = 15

Figure = Callable[[NDArray[np.int64], NDArray[np.float64]], float]


def expected_calibration_error(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Mean gap between confidence and accuracy over ECE_BINS bins of equal mass (Nguyen and O'Connor 2015)."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == classes).astype(float)
    order = np.argsort(confidence, kind="stable")
    gaps = [
        len(part) * abs(confidence[part].mean() - right[part].mean())
        for part in np.array_split(order, ECE_BINS)
        if len(part)
    ]
    return float(sum(gaps) / len(classes))


def _accuracy(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    return float(accuracy_score(classes, probabilities.argmax(axis=1)))


def _f1(average: str) -> Figure:
    def figure(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
        labels = range(probabilities.shape[1])
        predicted = probabilities.argmax(axis=1)
        return float(f1_score(classes, predicted, labels=labels, average=average, zero_division=0))

    return figure


def _auc(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    if len(np.unique(classes)) < probabilities.shape[1]:
        return float("nan")
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(classes, probabilities[:, 1]))
    return float(roc_auc_score(classes, probabilities, multi_class="ovr"))


FIGURES: dict[str, Figure] = {
    "accuracy": _accuracy,
    "macro_f1": _f1("macro"),
    "weighted_f1": _f1("weighted"),
    "macro_auc": _auc,
    "ece": expected_calibration_error,
}


def resamples(groups: tuple[str, ...], seed: int = 0) -> list[NDArray[np.int64]]:
    """Indices of RESAMPLES bootstrap samples that draw whole groups: films of one patient are not independent."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    lists = list(members.values())
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(lists), (RESAMPLES, len(lists)))
    return [np.array([index for group in draw for index in lists[group]], np.int64) for draw in draws]


def figures(
    classes: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    groups: tuple[str, ...],
    labels: tuple[str, ...],
) -> dict[str, Any]:
    """All figures of one part.

    Args:
        classes: (N,) true class indices.
        probabilities: (N, classes).

    Returns:
        For each of FIGURES its value and bootstrap 95 % interval by group; per class precision, recall,
        F1 and support; the confusion matrix, rows true.
    """
    samples = resamples(groups)
    result: dict[str, Any] = {"films": len(classes), "groups": len(set(groups))}
    for name, figure in FIGURES.items():
        spread = [figure(classes[sample], probabilities[sample]) for sample in samples]
        low, high = np.nanquantile(spread, [0.025, 0.975])
        result[name] = {"value": figure(classes, probabilities), "low": float(low), "high": float(high)}
    predicted = probabilities.argmax(axis=1)
    everything = range(len(labels))
    table = precision_recall_fscore_support(classes, predicted, labels=everything, zero_division=0)
    names = ("precision", "recall", "f1", "support")
    result["per_class"] = {
        label: {name: float(column[index]) for name, column in zip(names, table, strict=True)}
        for index, label in enumerate(labels)
    }
    result["confusion"] = confusion_matrix(classes, predicted, labels=everything).tolist()
    return result
