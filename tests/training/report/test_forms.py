from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from sklearn import metrics

from training.data import Films
from training.report.forms import BATCHES, forms
from training.report.material import Material, Run
from training.report.readings import RememberingReader
from training.split import Part


@pytest.fixture
def rows(
    opened: Run, parts: dict[Part, Films], run_folder: Path, tmp_path: Path
) -> tuple[Material, list[dict[str, Any]]]:
    """The float32 file under two names, and a file that runs elsewhere."""
    for name in ("model.pt", "model-int8.pt"):
        shutil.copy(run_folder / "model.pt", tmp_path / name)
    (tmp_path / "model.pte").write_bytes(bytes(1000))
    run = dataclasses.replace(opened, folder=tmp_path)
    films = [path.read_bytes for path in parts["test"].paths]
    read = RememberingReader(opened.network, tmp_path).read("test", films)
    material = Material(run, tmp_path, {"test": parts["test"]}, {"test": read})
    return material, forms(material)


def test_each_form_has_its_size_and_speed(rows: tuple[Material, list[dict[str, Any]]], run_folder: Path) -> None:
    _, (first, second, elsewhere) = rows
    assert first["bytes"] == second["bytes"] == (run_folder / "model.pt").stat().st_size
    assert elsewhere["file"] == "model.pte" and elsewhere["bytes"] == 1000
    assert elsewhere["milliseconds_per_film"] is None
    for row in (first, second):
        speeds = row["milliseconds_per_film"]
        assert isinstance(speeds, dict) and speeds.keys() == {str(batch) for batch in BATCHES}
        assert all(0 < speed["low"] <= speed["median"] <= speed["high"] for speed in speeds.values())


def test_a_form_is_compared_with_the_first(rows: tuple[Material, list[dict[str, Any]]]) -> None:
    material, (first, second, _) = rows
    said = material.readings["test"].logits.argmax(axis=1)
    expected = metrics.f1_score(material.films["test"].classes, said, average="macro")
    assert second["agreement"] == {"value": 1, "low": 1, "high": 1}
    assert second["macro_f1"]["value"] == pytest.approx(expected)
    assert "agreement" not in first
