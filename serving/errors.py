"""What keeps TorchServe from serving. Each message is one sentence that says what to do; exit status 1.

ServingError
├── CannotStart    found before anything was started: port taken, archive missing, disk full, no Java
└── StartFailed    TorchServe was started and never became ready
"""

from __future__ import annotations


class ServingError(Exception):
    """Shown to the user without a traceback."""


class CannotStart(ServingError):
    pass


class StartFailed(ServingError):
    pass
