"""Figures as words, the same on the page and in the card."""

from __future__ import annotations

from typing import Any

Interval = dict[str, float | None]

AUDITED = {
    "whole": "Whole film",
    "lungs_removed": "Lungs removed",
    "border_only": "Only the border",
}
MISSING = "-"


def with_interval(figure: Interval | None, digits: int = 3) -> str:
    """`0.923 [0.904, 0.942]`; `-` where there is no such figure."""
    if figure is None or figure["value"] is None:
        return MISSING
    value = f"{figure['value']:.{digits}f}"
    if figure.get("low") is None or figure.get("high") is None:
        return value
    return f"{value} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def headline(report: dict[str, Any]) -> list[dict[str, str]]:
    """The figures that stand together, the good one first: title, figure, what to hold it against."""
    test, train = report["parts"]["test"], report["parts"]["train"]
    rows = [
        _row("Macro F1, test films", test["macro_f1"], f"train films: {with_interval(train['macro_f1'])}"),
        _row("Accuracy, test films", test["accuracy"], f"{test['films']} films of {test['groups']} groups"),
        _row("Calibration error (ECE)", test["ece"], f"before temperature: {_before(report)}"),
    ]
    return rows + _elsewhere(report) + _audit(report["audit"])


def _before(report: dict[str, Any]) -> str:
    return with_interval(report["calibration"]["test"]["before"]["ece"])


def _row(title: str, figure: Interval | None, against: str) -> dict[str, str]:
    return {"title": title, "figure": with_interval(figure), "against": against}


def _elsewhere(report: dict[str, Any]) -> list[dict[str, str]]:
    outside = report["external"]
    if outside is None:
        return [_row("Films from elsewhere", None, "none were given: no statement about other hospitals")]
    rows = [
        _row("Accuracy, films from elsewhere", outside["accuracy"], f"{outside['films']} films of other origin"),
        _row(
            "Balanced accuracy, films from elsewhere",
            outside["balanced_accuracy"],
            f"mean recall of {' and '.join(outside['class_counts'])}; chance {number(report['audit']['chance'], 2)}",
        ),
    ]
    present = outside["among_present"]
    if present:
        chance = 1 / len(present["labels"])
        title = f"Balanced accuracy there, {' against '.join(present['labels'])}"
        rows.append(_row(title, present["balanced_accuracy"], f"those probabilities alone; chance {chance:.2f}"))
    kept = outside["abstention"]
    against = f"{with_interval(kept['accuracy_reported'])} of {kept['reported_films']} reported films"
    return [*rows, _row("Gain of accuracy there by abstaining", kept["gain"], against)]


def _audit(audit: dict[str, Any]) -> list[dict[str, str]]:
    chance = number(audit["chance"], 2)
    rows = []
    for variant in ("lungs_removed", "border_only"):
        entry = audit["blacked_out"][variant]
        against = f"probe trained on such films: {with_interval(entry['probe']['balanced_accuracy'])}; chance {chance}"
        rows.append(
            _row(f"Balanced accuracy, {AUDITED[variant].lower()}", entry["network"]["balanced_accuracy"], against)
        )
    for name, found in audit["findings_without_lungs"].items():
        if found:
            where = {"test": "test films", "external": "films from elsewhere"}[name]
            rows.append(_row(f"Findings reported without lungs, {where}", found["reported_as_finding"], "should be 0"))
    for label, probe in ((audit["copy_probe"] or {}).get("classes") or {}).items():
        title = f"Source told from the features, within {label}"
        rows.append(_row(title, probe["balanced_accuracy"], f"chance {number(probe['chance'], 2)}"))
    share = audit["attribution"]
    return [*rows, _row("Grad-CAM inside the lung field", share["inside"], f"its area: {number(share['area'])}")]
