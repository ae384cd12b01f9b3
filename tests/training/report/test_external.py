from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.training.conftest import random_films
from tests.training.report.conftest import readings
from training.report.external import external
from training.report.material import Material

Make = Callable[..., Material]


def test_figures_from_elsewhere_are_those_of_a_count_by_hand(by_hand: Make) -> None:
    films = random_films((4, 0, 2))
    answers = readings([0, 0, 0, 1, 2, 1], ["report", "report", "report", "abstain", "report", "reject"])
    found = external(by_hand({"external": films}, {"external": answers}))
    assert found is not None
    assert found["class_counts"] == {"Hilum": 4, "Right": 2}
    assert found["accuracy"]["value"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"]["value"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["confusion"] == [[3, 1, 0], [0, 0, 0], [0, 1, 1]]
    assert found["accepted"]["value"] == pytest.approx(5 / 6)
    assert found["abstention"]["accuracy_reported"]["value"] == 1
    assert found["abstention"]["gain"]["value"] == pytest.approx(1 - 4 / 6)


def test_among_the_classes_there_the_others_are_not_asked(by_hand: Make) -> None:
    films = random_films((2, 0, 2))
    answers = readings([1, 1, 1, 1])
    answers.logits[:] = np.log([[0.3, 0.6, 0.1], [0.1, 0.6, 0.3], [0.1, 0.6, 0.3], [0.05, 0.6, 0.35]])
    found = external(by_hand({"external": films}, {"external": answers}))
    assert found is not None and found["balanced_accuracy"]["value"] == 0
    there = found["among_present"]
    assert there["labels"] == ["Hilum", "Right"]
    assert there["balanced_accuracy"]["value"] == pytest.approx((1 / 2 + 1) / 2)
    assert there["auc"]["value"] == pytest.approx((2 + 1.5) / 4)  # pairs in order; one tie


def test_without_films_from_elsewhere_there_is_no_row(by_hand: Make) -> None:
    assert external(by_hand({}, {})) is None
