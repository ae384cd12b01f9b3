from __future__ import annotations

import numpy as np
import pytest

from tests.training.report.conftest import readings
from training.report.gate import _auroc, _kind, _whole


def test_what_the_pixels_give_away_lies_beyond_every_distance() -> None:
    found = _whole(readings([0, 0, 0], distance=[1, 2, 3], reasons=["", "colour", "unfamiliar"]))
    assert found.tolist() == [1, np.inf, 3]


def test_the_area_is_that_of_rejecting() -> None:
    home, other = np.array([1.0, 2.0]), np.array([1.5, np.inf, 3.0])
    assert _auroc(home, other)["value"] == pytest.approx(5 / 6)  # of six pairs, (2, 1.5) in the wrong order


def test_decisions_are_counted() -> None:
    answers = readings(
        [0] * 5,
        ["reject", "reject", "refused", "abstain", "report"],
        reasons=["colour", "unfamiliar", "UnsupportedImage", "", ""],
    )
    assert _kind(answers, np.array([True, True, True, True, False])) == {
        "pictures": 4,
        "refused": 1,
        "rejected": 2,
        "passed": 1,
        "reasons": {"colour": 1, "unfamiliar": 1, "UnsupportedImage": 1},
    }
