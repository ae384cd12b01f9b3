"""When a call is sent again, and how long to wait before it is."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from client.errors import ClientError, Unavailable, WorkerDied

T = TypeVar("T")

# A film that kills its worker twice is more likely the cause than the victim.
WORKERS_ONE_FILM_MAY_LOSE = 2
# A sleep may end late; a timeout of less than nothing is an error to requests.
SHORTEST_S = 0.001


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with full jitter, for `Unavailable` alone, within the caller's deadline.

    Attributes:
        attempts: how often a call is sent at most; 1 switches retries off.
        first_wait_s: upper bound of the wait after the first failure.
        factor: growth of that bound from one failure to the next.
        longest_wait_s: where the bound stops growing.
    """

    attempts: int = 4
    first_wait_s: float = 0.2
    factor: float = 3.0
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait_s < 0 or self.factor < 1:
            raise ValueError("A retry policy needs attempts >= 1, first_wait_s >= 0 and factor >= 1.")

    def run(self, send: Callable[[float], T], timeout_s: float) -> T:
        """Call `send` with the seconds left until it answers, fails for good or no time is left to wait.

        Raises:
            ClientError: the last one that `send` raised; a true cause says more than DeadlineExceeded.
        """
        end = time.monotonic() + timeout_s
        attempt = 1
        while True:
            try:
                return send(max(end - time.monotonic(), SHORTEST_S))
            except Unavailable as error:
                wait_s = self.wait_s(attempt)
                if not self.allows(error, attempt) or time.monotonic() + wait_s >= end:
                    raise
            time.sleep(wait_s)
            attempt += 1

    def allows(self, error: ClientError, attempt: int) -> bool:
        """Whether a call whose attempt number `attempt` (from 1) ended in `error` may be sent once more."""
        if isinstance(error, WorkerDied) and attempt >= WORKERS_ONE_FILM_MAY_LOSE:
            return False
        return isinstance(error, Unavailable) and attempt < self.attempts

    def bound_s(self, attempt: int) -> float:
        """The longest wait after attempt number `attempt` (from 1), in seconds."""
        return min(self.first_wait_s * self.factor ** (attempt - 1), self.longest_wait_s)

    def wait_s(self, attempt: int) -> float:
        """A wait drawn evenly from 0 to `bound_s`, so that callers turned away together come back apart."""
        return random.uniform(0, self.bound_s(attempt))
