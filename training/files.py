"""Files that are whole or not there: a kill in the middle leaves the old one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write at, which takes its name at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    yield partial
    partial.replace(path)


def write(path: Path, text: str) -> None:
    """A text file in UTF-8."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")
