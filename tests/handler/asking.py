"""A reader asked in one line, and tensors computed in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cxr.reading import Reader, Row
from cxr.request import Request
from tests.handler import films


def ask(reader: Reader, *given: bytes | torch.Tensor | Request) -> list[Row]:
    return reader.read([entry if isinstance(entry, Request) else Request(entry) for entry in given])


def answer(reader: Reader, film: bytes) -> dict[str, Any]:
    (row,) = ask(reader, film)
    assert row.error is None, row.error
    return row.answer


def run_tensors(paths: Sequence[Path], seed: str, *places: Path) -> tuple[list[str], str]:
    places = places or (films.ROOT / "handler",)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(map(str, [*places, films.ROOT]))}
    command = [sys.executable, str(Path(__file__).with_name("tensors.py")), *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stdout + done.stderr
