"""The processes of one run: known by process id, session and a mark in their environment, never by name.

Java is started as the leader of a session of its own and carries `MARK`; its workers inherit both. That
finds a worker also when Java was killed and can no longer be asked for its children.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MARK = "CXR_RUN_FOLDER"
"""Environment variable that names the run folder in every process of a run."""

PID_FILE = "torchserve.pid"
LAST_WORDS_S = 10.0
"""How long workers may take to end by themselves after Java has: they notice the closed socket."""


@dataclass(frozen=True)
class Leader:
    """Java, as the pid file of its run folder remembers it."""

    pid: int
    created: float
    """Start of the process, seconds since the epoch: a process id is used again, the pair is not."""
    run: str

    def is_alive(self) -> bool:
        """Whether this very process still runs; a finished one that nobody has waited for does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def members(self) -> list[psutil.Process]:
        """Every live process of the run, Java included."""
        return [p for p in psutil.process_iter() if p.pid != os.getpid() and self._owns(p)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            if os.getsid(process.pid) != self.pid or process.status() == psutil.STATUS_ZOMBIE:
                return False
            return process.environ().get(MARK) == self.run
        except (OSError, psutil.Error):  # gone meanwhile, or somebody else's
            return False


def remember(run: Path, pid: int) -> Leader:
    """Write the pid file of a run that has just been started."""
    leader = Leader(pid=pid, created=psutil.Process(pid).create_time(), run=str(run))
    draft = run / f"{PID_FILE}.new"
    draft.write_text(json.dumps(asdict(leader)), encoding="utf-8")
    draft.replace(run / PID_FILE)
    return leader


def recall(run: Path) -> Leader | None:
    """The leader that the pid file names, alive or not; None without a pid file that can be read."""
    try:
        return Leader(**json.loads((run / PID_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget(run: Path) -> None:
    """Remove the pid file."""
    (run / PID_FILE).unlink(missing_ok=True)


def end(leader: Leader, grace_s: float) -> bool:
    """Ask Java to finish, see every process of the run gone; True if none had to be killed.

    SIGTERM lets Java finish gRPC calls and stop its workers. What is left after `grace_s` is killed; so are
    workers that outlive Java.
    """
    if leader.is_alive():
        with suppress(ProcessLookupError):
            os.kill(leader.pid, signal.SIGTERM)
    finished = _wait(lambda: not leader.is_alive(), grace_s)
    if not finished:
        with suppress(psutil.NoSuchProcess):  # it has ended by itself since
            psutil.Process(leader.pid).kill()
    orphans = _wait(lambda: not leader.members(), LAST_WORDS_S)
    if not orphans:
        _kill(leader.members())
        _wait(lambda: not leader.members(), LAST_WORDS_S)
    return finished and orphans


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; whether it did in time."""
    return any(condition() for _ in _ticks(seconds))


def _ticks(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        time.sleep(0.1)
        yield
