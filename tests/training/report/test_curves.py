from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from training.figures import expected_calibration_error, resamples
from training.report.curves import (
    abstention,
    operating_points,
    precision_recall,
    reliability,
    risk_coverage,
    roc,
    sensitivity_at,
    threshold_at,
)

LABELS = ("A", "B", "C")
GENERATOR = np.random.default_rng(0)
CLASSES = GENERATOR.integers(0, 3, 240)
PROBABILITIES = GENERATOR.dirichlet(np.ones(3), 240) + 0.6 * np.eye(3)[CLASSES]
PROBABILITIES /= PROBABILITIES.sum(axis=1, keepdims=True)
SAMPLES = resamples(tuple(str(index) for index in range(240)))


@pytest.mark.parametrize("index", range(3))
def test_the_drawn_curves_enclose_scikit_learns_areas(index: int) -> None:
    true, score = index == CLASSES, PROBABILITIES[:, index]
    curve = roc(CLASSES, PROBABILITIES, LABELS)[LABELS[index]]
    assert metrics.auc(curve["fpr"], curve["tpr"]) == pytest.approx(metrics.roc_auc_score(true, score), abs=1e-4)
    curve = precision_recall(CLASSES, PROBABILITIES, LABELS)[LABELS[index]]
    steps = -np.diff(curve["recall"])
    area = metrics.average_precision_score(true, score)
    assert float((steps * np.array(curve["precision"])[:-1]).sum()) == pytest.approx(area, abs=0.01)


def test_a_class_without_films_has_no_curve() -> None:
    two = CLASSES != 2
    assert roc(CLASSES[two], PROBABILITIES[two], LABELS).keys() == {"A", "B"}
    assert precision_recall(CLASSES[two], PROBABILITIES[two], LABELS).keys() == {"A", "B"}


def test_the_reliability_bins_are_those_of_the_calibration_error() -> None:
    bins = reliability(CLASSES, PROBABILITIES)
    assert len(bins) == 15 and sum(b["films"] for b in bins) == 240
    gap = sum(b["films"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / 240
    assert gap == pytest.approx(expected_calibration_error(CLASSES, PROBABILITIES))


# --- operating points ------------------------------------------------------------------------------

POSITIVE = np.array([True] * 4 + [False] * 10)
SCORES = np.array([0.95, 0.85, 0.55, 0.15, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


@pytest.mark.parametrize(
    ("specificity", "threshold", "sensitivity"), [(0.9, 0.8, 0.5), (1.0, 0.9, 0.25), (0.5, 0.4, 0.75), (0.1, 0.0, 1.0)]
)
def test_operating_points_are_those_of_a_count_by_hand(
    specificity: float, threshold: float, sensitivity: float
) -> None:
    assert threshold_at(specificity, POSITIVE, SCORES) == threshold
    assert (SCORES[~POSITIVE] <= threshold).mean() == specificity
    assert sensitivity_at(specificity, POSITIVE, SCORES) == sensitivity


def test_the_sensitivity_is_the_roc_curves() -> None:
    true, score = CLASSES == 1, PROBABILITIES[:, 1]
    false_rate, true_rate, _ = metrics.roc_curve(true, score, drop_intermediate=False)
    for specificity in (0.5, 0.9, 0.95):
        best = true_rate[false_rate <= 1 - specificity + 1e-9].max()
        assert sensitivity_at(specificity, true, score) == pytest.approx(best)


def test_a_fixed_threshold_comes_from_the_validation_films() -> None:
    other = PROBABILITIES**3 / (PROBABILITIES**3).sum(axis=1, keepdims=True)
    points = operating_points((CLASSES, PROBABILITIES), (CLASSES, other), SAMPLES, LABELS)
    for index, label in enumerate(LABELS):
        for point in points[label]:
            threshold = threshold_at(point["specificity"], index == CLASSES, other[:, index])
            said, true = PROBABILITIES[:, index] > threshold, index == CLASSES
            assert point["threshold"] == threshold
            assert point["fixed"]["sensitivity"]["value"] == pytest.approx(metrics.recall_score(true, said))
            assert point["fixed"]["specificity"]["value"] == pytest.approx(metrics.recall_score(~true, ~said))
            assert point["on_curve"]["low"] <= point["on_curve"]["value"] <= point["on_curve"]["high"]


def test_without_negatives_there_is_no_operating_point() -> None:
    assert np.isnan(sensitivity_at(0.9, np.ones(3, bool), np.arange(3.0)))


# --- abstention ------------------------------------------------------------------------------------


def test_risk_and_coverage_of_a_count_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    curve = risk_coverage(np.array([0, 1, 0, 0]), probabilities)  # right, wrong, right, wrong
    assert curve["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert curve["risk"] == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4], abs=1e-4)
    assert curve["threshold"] == [0.9, 0.8, 0.7, 0.6]
    assert curve["area"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_abstaining_from_the_wrong_films_is_a_gain() -> None:
    right = np.array([True] * 6 + [False] * 4)
    reported = np.array([True] * 6 + [True] * 2 + [False] * 2)
    found = abstention(right, reported, resamples(tuple("abcdefghij")))
    assert (found["films"], found["reported_films"]) == (10, 8)
    assert found["coverage"]["value"] == 0.8
    assert found["accuracy_all"]["value"] == 0.6
    assert found["accuracy_reported"]["value"] == 0.75
    assert found["gain"]["value"] == pytest.approx(0.15)
    assert found["gain"]["low"] <= 0.15 <= found["gain"]["high"]


def test_reporting_nothing_has_no_accuracy() -> None:
    found = abstention(np.array([True, False]), np.array([False, False]), resamples(("a", "b")))
    assert np.isnan(found["accuracy_reported"]["value"]) and found["coverage"]["value"] == 0
