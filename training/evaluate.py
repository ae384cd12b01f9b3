"""Figures of one trained network on one part of the data, each with its interval.

A thousand bootstrap samples of five figures: in numpy a second, by scikit-learn's functions most of a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

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
    return float((probabilities.argmax(axis=1) == classes).mean())


def _f1(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """F1 and support of each class."""
    count = probabilities.shape[1]
    pairs = np.bincount(classes * count + probabilities.argmax(axis=1), minlength=count * count)
    confusion = pairs.reshape(count, count)  # rows true
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return 2 * confusion.diagonal() / np.maximum(1, support + predicted), support


def _macro_f1(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    return float(_f1(classes, probabilities)[0].mean())


def _weighted_f1(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    f1, support = _f1(classes, probabilities)
    return float((f1 * support).sum() / support.sum())


def _macro_auc(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """One against the rest, mean over classes; not a number where a class has no film."""
    areas = [_auc(classes == index, column) for index, column in enumerate(probabilities.T)]
    return float(np.mean(areas))


def _auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Share of pairs (positive, negative) in the right order, ties half (Hanley and McNeil 1982)."""
    negatives = np.sort(scores[~positive])
    if len(negatives) in (0, len(scores)):
        return float("nan")
    below = np.searchsorted(negatives, scores[positive], "left")
    not_above = np.searchsorted(negatives, scores[positive], "right")
    return float((below + not_above).mean() / 2 / len(negatives))


FIGURES: dict[str, Figure] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "weighted_f1": _weighted_f1,
    "macro_auc": _macro_auc,
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
