"""Several runs of one recipe: mean and spread of the headline figures."""

from __future__ import annotations

import statistics
from typing import Any

from training.published import lookup

HEADLINE: dict[str, tuple[str, str]] = {
    "macro_f1": ("Macro F1", "parts.test.macro_f1"),
    "accuracy": ("Accuracy", "parts.test.accuracy"),
    "macro_auc": ("Macro AUC", "parts.test.macro_auc"),
    "ece": ("ECE", "parts.test.ece"),
    "external_balanced": ("Elsewhere: balanced accuracy", "external.balanced_accuracy"),
    "external_present": (
        "Elsewhere: balanced accuracy among the classes there",
        "external.among_present.balanced_accuracy",
    ),
    "external_gain": ("Elsewhere: gain of accuracy by abstaining", "external.abstention.gain"),
    "lungs_removed": (
        "Balanced accuracy, lungs removed",
        "audit.blacked_out.lungs_removed.network.balanced_accuracy",
    ),
    "findings_without_lungs": (
        "Findings reported without lungs",
        "audit.findings_without_lungs.test.reported_as_finding",
    ),
}
"""Title of each headline figure, and its place in report.json."""


def interval_at(report: dict[str, Any], place: str) -> dict[str, float] | None:
    """None where the report has none there or it holds no number."""
    value = lookup(report, place)
    return value if isinstance(value, dict) and None not in value.values() else None


def check(runs: list[tuple[str, int]]) -> None:
    """Refuse runs that are not one recipe with different seeds.

    Args:
        runs: recipe name and seed of each.

    Raises:
        ValueError: fewer than two runs, the same seed twice, or different recipes.
    """
    if len(runs) < 2 or len(set(runs)) < len(runs) or len({name for name, _ in runs}) > 1:
        named = ", ".join(f"{name} with seed {seed}" for name, seed in runs)
        raise ValueError(f"a spread needs two runs or more of one recipe with different seeds; given: {named}")


def spread(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """For each headline figure that all reports have: mean, standard deviation, and the mean interval."""
    seeds = [(report["run"]["recipe"], report["run"]["seed"]) for report in reports]
    check(seeds)
    result: dict[str, Any] = {"recipe": seeds[0][0], "seeds": [seed for _, seed in seeds], "figures": {}}
    for name, (title, place) in HEADLINE.items():
        found = [figure for report in reports if (figure := interval_at(report, place))]
        if len(found) == len(reports):
            values = [figure["value"] for figure in found]
            result["figures"][name] = {
                "title": title,
                "values": values,
                "mean": statistics.mean(values),
                "deviation": statistics.stdev(values),
                "low": statistics.mean(figure["low"] for figure in found),
                "high": statistics.mean(figure["high"] for figure in found),
            }
    return result
