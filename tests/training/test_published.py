from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.published import differences, is_full, lookup, measured, publications, table
from training.recipe import RECIPES

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia", "PNEUMONIA")


@pytest.fixture
def runs(run_folder: Path, tmp_path: Path) -> Path:
    """A folder of runs with the one whole training in it."""
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    shutil.copy(run_folder / "metrics.json", tmp_path / "runs" / "tiny")
    return tmp_path / "runs"


def call_it(runs: Path, recipe: str, **changes: Any) -> dict[str, Any]:
    """Let the run's metrics be those of another recipe."""
    path = runs / "tiny" / "metrics.json"
    metrics: dict[str, Any] = json.loads(path.read_text()) | {"recipe": recipe} | changes
    path.write_text(json.dumps(metrics))
    return metrics


def row(text: str, recipe: str, figure: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {recipe} | {figure} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_published_figure_belongs_to_a_recipe_of_the_project() -> None:
    known = {path.stem for path in RECIPES.glob("*.toml")}
    figures = [figure for publication in publications() for figure in publication.figures]
    assert {figure.recipe for figure in figures} <= known
    assert len(figures) == 9 + 6 + 4 + 4


def test_every_figure_has_a_place_in_metrics(run_folder: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    for part in ("train", "test"):
        metrics[part]["per_class"] = {label: {"precision": 0, "recall": 0, "f1": 0} for label in CLASSES}
    places = [figure.measured for publication in publications() for figure in publication.figures]
    assert [place for place in places if lookup(metrics, place) is None] == []


def test_without_a_run_nothing_is_measured_and_nothing_hidden(tmp_path: Path) -> None:
    text = table(tmp_path / "none", tmp_path / "none either")
    assert row(text, "conchari2021", "test accuracy (103 of 120)")[2:4] == ["0.86", "not measured"]
    assert "0.86 is 103 of 120 films; the README gives 83.33 %" in text
    assert "Not for diagnosis" in text


def test_a_measured_figure_stands_beside_the_published_one_with_its_interval(runs: Path) -> None:
    metrics = call_it(runs, "vivek2020", weights="none")
    text = table(runs, runs / "none")
    accuracy = metrics["test"]["accuracy"]
    shown = row(text, "vivek2020", "test accuracy")
    assert shown[2:4] == ["0.94", f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"]
    assert shown[4] == "data, split, weights"
    assert "- vivek2020, weights: none instead of imagenet" in text


def test_a_quick_run_stands_beside_nothing(runs: Path) -> None:
    call_it(runs, "vivek2020", quick=True, overrides=["quick"])
    assert row(table(runs, runs / "none"), "vivek2020", "test accuracy")[3] == "not measured"
    assert not is_full({"overrides": ["quick"]})


def test_a_shortened_run_is_marked(runs: Path) -> None:
    metrics = call_it(runs, "vivek2020", overrides=["epochs 20 -> 3"])
    (publication,) = [entry for entry in publications() if entry.name == "vivek2020"]
    assert differences(publication, metrics)["epochs"].startswith("20 -> 3")
    assert "epochs" in row(table(runs, runs / "none"), "vivek2020", "test accuracy")[4]


def test_the_run_with_the_fewest_overrides_counts_and_a_run_before_a_committed_copy(runs: Path, tmp_path: Path) -> None:
    call_it(runs, "vivek2020", seed=1, overrides=["epochs 20 -> 3"])
    (runs / "other").mkdir()
    committed = tmp_path / "committed"
    committed.mkdir()
    metrics = json.loads((runs / "tiny" / "metrics.json").read_text())
    (committed / "vivek2020.json").write_text(json.dumps(metrics | {"seed": 3, "overrides": []}))
    assert measured(tmp_path / "none", committed)["vivek2020"]["seed"] == 3
    assert measured(runs, committed)["vivek2020"]["seed"] == 1
    (runs / "other" / "metrics.json").write_text(json.dumps(metrics | {"seed": 2, "overrides": []}))
    assert measured(runs, committed)["vivek2020"]["seed"] == 2


def test_accuracy_per_class_is_one_against_the_rest(runs: Path) -> None:
    per_class = {label: {"precision": 0.5, "recall": 0.25, "f1": 0.3, "support": 4} for label in ("A", "B")}
    test = {"films": 8, "accuracy": {"value": 0, "low": 0, "high": 0}, "per_class": per_class}
    call_it(runs, "vivek2020", test=test | {"confusion": [[1, 3], [1, 3]]})
    text = table(runs, runs / "none")
    assert "| vivek2020 | A | 4 | 0.500 | 0.250 | 0.500 | 0.300 |" in text


def test_recipes_prints_the_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--runs", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert all(f"## {publication.name}\n" in printed for publication in publications())
