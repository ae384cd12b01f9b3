from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from serving.interruption import Interrupted, Interruption

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_waits_until_it_is_allowed(number: signal.Signals) -> None:
    signal.signal(number, lambda *_: None)
    interruption = Interruption()
    interruption.catch()
    signal.raise_signal(number)

    with pytest.raises(Interrupted), interruption.allowed():
        pass


def test_nohup_still_holds() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption = Interruption()
    interruption.catch()
    signal.raise_signal(signal.SIGHUP)

    assert not interruption.wanted
