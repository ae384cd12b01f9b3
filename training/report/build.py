"""report.json of one run: every figure of the page and of the model card."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from cxr.reading import NOTICE
from training.figures import balanced_accuracy, expected_calibration_error, figures, interval, per_class, resamples
from training.report import curves
from training.report.audit import audit
from training.report.external import external
from training.report.forms import forms
from training.report.gate import gate
from training.report.material import PARTS, Material

REPORT_FILE = "report.json"


@dataclasses.dataclass(frozen=True)
class Options:
    """What a report may be asked besides run and data."""

    copy_column: str | None = None
    """Column of manifest.csv that names a film's source; None tries the usual ones."""
    strangers: tuple[Path, ...] = ()
    """Folders of pictures that the gate should reject, besides those that packages carry."""


def build(material: Material, options: Options) -> dict[str, Any]:
    """All figures of one run, ready for JSON: a figure that does not exist is None, never NaN."""
    report = {
        "notice": NOTICE,
        "run": _run(material),
        "model": _model(material),
        "data": _data(material),
        "parts": {part: _part(material, part) for part in PARTS},
        "calibration": {part: _calibration(material, part) for part in ("validation", "test")},
        "operating_points": _operating_points(material),
        "abstention": _abstention(material),
        "audit": audit(material, options.copy_column),
        "external": external(material),
        "gate": gate(material, options.strangers),
        "forms": forms(material),
        "retrained": _retrained(material.run.folder),
        "history": material.run.history,
        "seeds": None,
    }
    cleaned: dict[str, Any] = without_nan(report)
    return cleaned


def without_nan(value: Any) -> Any:
    """The same with None in place of numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _run(material: Material) -> dict[str, Any]:
    run = material.run
    return {
        "recipe": run.recipe.name,
        "seed": run.recipe.seed,
        "best_epoch": run.metrics["best_epoch"],
        "epochs": len(run.history),
        "weights": run.recipe.weights,
        "recipe_text": (run.folder / "recipe.toml").read_text(),
        "trained_with": run.metrics["trained_with"],
        "marks": run.metrics.get("overrides", []),
    }


def _model(material: Material) -> dict[str, Any]:
    network = material.run.network
    return {
        **json.loads(network.recipe.to_json()),
        "sha256": network.sha256,
        "parameters": sum(parameter.numel() for parameter in network.whole.parameters()),
    }


def _data(material: Material) -> dict[str, Any]:
    return {
        "split": dataclasses.asdict(material.run.recipe.split),
        "class_counts": {name: films.class_counts() for name, films in material.films.items()},
        "groups": {name: len(set(films.groups)) for name, films in material.films.items()},
    }


def _probabilities(material: Material, name: str) -> Any:
    return material.readings[name].probabilities(material.run.network.recipe.temperature)


def _part(material: Material, part: str) -> dict[str, Any]:
    films, probabilities = material.films[part], _probabilities(material, part)
    samples = resamples(films.groups)
    result = figures(films.classes, probabilities, films.groups, films.labels)
    result["balanced_accuracy"] = interval(balanced_accuracy, samples, films.classes, probabilities)
    result["per_class"] = per_class(films.classes, probabilities, samples, films.labels)
    if part == "test":
        result["roc"] = curves.roc(films.classes, probabilities, films.labels)
        result["precision_recall"] = curves.precision_recall(films.classes, probabilities, films.labels)
    return result


def _calibration(material: Material, part: str) -> dict[str, Any]:
    """ECE and reliability of raw and of temperature-scaled probabilities."""
    films, readings = material.films[part], material.readings[part]
    samples = resamples(films.groups)
    result: dict[str, Any] = {"temperature": material.run.network.recipe.temperature}
    for when, temperature in (("before", 1.0), ("after", result["temperature"])):
        probabilities = readings.probabilities(temperature)
        result[when] = {
            "ece": interval(expected_calibration_error, samples, films.classes, probabilities),
            "bins": curves.reliability(films.classes, probabilities),
        }
    return result


def _operating_points(material: Material) -> dict[str, Any]:
    test, validation = material.films["test"], material.films["validation"]
    return curves.operating_points(
        (test.classes, _probabilities(material, "test")),
        (validation.classes, _probabilities(material, "validation")),
        resamples(test.groups),
        test.labels,
    )


def _abstention(material: Material) -> dict[str, Any]:
    films, readings = material.films["test"], material.readings["test"]
    probabilities = _probabilities(material, "test")
    right = probabilities.argmax(axis=1) == films.classes
    threshold = material.run.network.recipe.abstain_below
    confident = probabilities.max(axis=1) >= threshold
    return {
        "threshold": threshold,
        "at_threshold": {"coverage": float(confident.mean()), "risk": float(1 - np.mean(right[confident]))}
        if confident.any()
        else None,
        "decisions": {name: int((readings.decision == name).sum()) for name in ("report", "abstain", "reject")},
        **curves.abstention(right, readings.decision == "report", resamples(films.groups)),
        "risk_coverage": curves.risk_coverage(films.classes, probabilities),
    }


def _retrained(folder: Path) -> dict[str, Any]:
    """Test figures of networks that `--retrain` trained on blacked-out films."""
    found = {}
    for path in sorted(folder.glob("audit/*/metrics.json")):
        metrics = json.loads(path.read_text())["test"]
        found[path.parent.name] = {name: metrics[name] for name in ("accuracy", "macro_f1")}
    return found
