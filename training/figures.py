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
Interval = dict[str, float]
"""`value`, and `low` and `high` of its bootstrap 95 % interval."""


def expected_calibration_error(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Mean gap between confidence and accuracy over ECE_BINS bins of equal mass (Nguyen and O'Connor 2015)."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == classes).astype(float)
    gaps = [len(part) * abs(confidence[part].mean() - right[part].mean()) for part in equal_mass_bins(confidence)]
    return float(sum(gaps) / len(classes))


def equal_mass_bins(confidence: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """ECE_BINS or fewer sets of films, by rising confidence (N,), as positions; none is empty."""
    order = np.argsort(confidence, kind="stable")
    return [part for part in np.array_split(order, ECE_BINS) if len(part)]


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
    areas = [auc(classes == index, column) for index, column in enumerate(probabilities.T)]
    return float(np.mean(areas))


def auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Share of pairs (positive, negative) in the right order, ties half (Hanley and McNeil 1982)."""
    negatives = np.sort(scores[~positive])
    if len(negatives) in (0, len(scores)):
        return float("nan")
    below = np.searchsorted(negatives, scores[positive], "left")
    not_above = np.searchsorted(negatives, scores[positive], "right")
    return float((below + not_above).mean() / 2 / len(negatives))


def average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Area under the precision-recall steps, films of equal score entering together; nan without a positive."""
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    found, ranked = positive[order].cumsum(), scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # of each score
    found, seen = found[last], np.flatnonzero(last) + 1
    steps = np.diff(found, prepend=0)
    return float((steps * found / seen).sum() / positive.sum())


def balanced_accuracy(classes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Mean recall over the classes that have films."""
    right = probabilities.argmax(axis=1) == classes
    support = np.bincount(classes, minlength=probabilities.shape[1])
    found = np.bincount(classes[right], minlength=probabilities.shape[1])
    return float((found[support > 0] / support[support > 0]).mean())


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


def interval(figure: Callable[..., float], samples: list[NDArray[np.int64]], *columns: NDArray[Any]) -> Interval:
    """A figure of `columns` (N, ...) with its bootstrap 95 % interval; resamples without a value do not count."""
    spread = np.array([figure(*(column[sample] for column in columns)) for sample in samples])
    spread = spread[np.isfinite(spread)]
    low, high = np.quantile(spread, [0.025, 0.975]) if len(spread) else (float("nan"), float("nan"))
    return {"value": float(figure(*columns)), "low": float(low), "high": float(high)}


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
        result[name] = interval(figure, samples, classes, probabilities)
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


# --- one class against the rest --------------------------------------------------------------------


def _share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    """0 where there is none to count among, as scikit-learn's `zero_division=0`."""
    return float(of[among].mean()) if among.any() else 0.0


def _class_f1(true: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    return float(2 * (true & predicted).sum() / max(1, true.sum() + predicted.sum()))


def per_class(
    classes: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    samples: list[NDArray[np.int64]],
    labels: tuple[str, ...],
) -> dict[str, dict[str, Any]]:
    """For each label support, and precision, recall, F1, AUC and average precision with their intervals.

    Args:
        classes: (N,) true class indices.
        probabilities: (N, classes).
        samples: what `resamples` drew for these films.
    """
    predicted = probabilities.argmax(axis=1)
    result: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(labels):
        true, said, score = classes == index, predicted == index, probabilities[:, index]
        result[label] = {
            "support": int(true.sum()),
            "precision": interval(lambda t, s: _share(t, s), samples, true, said),
            "recall": interval(lambda t, s: _share(s, t), samples, true, said),
            "f1": interval(_class_f1, samples, true, said),
            "auc": interval(auc, samples, true, score),
            "average_precision": interval(average_precision, samples, true, score),
        }
    return result
