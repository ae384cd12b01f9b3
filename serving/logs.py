"""What TorchServe's logs say about a start that failed. Text of version 0.12.0, which is the last."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

LINES = 15
"""Lines of a log that are shown to explain a failure."""

_LINE = re.compile(r"^\S+ \[\w+ *\] (?P<thread>\S+) \S+ - (?P<text>.*)")
"""The layout of serving/log4j2.xml: time, level, thread, logger, text. Each worker has threads of its own."""

_CAUSES = ("Failed to load model", "Traceback ")
_AFTERWARDS = (
    "Backend worker process died.",
    "During handling of the above exception, another exception occurred:",
)
"""What follows a cause and says nothing about it: the end of ts/model_service_worker.py, and what
ts/model_loader.py tries when a handler cannot be imported."""

_DIED_AGAIN = "Auto recovery failed again"
"""WorkerThread.setState, when a worker stops that has stopped before and never got ready since."""


def keeps_dying(folder: Path) -> bool:
    """Whether a worker has died at least twice without ever having been READY in between."""
    return any(_DIED_AGAIN in line for line in _lines(folder / "ts_log.log"))


def worker_error(folder: Path) -> str:
    """The first thing that went wrong in a worker; its last lines if nothing is recognised."""
    log = folder / "model_log.log"
    said = [match for line in _lines(log) if (match := _LINE.match(line))]
    first = next((i for i, match in enumerate(said) if match["text"].startswith(_CAUSES)), None)
    if first is None:
        return _quoted([match["text"] for match in said], log)
    own = (match["text"] for match in said[first:] if match["thread"] == said[first]["thread"])
    headline, *details = itertools.takewhile(lambda text: text not in _AFTERWARDS, own)
    return _quoted([headline, *details[-LINES:]], log)


def failed_registration(folder: Path) -> str:
    """Why an archive was not registered, with Java's reason."""
    lines = _lines(folder / "ts_log.log")
    starts = [i for i, line in enumerate(lines) if "Failed to load model" in line]
    return _quoted(lines[starts[0] : starts[0] + 3] if starts else lines, folder / "ts_log.log")


def last_words(folder: Path) -> str:
    """What Java printed before it ended: a port it could not bind, a setting it did not understand."""
    console = [line for line in _lines(folder / "console.log") if not line.startswith("\tat ")]
    return _quoted(console or _lines(folder / "ts_log.log"), folder / "console.log")


def _quoted(lines: list[str], source: Path) -> str:
    shown = "".join(f"\n    {line.rstrip()}" for line in lines[-LINES - 1 :])
    return f"{shown or ' no reason given'}\n(more in {source})"


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
