"""`python -m serving` as a process, with an archive that has no model."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import paths, processes
from tests.serving.command_line import PATIENCE_S, command, members, placed

Write = Callable[..., Path]


@pytest.fixture
def arguments(tmp_path: Path, stand_in: Write) -> list[str]:
    return placed(tmp_path, stand_in())


def fails_with(answer: subprocess.CompletedProcess[str], words: str) -> None:
    """One sentence, after what was said on the way; status 1."""
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    [error] = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert answer.stderr.splitlines()[-1] == error
    assert words in error


@pytest.mark.parametrize(("name", "run"), [("serve", "/proc/cxr"), ("start", "file/run")])
def test_a_run_folder_that_cannot_be_made_is_one_sentence(
    arguments: list[str], tmp_path: Path, name: str, run: str
) -> None:
    (tmp_path / "file").touch()

    fails_with(command(name, *arguments, "--run", str(tmp_path / run)), "or name another folder with RUN_FOLDER=.")


def test_a_disk_that_fills_while_the_run_is_laid_out_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))

    fails_with(command("start", *arguments, limit=small_files), "could not be prepared")
    assert members(tmp_path / "run") == []


@pytest.mark.parametrize("shift", [(), ("--port-offset", "1")])
def test_a_port_that_is_none_is_one_sentence(stand_in: Write, tmp_path: Path, shift: tuple[str, ...]) -> None:
    options = placed(tmp_path, stand_in(), inference_address="http://127.0.0.1:80x")
    answer = command("start", *options, *shift)

    fails_with(answer, "inference_address=http://127.0.0.1:80x names no port")


def test_a_configuration_that_is_no_text_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.properties").write_bytes(b"model_store=/R\xf6ntgen\n")

    fails_with(command("start", *arguments), "is no UTF-8 text")


def test_a_pid_file_that_cannot_be_written_leaves_no_java(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "run" / f"{processes.PID_FILE}.new").mkdir(parents=True)

    fails_with(command("start", *arguments), "could not be prepared")
    assert members(tmp_path / "run") == []


def test_an_interrupted_start_is_no_success(arguments: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "start", *arguments], cwd=paths.ROOT, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        assert "Starting TorchServe" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 1
    assert complaints.splitlines()[-1] == "Interrupted: nothing runs."
    assert members(tmp_path / "run") == []


def test_serve_ends_with_its_terminal(arguments: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    pid, terminal = pty.fork()
    if not pid:  # a session of its own, with the terminal as its own; SIGHUP as a shell leaves it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.chdir(paths.ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "serving", "serve", *arguments])
    deadline = time.monotonic() + PATIENCE_S
    while processes.recall(run) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert members(run)
    os.close(terminal)

    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert members(run) == []


def test_start_outlives_its_terminal_until_stop_and_both_may_be_said_twice(
    arguments: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(paths.ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "serving", "start", *arguments])
    try:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        assert os.waitstatus_to_exitcode(status) == 0
        again = command("start", *arguments)
        assert (again.returncode, "runs already" in again.stderr) == (0, True)
        assert command("status", *arguments).stdout.splitlines() == [
            "cxr: 1 of 1 workers ready",
            "cxr-attribution: 1 of 1 workers ready",
        ]
        assert len(members(run)) >= 3
    finally:
        stops = [command("stop", *arguments) for _ in range(2)]

    assert [(stop.returncode, stop.stderr) for stop in stops] == [(0, "Stopped.\n"), (0, "Nothing was running.\n")]
    assert command("status", *arguments).returncode == 3
    assert members(run) == []
    assert not (run / "tmp").exists()
    assert not (run / processes.PID_FILE).exists()
