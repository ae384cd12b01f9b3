from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from training.figures import (
    FIGURES,
    balanced_accuracy,
    expected_calibration_error,
    figures,
    interval,
    per_class,
    resamples,
)

LABELS = ("A", "B", "C")
CLASSES = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 0])
GROUPS = tuple(f"g{number}" for number in range(10))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.figures.RESAMPLES", 200)


def answers(predicted: NDArray[np.int64], confidence: float = 0.8, classes: int = 3) -> NDArray[np.float64]:
    rest = (1 - confidence) / (classes - 1)
    return np.where(np.eye(classes)[predicted] == 1, confidence, rest)


def test_figures_are_those_of_a_count_by_hand() -> None:
    result = figures(CLASSES, answers(PREDICTED), GROUPS, LABELS)
    assert result["confusion"] == [[3, 1, 0], [0, 2, 1], [1, 0, 2]]
    assert (result["films"], result["groups"]) == (10, 10)
    assert result["accuracy"]["value"] == pytest.approx(0.7)
    # F1 = 2 TP / (2 TP + FP + FN): A 6 / (6 + 1 + 1), B 4 / (4 + 1 + 1), C 4 / (4 + 1 + 1)
    assert result["macro_f1"]["value"] == pytest.approx((3 / 4 + 2 / 3 + 2 / 3) / 3)
    assert result["weighted_f1"]["value"] == pytest.approx(0.4 * 3 / 4 + 0.3 * 2 / 3 + 0.3 * 2 / 3)
    assert result["ece"]["value"] == pytest.approx(expected_calibration_error(CLASSES, answers(PREDICTED)), abs=1e-12)
    assert result["per_class"]["A"] == pytest.approx({"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "support": 4})
    assert result["per_class"]["C"]["precision"] == pytest.approx(2 / 3)


def test_the_area_under_the_curve_counts_ordered_pairs() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    result = figures(np.array([0, 0, 1, 1]), probabilities, GROUPS[:4], LABELS[:2])
    assert result["macro_auc"]["value"] == pytest.approx(3 / 4)  # of four pairs (A, B), three in order


def test_a_class_that_is_never_predicted_counts_as_nothing() -> None:
    result = figures(np.array([0, 1, 2]), answers(np.array([0, 1, 0])), GROUPS[:3], LABELS)
    assert result["per_class"]["C"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert result["macro_f1"]["value"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_intervals_hold_their_value_and_are_repeatable() -> None:
    result = figures(CLASSES, answers(PREDICTED), GROUPS, LABELS)
    assert result == figures(CLASSES, answers(PREDICTED), GROUPS, LABELS)
    for name in ("accuracy", "macro_f1", "weighted_f1"):
        assert 0 <= result[name]["low"] < result[name]["value"] < result[name]["high"] <= 1


def test_a_perfect_classifier_has_no_spread() -> None:
    result = figures(CLASSES, answers(CLASSES), GROUPS, LABELS)
    assert result["accuracy"] == {"value": 1, "low": 1, "high": 1}


@pytest.mark.parametrize("classes", [2, 4])
def test_figures_are_scikit_learns(classes: int) -> None:
    generator = np.random.default_rng(classes)
    true = generator.integers(0, classes, 300)
    probabilities = np.round(generator.dirichlet(np.ones(classes), 300) + 0.5 * np.eye(classes)[true], 1)  # with ties
    probabilities /= probabilities.sum(1, keepdims=True)
    predicted = probabilities.argmax(1)
    scores = probabilities if classes > 2 else probabilities[:, 1]
    expected = {
        "accuracy": metrics.accuracy_score(true, predicted),
        "macro_f1": metrics.f1_score(true, predicted, average="macro"),
        "weighted_f1": metrics.f1_score(true, predicted, average="weighted"),
        "macro_auc": metrics.roc_auc_score(true, scores, multi_class="ovr"),
    }
    assert {name: FIGURES[name](true, probabilities) for name in expected} == pytest.approx(expected)


def test_a_resample_without_a_class_does_not_spoil_the_interval() -> None:
    result = figures(np.array([0, 1, 2]), answers(np.array([0, 1, 2])), GROUPS[:3], LABELS)
    assert result["macro_auc"] == {"value": 1, "low": 1, "high": 1}


# --- calibration error -----------------------------------------------------------------------------


def drawn(count: int = 30_000) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Probabilities (N, 2) that say how often the class really is the one or the other."""
    generator = np.random.default_rng(0)
    first = generator.uniform(0, 1, count)
    return (generator.uniform(0, 1, count) > first).astype(np.int64), np.stack([first, 1 - first], 1)


def sharpened(probabilities: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    raised = probabilities**power
    return raised / raised.sum(1, keepdims=True)


def test_honest_probabilities_have_no_calibration_error() -> None:
    assert expected_calibration_error(*drawn()) < 0.01


@pytest.mark.parametrize("power", [0.2, 5.0], ids=["too modest", "too sure"])
def test_probabilities_that_are_off_have_a_calibration_error(power: float) -> None:
    classes, probabilities = drawn()
    assert expected_calibration_error(classes, sharpened(probabilities, power)) > 0.1


def test_always_sure_and_half_right_is_an_error_of_one_half() -> None:
    classes = np.tile([0, 1], 150)
    assert expected_calibration_error(classes, np.tile([1.0, 0.0], (300, 1))) == pytest.approx(0.5)


# --- bootstrap -------------------------------------------------------------------------------------


def test_a_resample_draws_whole_groups() -> None:
    groups = ("a", "b", "a", "c", "a")
    for sample in resamples(groups):
        counts = np.bincount(sample, minlength=5)
        assert counts[0] == counts[2] == counts[4]
        assert counts[0] + counts[1] + counts[3] == 3


def test_films_of_one_patient_widen_the_interval() -> None:
    classes = np.repeat(np.arange(20) % 2, 10)
    predicted = np.where(np.repeat(np.arange(20) < 15, 10), classes, 1 - classes)  # 15 patients right, 5 wrong

    def width(groups: list[int]) -> float:
        names = tuple(str(group) for group in groups)
        accuracy = figures(classes, answers(predicted, classes=2), names, LABELS[:2])["accuracy"]
        return float(accuracy["high"] - accuracy["low"])

    by_film, by_patient = width(list(range(200))), width([number // 10 for number in range(200)])
    assert by_patient > 2 * by_film


# --- one class against the rest --------------------------------------------------------------------


@pytest.mark.parametrize("digits", [1, 8], ids=["with ties", "without"])
def test_figures_of_each_class_are_scikit_learns(digits: int) -> None:
    generator = np.random.default_rng(digits)
    true = generator.integers(0, 3, 300)
    probabilities = np.round(generator.dirichlet(np.ones(3), 300) + 0.4 * np.eye(3)[true], digits)
    table = metrics.precision_recall_fscore_support(true, probabilities.argmax(1))
    found = per_class(true, probabilities, resamples(tuple(map(str, range(300)))), LABELS)
    for index, label in enumerate(LABELS):
        row = found[label]
        assert row["support"] == table[3][index]
        for name, column in zip(("precision", "recall", "f1"), table[:3], strict=True):
            assert row[name]["value"] == pytest.approx(column[index])
            assert row[name]["low"] < row[name]["value"] < row[name]["high"]
        score = probabilities[:, index]
        assert row["auc"]["value"] == pytest.approx(metrics.roc_auc_score(true == index, score))
        expected = metrics.average_precision_score(true == index, score)
        assert row["average_precision"]["value"] == pytest.approx(expected)


def test_balanced_accuracy_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    true, probabilities = generator.integers(0, 2, 100), generator.dirichlet(np.ones(4), 100)  # two classes unseen
    with pytest.warns(UserWarning, match="not in y_true"):
        expected = metrics.balanced_accuracy_score(true, probabilities.argmax(1))
    assert balanced_accuracy(true, probabilities) == pytest.approx(expected)


def test_an_interval_leaves_out_resamples_without_a_value() -> None:
    samples = [np.array([0]), np.array([1]), np.array([0, 1])]
    found = interval(lambda v: float("nan") if len(v) == 1 else float(v.mean()), samples, np.array([1.0, 3.0]))
    assert found == {"value": 2, "low": 2, "high": 2}
