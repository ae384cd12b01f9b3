from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.conftest import random_films
from tests.training.report.conftest import readings
from training.data import Films
from training.report import audit
from training.report.field import field_seen
from training.report.material import Material

Make = Callable[..., Material]


# --- source copy -----------------------------------------------------------------------------------


def copies(make: Make, root: Path, told: bool, column: str = "source") -> Material:
    """60 films of the first class in each part, from two sources which the features tell or do not tell."""
    films = {part: random_films((60, 20, 20), side=8) for part in ("train", "test")}
    films = {
        part: Films(f.pictures, f.classes, f.groups, tuple(root / part / p.name for p in f.paths), f.labels)
        for part, f in films.items()
    }
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "group", column))
        for part, part_films in films.items():
            for index, path in enumerate(part_films.paths):
                writer.writerow((f"{part}/{path.name}", path.name, "ab"[index % 2] if index < 60 else "a"))
    noise = {part: np.random.default_rng(seed).normal(size=(100, 4)) for seed, part in enumerate(films)}
    for values in noise.values():
        values[:, 0] += (np.arange(100) % 2) * 20 if told else 0
    answers = {part: readings(f.classes.tolist(), features=noise[part]) for part, f in films.items()}
    return make(films, answers, root)


def test_a_source_that_the_features_tell_is_found(by_hand: Make, tmp_path: Path) -> None:
    found = audit.copy_probe(copies(by_hand, tmp_path, told=True), None)
    assert found is not None and found["column"] == "source"
    assert found["classes"].keys() == {"Hilum"}  # the only class with both
    assert found["classes"]["Hilum"]["balanced_accuracy"]["value"] == 1
    assert found["classes"]["Hilum"]["chance"] == 0.5
    assert found["classes"]["Hilum"]["sources"] == {"a": 30, "b": 30}


def test_a_source_that_they_do_not_tell_is_at_chance(by_hand: Make, tmp_path: Path) -> None:
    found = audit.copy_probe(copies(by_hand, tmp_path, told=False), None)
    assert found is not None
    figure = found["classes"]["Hilum"]["balanced_accuracy"]
    assert figure["low"] <= 0.5 <= figure["high"] and 0.25 < figure["value"] < 0.75


def test_any_column_can_be_asked_for(by_hand: Make, tmp_path: Path) -> None:
    material = copies(by_hand, tmp_path, told=True, column="scanner")
    assert audit.copy_probe(material, None) is None
    found = audit.copy_probe(material, "scanner")
    assert found is not None and found["column"] == "scanner"


def test_too_few_films_are_no_probe(by_hand: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "FEWEST", 31)
    assert audit.copy_probe(copies(by_hand, tmp_path, told=True), None) is None


# --- lungs removed ---------------------------------------------------------------------------------


def test_the_probe_learns_what_the_network_does_not_say(by_hand: Make) -> None:
    films = random_films((10, 10, 10), side=8)
    telling = np.eye(3)[films.classes] * 20
    answers = {}
    for name in ("", "_lungs_removed", "_border_only"):
        for part in ("train", "test"):
            predicted = films.classes.tolist() if not name else [0] * 30
            answers[part + name] = readings(predicted, features=telling if name != "_border_only" else telling * 0)
    found = audit.blacked_out(by_hand({"train": films, "test": films}, answers))

    def value(variant: str, who: str) -> Any:
        return found[variant][who]["balanced_accuracy"]["value"]

    assert (value("whole", "network"), value("whole", "probe")) == (1, 1)
    assert (value("lungs_removed", "network"), value("lungs_removed", "probe")) == (pytest.approx(1 / 3), 1)
    assert (value("border_only", "network"), value("border_only", "probe")) == (pytest.approx(1 / 3),) * 2


def test_a_finding_is_a_report_of_anything_but_normal(by_hand: Make, two_each: Films) -> None:
    decisions = ["report", "report", "report", "abstain", "reject", "report"]
    answers = {"test_lungs_removed": readings([0, 1, 2, 2, 2, 1], decisions)}
    material = by_hand({"test": two_each}, answers, labels=("COVID", "NORMAL", "Other"))
    found = audit.findings(material, "test_lungs_removed", two_each)
    assert found is not None
    assert found["reported_as_finding"]["value"] == pytest.approx(2 / 6)
    assert found["decisions"] == {"abstain": 1, "reject": 1, "report": 4}


def test_without_a_normal_class_there_are_no_findings(by_hand: Make, two_each: Films) -> None:
    material = by_hand({"test": two_each}, {"test": readings([0] * 6)})
    assert audit.findings(material, "test", two_each) is None


# --- attribution -----------------------------------------------------------------------------------


def test_even_evidence_lies_inside_by_area_alone(by_hand: Make, two_each: Films) -> None:
    material = by_hand({"test": two_each}, {})
    even = readings([0] * 6, heat_maps=np.ones((6, 7, 7)))
    found = audit.attribution_share(two_each, even, material)
    assert found["inside"]["value"] == pytest.approx(found["area"])
    assert found["ratio"]["value"] == pytest.approx(1)


def test_evidence_in_the_lungs_and_outside_of_them(by_hand: Make, two_each: Films) -> None:
    material = by_hand({"test": two_each}, {})
    field = field_seen(two_each.paths[0], material.run.network.recipe)
    heat = np.stack([field == 1, field == 1, field == 0, field == 0, field * 0, field * 0])
    found = audit.attribution_share(two_each, readings([0] * 6, heat_maps=heat), material)
    assert found["inside"]["value"] == pytest.approx(0.5)
    assert (found["films"], found["without_evidence"]) == (4, 2)
