from __future__ import annotations

from typing import Any

import pytest

from training.report.seeds import spread


def of_seed(seed: int, value: float, recipe: str = "default", external: Any = None) -> dict[str, Any]:
    figure = {"value": value, "low": value - 0.02, "high": value + 0.03}
    return {"run": {"recipe": recipe, "seed": seed}, "parts": {"test": {"macro_f1": figure}}, "external": external}


def test_mean_and_spread_of_three_seeds() -> None:
    found = spread([of_seed(1, 0.90), of_seed(2, 0.93), of_seed(3, 0.96)])
    assert found["seeds"] == [1, 2, 3] and found["figures"].keys() == {"macro_f1"}
    row = found["figures"]["macro_f1"]
    assert (row["mean"], row["deviation"]) == (pytest.approx(0.93), pytest.approx(0.03))
    assert (row["low"], row["high"]) == (pytest.approx(0.91), pytest.approx(0.96))
    assert row["values"] == [0.90, 0.93, 0.96]


def test_a_figure_that_one_run_lacks_has_no_spread() -> None:
    outside = {"balanced_accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
    found = spread([of_seed(1, 0.9, external=outside), of_seed(2, 0.9)])
    assert "external_balanced" not in found["figures"]


def test_a_figure_without_a_number_has_no_spread() -> None:
    nothing_reported = {"abstention": {"gain": {"value": None, "low": None, "high": None}}}
    found = spread([of_seed(1, 0.9, external=nothing_reported), of_seed(2, 0.9, external=nothing_reported)])
    assert found["figures"].keys() == {"macro_f1"}


@pytest.mark.parametrize(
    "reports",
    [[of_seed(1, 0.9)], [of_seed(1, 0.9), of_seed(1, 0.8)], [of_seed(1, 0.9), of_seed(2, 0.9, "mobile")]],
    ids=["one run", "the same seed", "two recipes"],
)
def test_a_spread_is_of_one_recipe_with_different_seeds(reports: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="different seeds"):
        spread(reports)
