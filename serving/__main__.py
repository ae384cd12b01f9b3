"""`python -m serving serve | start | stop | status`.

Signals are caught before the imports that take time: a Ctrl-C during those shows no traceback. Before lies only the
interpreter's own start.
"""

import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    """An end of `serve` is a normal one; of the others it means that they did not do what they were asked to."""
    sys.exit(0 if sys.argv[1:2] == ["serve"] else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, _leave)

    from serving.commands import main

    sys.exit(main())
