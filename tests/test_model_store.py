"""The shipped archive, its record and its card tell of one model, and it does what it was shipped for."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cxr.network import LoadedNetwork
from cxr.reading import Reader, Request
from tests.parts import ROOT, shared
from training.data import part_of, scan
from training.recipe import SplitSettings

ENOUGH_F1, ENOUGH_REPORTED = 0.93, 0.90
EVERY = 4
"""One test film of so many is read anew: a quarter of the report's films, in seconds."""


def record(path: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / path).read_text())
    return document


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    return record("model_store/metrics.json")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return record("docs/report/report.json")


def test_the_record_is_the_archives(metrics: dict[str, Any], loaded: LoadedNetwork) -> None:
    assert metrics["reading"] == json.loads(loaded.recipe.to_json())


def test_the_report_is_the_archives(report: dict[str, Any], loaded: LoadedNetwork) -> None:
    assert report["model"]["sha256"] == loaded.sha256
    recipe = json.loads(json.dumps(dataclasses.asdict(loaded.recipe)))
    assert {key: value for key, value in report["model"].items() if key in recipe} == {
        key: value for key, value in recipe.items() if key in report["model"]
    }


def test_the_card_and_the_archives_page_are_the_reports(report: dict[str, Any]) -> None:
    figure = report["parts"]["test"]["macro_f1"]
    words = f"| Macro F1, test films | {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] |"
    for page in ("docs/model-card.md", "model_store/README.md"):
        assert words in (ROOT / page).read_text()
    assert report["model"]["sha256"] in (ROOT / "docs/model-card.md").read_text()


def test_training_and_report_agree_on_the_test_films(metrics: dict[str, Any], report: dict[str, Any]) -> None:
    assert metrics["test"]["confusion"] == report["parts"]["test"]["confusion"]
    assert not metrics["quick"] and not metrics["overrides"]


def test_what_was_asked_of_the_model_is_reached(report: dict[str, Any]) -> None:
    assert report["parts"]["test"]["macro_f1"]["value"] >= ENOUGH_F1
    assert report["abstention"]["coverage"]["value"] >= ENOUGH_REPORTED


def test_the_archive_answers_as_the_report_says(reader: Reader, report: dict[str, Any]) -> None:
    split = SplitSettings(**{key: report["data"]["split"][key] for key in ("salt", "test", "validation")})
    films = [film for film in scan(shared("cxr4")) if part_of(film.group, split) == "test"]
    assert len(films) == report["parts"]["test"]["films"]
    chosen = films[::EVERY]
    rows = [row for film in chosen for row in reader.read([Request(film.path.read_bytes())])]
    said, true = [row.answer["prediction"] for row in rows], [film.label for film in chosen]
    interval = report["parts"]["test"]["macro_f1"]
    assert interval["low"] - 0.03 <= f1_score(true, said, average="macro") <= interval["high"] + 0.03
    assert np.mean([row.answer["decision"] == "report" for row in rows]) >= ENOUGH_REPORTED
