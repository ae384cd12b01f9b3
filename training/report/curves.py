"""Curves as lists of numbers, and the points on them that somebody would work at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from training.figures import equal_mass_bins, interval

SPECIFICITIES = (0.90, 0.95, 0.99)

Classes = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Samples = list[NDArray[np.int64]]


def _rounded(*columns: NDArray[Any]) -> list[list[float]]:
    return [np.round(column.astype(float), 5).tolist() for column in columns]


def roc(classes: Classes, probabilities: Probabilities, labels: tuple[str, ...]) -> dict[str, Any]:
    """For each label, against the rest, false and true positive rates."""
    curves = {}
    for index, label in enumerate(labels):
        if 0 < (classes == index).sum() < len(classes):
            false_rate, true_rate, _ = roc_curve(classes == index, probabilities[:, index])
            curves[label] = dict(zip(("fpr", "tpr"), _rounded(false_rate, true_rate), strict=True))
    return curves


def precision_recall(classes: Classes, probabilities: Probabilities, labels: tuple[str, ...]) -> dict[str, Any]:
    """For each label, against the rest, recall and precision."""
    curves = {}
    for index, label in enumerate(labels):
        if (classes == index).any():
            precision, recall, _ = precision_recall_curve(
                classes == index, probabilities[:, index], drop_intermediate=True
            )
            curves[label] = dict(zip(("recall", "precision"), _rounded(recall, precision), strict=True))
    return curves


def reliability(classes: Classes, probabilities: Probabilities) -> list[dict[str, float]]:
    """The bins of `expected_calibration_error`: mean confidence, accuracy and number of films of each."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    return [
        {"confidence": float(confidence[part].mean()), "accuracy": float(right[part].mean()), "films": len(part)}
        for part in equal_mass_bins(confidence)
    ]


# --- operating points ------------------------------------------------------------------------------


def threshold_at(specificity: float, positive: NDArray[np.bool_], scores: Probabilities) -> float:
    """The lowest threshold (positive means score > threshold) that calls this share of the negatives so.

    nan without negatives.
    """
    negatives = np.sort(scores[~positive])
    if not len(negatives):
        return float("nan")
    return float(negatives[max(0, int(np.ceil(specificity * len(negatives) - 1e-9)) - 1)])


def sensitivity_at(specificity: float, positive: NDArray[np.bool_], scores: Probabilities) -> float:
    """Share of the positives above `threshold_at`; nan without positives or negatives."""
    threshold = threshold_at(specificity, positive, scores)
    if not positive.any() or np.isnan(threshold):
        return float("nan")
    return float((scores[positive] > threshold).mean())


def operating_points(
    test: tuple[Classes, Probabilities],
    validation: tuple[Classes, Probabilities],
    samples: Samples,
    labels: tuple[str, ...],
) -> dict[str, list[dict[str, Any]]]:
    """For each label and each of SPECIFICITIES.

    Returns:
        `on_curve`: sensitivity where the test films' own ROC curve has this specificity. `fixed`: sensitivity and
        specificity on test films at the threshold that validation films set, as it would be used.
    """
    points: dict[str, list[dict[str, Any]]] = {}
    for index, label in enumerate(labels):
        true, score = test[0] == index, test[1][:, index]
        points[label] = []
        for wanted in SPECIFICITIES:
            threshold = threshold_at(wanted, validation[0] == index, validation[1][:, index])
            points[label].append(
                {
                    "specificity": wanted,
                    "on_curve": interval(lambda t, s, w=wanted: sensitivity_at(w, t, s), samples, true, score),
                    "threshold": threshold,
                    "fixed": {
                        "sensitivity": interval(_mean_of, samples, score > threshold, true),
                        "specificity": interval(_mean_of, samples, score <= threshold, ~true),
                    },
                }
            )
    return points


def _mean_of(values: NDArray[Any], among: NDArray[np.bool_]) -> float:
    return float(values[among].mean()) if among.any() else float("nan")


# --- abstention ------------------------------------------------------------------------------------


def risk_coverage(classes: Classes, probabilities: Probabilities) -> dict[str, Any]:
    """Share of films kept and share of wrong ones among them, for every threshold; most confident first.

    `area` is the mean risk over all coverages (Geifman and El-Yaniv 2017, arXiv:1705.08500).
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    wrong = (probabilities.argmax(axis=1) != classes)[order]
    kept = np.arange(1, len(wrong) + 1)
    risk = wrong.cumsum() / kept
    shown = np.unique(np.linspace(0, len(kept) - 1, 200).round().astype(int))
    coverage, risks, thresholds = _rounded(kept[shown] / len(kept), risk[shown], confidence[order][shown])
    return {"coverage": coverage, "risk": risks, "threshold": thresholds, "area": float(risk.mean())}


def abstention(right: NDArray[np.bool_], reported: NDArray[np.bool_], samples: Samples) -> dict[str, Any]:
    """What leaving films without an answer does.

    Args:
        right: (N,) the likeliest class is the true one.
        reported: (N,) the decision was to report.

    Returns:
        Accuracy of all and of the reported films, their difference, and the coverage, with intervals.
    """
    return {
        "films": len(right),
        "reported_films": int(reported.sum()),
        "coverage": interval(_mean, samples, reported),
        "accuracy_all": interval(_mean, samples, right),
        "accuracy_reported": interval(_mean_of, samples, right, reported),
        "gain": interval(lambda r, kept: _mean_of(r, kept) - _mean(r), samples, right, reported),
    }


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean())
