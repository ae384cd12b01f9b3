"""SIGINT, SIGTERM and SIGHUP, let through only where the program is ready for them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def on_end(handler: Callable[[int, FrameType | None], None]) -> None:
    """Have `handler` take what asks for an end; SIGHUP (the terminal was closed) not where `nohup` has it ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


class Interrupted(BaseException):
    """Somebody wants the program to end. Not an Exception: nothing that handles errors may swallow it."""


class Interruption:
    """Remembers the first of the signals that ask for an end, and raises Interrupted only inside `allowed()`.

    Between Java's start and the moment its process id is written down, and while everything is being
    stopped, an exception out of nowhere would leave processes behind; there a signal waits.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._allowed = False

    def catch(self) -> None:
        """Take the signals over from here on."""
        on_end(self._note)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Within, a signal (also one that came before) raises Interrupted."""
        self._allowed = True
        try:
            self._raise_if_wanted()
            yield
        finally:
            self._allowed = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        first = not self.wanted
        self.wanted = True
        if first and self._allowed:
            raise Interrupted

    def _raise_if_wanted(self) -> None:
        if self.wanted:
            raise Interrupted
