"""`python -m serving serve | start | stop | status`.

Signals are caught before the imports that take time: a Ctrl-C during those shows no traceback. Before lies only the
interpreter's own start.
"""

import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)

    from serving.commands import main

    sys.exit(main())
