from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serving import paths
from serving.install import remedy

PATIENCE_S = 60.0
RECORDING = "import pathlib, sys; pathlib.Path('said').open('a').write(' '.join(sys.argv[1:]) + '\\n')"
WAITING = """
import os, pathlib, subprocess, sys, time
build = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids").write_text(f"{os.getpid()} {build.pid} whole")
time.sleep(600)
"""
FULL = "import sys; sys.exit('ERROR: [Errno 28] No space left on device')"
OFFLINE = "import sys; sys.exit('ERROR: no matching distribution')"


def installer(folder: Path, pip: str, *options: str) -> subprocess.Popen[str]:
    """The installer, with another program in the place of pip."""
    (folder / "pip").mkdir()
    (folder / "pip" / "__init__.py").touch()
    (folder / "pip" / "__main__.py").write_text(pip)
    (folder / "requirements.txt").write_text("numpy==2.2.6\ntorch==2.11.0\ntorchvision==0.26.0\ntorchserve==0.12.0\n")
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{paths.ROOT}"}
    command = [sys.executable, "-m", "serving.install", "requirements.txt", "--stamp", "stamp", *options]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE)


def test_torch_alone_comes_from_its_index(tmp_path: Path) -> None:
    assert installer(tmp_path, RECORDING, "--torch-index", "file:///index").wait(PATIENCE_S) == 0
    torch, rest = (tmp_path / "said").read_text().splitlines()
    assert torch.endswith("--no-deps --index-url file:///index torch==2.11.0 torchvision==0.26.0")
    assert rest.endswith("-r requirements.txt") and "index" not in rest
    assert (tmp_path / "stamp").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_pip_and_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    running = installer(tmp_path, WAITING)
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "pids").is_file() or "whole" not in (tmp_path / "pids").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = [psutil.Process(int(pid)) for pid in (tmp_path / "pids").read_text().split()[:2]]
    running.send_signal(number)
    assert running.wait(PATIENCE_S) == 143
    _, alive = psutil.wait_procs(started, PATIENCE_S)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert not (tmp_path / "stamp").exists()


@pytest.mark.parametrize(("pip", "says"), [(FULL, "The disk is full: make room"), (OFFLINE, "check the network")])
def test_what_prevents_an_install_is_one_sentence_behind_pips(tmp_path: Path, pip: str, says: str) -> None:
    running = installer(tmp_path, pip)
    _, err = running.communicate(timeout=PATIENCE_S)
    own, sentence = err.splitlines()
    assert running.returncode == 1 and own.startswith("ERROR: ")
    assert sentence.startswith("error: ") and says in sentence
    assert not (tmp_path / "stamp").exists()


def test_the_places_that_fill_are_named() -> None:
    assert sys.prefix in remedy("OSError: [Errno 28] No space left on device")
