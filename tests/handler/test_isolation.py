from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from cxr import isolation, reading
from cxr.errors import CxrError, FilmTooLarge, UnreadableImage
from cxr.film import Film
from cxr.network import LoadedNetwork
from cxr.reading import Reader
from cxr.request import Explain, Request
from tests.handler import films
from tests.handler.asking import ask
from tests.handler.films import RG1_PNG

RG1 = RG1_PNG.read_bytes()


@dataclass
class Row:
    number: int
    error: CxrError | None = None
    seen: bool = False


def step(row: Row) -> None:
    row.seen = True
    if row.number == 1:
        raise UnreadableImage("broken")
    if row.number == 2:
        raise MemoryError
    if row.number == 3:
        raise KeyError("DOE^JOHN")


@pytest.mark.parametrize("threads", [None, 3])
def test_an_exception_stays_in_its_row(threads: int | None, caplog: pytest.LogCaptureFixture) -> None:
    rows = [Row(number) for number in range(5)]
    isolation.each(step, rows, ThreadPoolExecutor(threads) if threads else None)
    assert [type(row.error) for row in rows] == [type(None), UnreadableImage, FilmTooLarge, CxrError, type(None)]
    assert all(row.seen for row in rows)
    assert rows[3].error is not None and rows[3].error.status == 500
    assert "KeyError" in caplog.text and "DOE" not in caplog.text + str(rows[3].error)


def test_a_row_with_an_error_is_left_alone() -> None:
    row = Row(0, UnreadableImage("before"))
    isolation.each(step, [row])
    assert not row.seen


def test_an_exception_of_a_batch_is_its_rows_alone() -> None:
    rows = [Row(number) for number in range(5)]

    def fails_on_three(batch: list[Row]) -> None:
        if any(row.number == 3 for row in batch):
            raise RuntimeError

    isolation.batches(fails_on_three, rows, 2)
    assert [row.error is None for row in rows] == [True, True, False, False, True]


def test_times_are_told_even_of_what_fails() -> None:
    told: list[tuple[str, float]] = []
    with pytest.raises(ValueError), isolation.timed("decode", lambda *entry: told.append(entry)):
        raise ValueError
    assert [name for name, _ in told] == ["decode"] and told[0][1] >= 0


# --- in the reader -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["decode", "inspect_pixels", "stretch", "crop", "to_tensor", "explain", "respond"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_unexpected_exception_stays_in_its_row(
    step: str, threads: int, loaded: LoadedNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = getattr(reading, step), iter(range(99))

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 1:
            raise RuntimeError("DOE^JOHN born 19560304")
        return real(*args, **kwargs)

    monkeypatch.setattr(reading, step, fails_once)
    rows = ask(Reader(loaded, threads=threads), *[Request(RG1, "r", Explain())] * 3)
    assert sorted(row.error is None for row in rows) == [False, True, True]
    (failed,) = (row.error for row in rows if row.error is not None)
    assert failed.status == 500 and type(failed) is CxrError
    assert "DOE" not in failed.message + caplog.text


def test_running_out_of_memory_is_too_large_a_film(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: Any) -> Film:
        raise MemoryError

    monkeypatch.setattr(reading, "decode", out_of_memory)
    (row,) = ask(reader, RG1)
    assert isinstance(row.error, FilmTooLarge)


def test_every_step_is_timed(loaded: LoadedNetwork) -> None:
    told: list[str] = []
    ask(Reader(loaded, observe=lambda step, _: told.append(step)), Request(RG1, "r", Explain()), b"junk")
    assert sorted(told) == ["decode", "decode", "explain", "predict", "stretch"]


def test_the_core_imports_neither_server_nor_training() -> None:
    code = "import sys, cxr.reading, cxr.envelope; print([name for name in sys.modules if name.split('.')[0] in ('ts', 'training')])"
    environment = {**os.environ, "PYTHONPATH": str(films.ROOT / "handler")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
