from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any

import pytest
import torch

from client import GrpcClient, RestClient, RetryPolicy
from cxr.reading import Reader
from cxr.request import Explain, Request
from serving.torchserve import REGISTRATIONS, TorchServe

ONCE = RetryPolicy(attempts=1)
TIMEOUT_S = 600.0
PATIENCE_S = 60.0
Expected = Callable[..., dict[str, Any]]
"""Of the fixture `expected`: (film or tensor, explain) -> the answer's JSON."""


@pytest.fixture
def unharmed(server: TorchServe) -> Iterator[None]:
    """No worker died meanwhile."""
    before = {model: server.worker_pids(model) for model in REGISTRATIONS}
    yield
    assert {model: server.worker_pids(model) for model in REGISTRATIONS} == before


def wait_until_waiting(server: TorchServe, model: str, count: int, patience_s: float = PATIENCE_S) -> bool:
    """Until `count` requests wait in the queue of a registration, its workers all busy; False if they do not."""
    deadline = time.monotonic() + patience_s
    while (server.describe(model) or {})["jobQueueStatus"]["pendingRequests"] < count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def workers_stopped(server: TorchServe, model: str) -> Iterator[None]:
    """SIGSTOP ... SIGCONT: they keep what they have and answer nothing. Whoever was killed meanwhile is not woken."""
    workers = server.worker_pids(model)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


@pytest.fixture(scope="session")
def expected(reader: Reader) -> Expected:
    """The answer to one film, or prepared tensor, computed without a server."""
    known: dict[tuple[bytes, Explain | None], dict[str, Any]] = {}

    def answer(film: bytes | torch.Tensor, explain: Explain | None = None) -> dict[str, Any]:
        content = film if isinstance(film, bytes) else film.numpy().tobytes()
        key = (sha256(content).digest(), explain)
        if key not in known:
            [row] = reader.read([Request(film, explain=explain)])
            known[key] = row.error.as_json("") if row.error else row.answer
        return known[key]

    return answer


@pytest.fixture(scope="session")
def rest(server: TorchServe) -> Iterator[RestClient]:
    with RestClient(server.inference_url, timeout_s=TIMEOUT_S, retry=ONCE) as service:
        yield service


@pytest.fixture(scope="session")
def rpc(server: TorchServe) -> Iterator[GrpcClient]:
    with GrpcClient(server.grpc_target, timeout_s=TIMEOUT_S, retry=ONCE) as service:
        yield service
