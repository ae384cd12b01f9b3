"""kill -9 of a worker under load: the service comes back, and nobody is given a wrong answer."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from client import ClientError, GrpcClient, Prediction, RestClient, RetryPolicy, Unavailable
from serving.torchserve import TorchServe
from tests.docs.document import error_example
from tests.server import films, ways
from tests.server.conftest import Expected, wait_until_waiting, workers_stopped
from tests.server.films import PNG
from tests.server.ways import SLOW

PATIENCE_S = 120.0
PATIENT = RetryPolicy(attempts=10)


@contextmanager
def load(server: TorchServe) -> Iterator[list[Prediction | ClientError]]:
    """Two REST and two gRPC users, each sending again as soon as it has an answer; what they were told."""
    told: list[Prediction | ClientError] = []
    done = threading.Event()

    def use(service: RestClient | GrpcClient) -> None:
        with service:
            while not done.is_set():
                try:
                    told.append(service.predict(PNG))
                except ClientError as error:
                    told.append(error)

    services: list[RestClient | GrpcClient] = [
        kind(address, timeout_s=PATIENCE_S, retry=PATIENT)
        for kind, address in ((RestClient, server.inference_url), (GrpcClient, server.grpc_target))
        for _ in range(2)
    ]
    users = [threading.Thread(target=use, args=(service,)) for service in services]
    for user in users:
        user.start()
    try:
        yield told
    finally:
        done.set()
        for user in users:
            user.join()


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def kill(server: TorchServe, model: str, count: int) -> set[int]:
    """kill -9 `count` workers of one registration; their process ids."""
    pids = server.worker_pids(model)[:count]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return set(pids)


def wait_until_back(server: TorchServe, model: str, workers: int, killed: set[int]) -> None:
    def back() -> bool:
        pids = server.worker_pids(model)
        return len(pids) == workers and not killed & set(pids)

    wait_for(back, f"{model}'s workers")


@pytest.mark.parametrize("count", [1, 2], ids=["one worker", "all workers"])
def test_the_service_outlives_its_workers_under_load(
    server: TorchServe, rest: RestClient, rpc: GrpcClient, expected: Expected, count: int
) -> None:
    with load(server) as told:
        wait_for(lambda: len(told) >= 8, "answers before")
        killed = kill(server, "cxr", count)
        wait_until_back(server, "cxr", 2, killed)
        after = [service.predict(PNG) for service in (rest, rpc) for _ in range(8)]  # each sent once: all are answered
        back = len(told) + 4  # the four under way may still be told of the death
        wait_for(lambda: len(told) >= back + 16, "answers after")

    wanted = expected(PNG)["probabilities"]
    for outcome in [*told, *after]:
        if isinstance(outcome, Prediction):
            assert outcome.probabilities == pytest.approx(wanted, abs=1e-4)
        else:
            assert isinstance(outcome, Unavailable), outcome
    assert all(isinstance(outcome, Prediction) for outcome in told[back:])


def test_the_attribution_worker_comes_back_too(server: TorchServe, rest: RestClient, expected: Expected) -> None:
    predicting = server.worker_pids("cxr")
    with ThreadPoolExecutor(2) as pool, workers_stopped(server, "cxr-attribution"):
        asked = [pool.submit(ways.post, server, SLOW, PNG) for _ in range(2)]
        assert wait_until_waiting(server, "cxr-attribution", 1)  # and the other is in the worker's hands
        killed = kill(server, "cxr-attribution", 1)
        assert rest.predict(films.dicom()).prediction == expected(films.dicom())["prediction"]
        wait_until_back(server, "cxr-attribution", 1, killed)
        told = sorted((future.result() for future in asked), key=lambda answer: answer.status_code)

    assert told[0].json()["attribution"]["method"] == "grad_cam"  # the one that waited
    assert told[1].json() in (error_example("Failed"), error_example("WorkerDied"))
    assert ways.read(ways.post(server, SLOW, PNG))["attribution"]
    assert ways.predictions(server, "cxr-attribution", data=PNG, explain=b"true")["attribution"]
    assert server.worker_pids("cxr") == predicting
