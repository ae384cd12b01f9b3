"""Leaf: steps over rows, so that a row that fails never harms its neighbours; and their times."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

from cxr.errors import CxrError, FilmTooLarge, internal

log = logging.getLogger(__name__)

Observer = Callable[[str, float], None]
"""Called with the name of a step and its seconds."""


class HasError(Protocol):
    """A row: once `error` is set, no further step touches it."""

    error: CxrError | None


R = TypeVar("R", bound=HasError)


def each(step: Callable[[R], None], rows: Sequence[R], pool: Executor | None = None) -> None:
    """Run `step` on every row alive, in `pool` where it pays."""
    alive = [row for row in rows if row.error is None]
    mapping = pool.map if pool is not None and len(alive) > 1 else map
    list(mapping(lambda row: guarded(partial(step, row), [row], step.__qualname__), alive))


def batches(step: Callable[[list[R]], None], rows: Sequence[R], size: int) -> None:
    """Run `step` on the rows alive, `size` at a time."""
    alive = [row for row in rows if row.error is None]
    for start in range(0, len(alive), size):
        batch = alive[start : start + size]
        guarded(partial(step, batch), batch, step.__qualname__)


def guarded(step: Callable[[], None], rows: Sequence[HasError], name: str) -> None:
    """An exception becomes the rows' error."""
    try:
        step()
        return
    except CxrError as known:
        error = known
    except MemoryError:
        error = FilmTooLarge("the film needs more memory than there is")
    except Exception as unknown:
        log.error("%s failed: %s", name, type(unknown).__name__)
        error = internal(unknown)
    for row in rows:
        row.error = error


@contextmanager
def timed(step: str, observe: Observer) -> Iterator[None]:
    """Tell `observe` how long the block took, whether it failed or not."""
    start = time.perf_counter()
    try:
        yield
    finally:
        observe(step, time.perf_counter() - start)
