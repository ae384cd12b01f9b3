from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from cxr import isolation
from cxr.errors import CxrError, FilmTooLarge, UnreadableImage


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
