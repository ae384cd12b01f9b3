from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.reading import Reader
from cxr.request import Explain, Request
from training.data import Films
from training.report import readings
from training.report.material import Run
from training.report.readings import Readings, RememberingReader, Source
from training.split import Part


@pytest.fixture
def remembering(opened: Run, tmp_path: Path) -> RememberingReader:
    return RememberingReader(opened.network, tmp_path)


def sources(paths: Sequence[Path]) -> list[Source]:
    return [path.read_bytes for path in paths]


@pytest.fixture
def paths(parts: dict[Part, Films]) -> tuple[Path, ...]:
    return parts["test"].paths[:10]


def test_the_numbers_are_those_that_serving_answers(
    remembering: RememberingReader, opened: Run, paths: tuple[Path, ...]
) -> None:
    read = remembering.read("test", sources(paths), explain=True)
    rows = Reader(opened.network).read([Request(path.read_bytes(), explain=Explain(overlay=False)) for path in paths])
    probabilities = read.probabilities(opened.network.recipe.temperature)
    for index, row in enumerate(rows):
        assert row.prediction is not None and row.explanation is not None
        assert probabilities[index] == pytest.approx(row.prediction.probabilities, abs=1e-5)
        assert read.distance[index] == pytest.approx(row.prediction.distance, rel=1e-4)
        assert read.features[index] == pytest.approx(row.prediction.feature_map.mean(dim=(0, 2, 3)).numpy(), abs=1e-4)
        assert read.decision[index] == row.answer["decision"]
        assert read.heat_maps[index] == pytest.approx(row.explanation.attributed.heat_map, abs=1e-4)


def test_films_are_read_once(
    remembering: RememberingReader, paths: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = remembering.read("test", sources(paths))
    monkeypatch.setattr(remembering, "reader", None)
    again = remembering.read("test", sources(paths))
    assert (first.logits == again.logits).all() and (first.decision == again.decision).all()


def test_only_the_chunk_that_changed_is_read_again(
    remembering: RememberingReader, paths: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "CHUNK", 4)
    remembering.read("test", sources(paths))
    asked: list[int] = []
    read = remembering.reader.read
    monkeypatch.setattr(remembering.reader, "read", lambda requests: asked.append(len(requests)) or read(requests))
    changed = sources((*paths[:9], paths[0]))
    result = remembering.read("test", changed)
    assert asked == [2]
    assert result.logits[9] == pytest.approx(result.logits[0], abs=1e-4)
    assert len(list(remembering.folder.glob("test-*.npz"))) == 3


def test_sets_with_similar_names_do_not_touch_each_other(
    remembering: RememberingReader, paths: tuple[Path, ...]
) -> None:
    remembering.read("test_border_only", sources(paths[:2]))
    remembering.read("test", sources(paths[:2]))
    assert len(list(remembering.folder.glob("*.npz"))) == 2


def test_another_model_remembers_nothing(remembering: RememberingReader, opened: Run, tmp_path: Path) -> None:
    import dataclasses

    other = RememberingReader(dataclasses.replace(opened.network, sha256="0" * 64), tmp_path)
    assert other.key != remembering.key


@pytest.mark.parametrize("chunk", [1, 256])
def test_a_refused_film_has_no_numbers(
    remembering: RememberingReader, paths: tuple[Path, ...], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "CHUNK", chunk)
    page = partial(bytes, b"<html>")
    read = remembering.read("odd", [page, paths[0].read_bytes])
    assert read.decision[0] == "refused" and read.reason[0] == "UnsupportedImage"
    assert np.isnan(read.logits[0]).all() and np.isfinite(read.logits[1]).all()
    assert read.logits.shape == (2, 3)


def test_the_temperature_softens(remembering: RememberingReader, paths: tuple[Path, ...]) -> None:
    read: Readings = remembering.read("test", sources(paths))
    for temperature in (0.5, 1.0, 3.0):
        expected = torch.softmax(torch.from_numpy(read.logits) / temperature, dim=1).numpy()
        assert read.probabilities(temperature) == pytest.approx(expected, abs=1e-6)
