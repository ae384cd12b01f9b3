"""The quality gate: which films pass, and does its distance tell other pictures from chest films?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.figures import auc, interval, resamples
from training.report.material import Material
from training.report.readings import REFUSED, Readings
from training.report.strangers import Stranger, strangers


def gate(material: Material, folders: tuple[Path, ...]) -> dict[str, Any]:
    """Share of films that pass; share of other pictures that do not; AUROC of test films against those.

    `auroc` takes the gate as a whole: a picture that the pixels give away lies beyond every distance.
    `auroc_distance` judges the distance alone, also on what the pixels give away.
    """
    found = strangers(folders)
    readings = material.run.reader.read("strangers", [stranger.source for stranger in found])
    read = readings.decision != REFUSED
    home = material.readings["test"]
    kinds = np.array([stranger.kind for stranger in found])
    return {
        "threshold": material.run.network.recipe.gate.max_distance,
        "accepted": {
            name: _accepted(material.readings[name], material.films[name].groups)
            for name in ("train", "validation", "test", "external")
            if name in material.films
        },
        "strangers": {kind: _kind(readings, kinds == kind) for kind in dict.fromkeys(kinds.tolist())},
        "auroc": _auroc(_whole(home), _whole(readings)[read]),
        "auroc_distance": _auroc(home.distance, readings.distance[read]),
        "auroc_by_kind": {
            kind: _auroc(_whole(home), _whole(readings)[read & (kinds == kind)])
            for kind in dict.fromkeys(kinds[read].tolist())
        },
        "passed": _passed(found, readings),
    }


def _accepted(readings: Readings, groups: tuple[str, ...]) -> dict[str, float]:
    return interval(lambda decision: float((decision != "reject").mean()), resamples(groups), readings.decision)


def _kind(readings: Readings, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    reasons, counts = np.unique(readings.reason[chosen], return_counts=True)
    return {
        "pictures": int(chosen.sum()),
        "refused": int((readings.decision[chosen] == REFUSED).sum()),
        "rejected": int((readings.decision[chosen] == "reject").sum()),
        "passed": int(np.isin(readings.decision[chosen], ("report", "abstain")).sum()),
        "reasons": {reason: int(count) for reason, count in zip(reasons.tolist(), counts, strict=True) if reason},
    }


def _whole(readings: Readings) -> NDArray[np.float64]:
    by_pixels = np.isin(readings.reason, ("colour", "blank"))
    return np.where(by_pixels, np.inf, readings.distance.astype(np.float64))


def _auroc(home: NDArray[Any], other: NDArray[Any]) -> dict[str, float]:
    """Of rejecting; every picture is a group of its own."""
    scores = np.concatenate([home, other])
    strange = np.arange(len(scores)) >= len(home)
    samples = resamples(tuple(str(index) for index in range(len(scores))))
    return interval(auc, samples, strange, scores)


def _passed(found: list[Stranger], readings: Readings) -> list[dict[str, str]]:
    return [
        {"name": stranger.name, "kind": stranger.kind, "decision": str(decision)}
        for stranger, decision in zip(found, readings.decision, strict=True)
        if decision in ("report", "abstain")
    ]
