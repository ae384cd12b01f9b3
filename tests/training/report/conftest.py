"""Readings made by hand, and one report of the tiny training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.conftest import LABELS, film, random_films, write_film
from training.__main__ import main
from training.data import Films
from training.report.material import Material, Run, open_run
from training.report.readings import Readings

OUTSIDE = {"Left": 6, "Right": 4}
"""Films from elsewhere, by class."""


def readings(
    predicted: Sequence[int],
    decisions: Sequence[str] | None = None,
    confidence: float = 0.8,
    features: Any = None,
    heat_maps: Any = None,
    distance: Any = None,
    reasons: Sequence[str] | None = None,
) -> Readings:
    """Answers with these classes, each with the same confidence at temperature 1."""
    count = len(predicted)
    probabilities = np.where(np.eye(3)[list(predicted)] == 1, confidence, (1 - confidence) / 2)
    return Readings(
        logits=np.log(probabilities).astype(np.float32),
        features=np.zeros((count, 2), np.float32) if features is None else np.asarray(features, np.float32),
        distance=np.ones(count, np.float32) if distance is None else np.asarray(distance, np.float32),
        decision=np.array(decisions or ["report"] * count),
        reason=np.array(reasons or [""] * count),
        heat_maps=np.ones((count, 2, 2), np.float32) if heat_maps is None else np.asarray(heat_maps, np.float32),
    )


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.figures.RESAMPLES", 60)


@pytest.fixture(scope="package")
def opened(run_folder: Path) -> Run:
    return open_run(run_folder)


@pytest.fixture
def by_hand(opened: Run) -> Callable[..., Material]:
    """Material with films and readings of one's own; temperature 1, abstention under 0.5."""

    def make(
        films: dict[str, Films], answers: dict[str, Readings], data: Path = Path(), labels: Sequence[str] = LABELS
    ) -> Material:
        recipe = replace(opened.network.recipe, temperature=1.0, abstain_below=0.5, labels=tuple(labels))
        run = replace(opened, network=replace(opened.network, recipe=recipe))
        return Material(run, data, films, answers)

    return make


@pytest.fixture
def two_each() -> Films:
    """Two films of each of three classes."""
    return random_films((2, 2, 2))


@pytest.fixture(scope="package")
def outside_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outside")
    for label, count in OUTSIDE.items():
        for number in range(count):
            write_film(root / label / f"{number}.png", film(LABELS.index(label), 1000 + number, side=80))
    return root


@pytest.fixture(scope="package")
def evaluated(
    run_folder: Path, film_folder: Path, outside_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A copy of the tiny run with its report."""
    folder = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("evaluated") / "tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.figures.RESAMPLES", 60)
        assert main(command(folder, film_folder, outside_folder)) == 0
    return folder


def command(run: Path, data: Path, external: Path) -> list[str]:
    return ["evaluate", "--run", str(run), "--data", str(data), "--external", str(external)]


@pytest.fixture(scope="package")
def report(evaluated: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((evaluated / "report.json").read_text())
    return loaded
