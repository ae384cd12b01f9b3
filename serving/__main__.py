"""`python -m serving serve | start | stop | status`.

Signals are caught before the imports that take time: a Ctrl-C during those shows no traceback. Before lie only the
interpreter's own start and modules of the standard library.
"""

import sys
from types import FrameType

from serving.interruption import on_end


def _leave(number: int, frame: FrameType | None) -> None:
    """An end of `serve` is a normal one; of the others it means that they did not do what they were asked to."""
    sys.exit(0 if sys.argv[1:2] == ["serve"] else 1)


if __name__ == "__main__":
    on_end(_leave)

    from serving.commands import main

    sys.exit(main())
