"""A server without a worker: every protocol says so at once, and goes on saying so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import requests

from client import GrpcClient, NoCapacity, RestClient
from serving.properties import free_ports
from serving.torchserve import REGISTRATIONS, TorchServe
from tests.server import ways
from tests.server.conftest import ONCE
from tests.server.films import PNG
from tests.server.ways import EXPLAIN, OVERLAY, PREDICT

TIMES = 3
PATIENCE_S = 180.0
SAYS = " has no worker to serve inference request"


@pytest.fixture(scope="module")
def idle(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """Both registrations, scaled down to no worker as soon as the server listens."""
    one = {"minWorkers": 1, "maxWorkers": 1}  # TorchServe takes no 0 from a file
    idle = TorchServe(tmp_path_factory.mktemp("idle"), archive=archive, ports=free_ports(), models={"cxr": one})
    try:
        idle.start()
        deadline = time.monotonic() + PATIENCE_S
        while idle.describe("cxr-attribution") is None:
            assert time.monotonic() < deadline, "TorchServe does not listen"
            time.sleep(0.1)
        for model in REGISTRATIONS:
            scaled = {"min_worker": 0, "max_worker": 0, "synchronous": "true"}
            requests.put(f"{idle.management_url}/models/{model}", params=scaled, timeout=PATIENCE_S).raise_for_status()
            assert (idle.describe(model) or {})["workers"] == []
        yield idle
    finally:
        idle.stop()


@pytest.mark.parametrize("path", [PREDICT, EXPLAIN, OVERLAY])
def test_rest_answers_503(idle: TorchServe, path: str) -> None:
    for _ in range(TIMES):
        answer = ways.post(idle, path, PNG)
        assert (answer.status_code, answer.json()["type"]) == (503, "ServiceUnavailableException")
        assert SAYS in answer.json()["message"]


def test_grpc_answers_internal(idle: TorchServe) -> None:
    for _ in range(TIMES):
        with pytest.raises(grpc.RpcError) as caught:
            ways.predictions(idle, data=PNG)
        assert caught.value.code() == grpc.StatusCode.INTERNAL
        assert SAYS in caught.value.details()


def test_v2_answers_as_the_others_do(idle: TorchServe) -> None:
    for _ in range(TIMES):
        assert ways.infer(idle, {"inputs": [ways.images([PNG])]}).status_code == 503
        with pytest.raises(grpc.RpcError) as caught:
            ways.model_infer(idle, [ways.images([PNG])])
        assert caught.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("model", REGISTRATIONS)
def test_the_clients_raise_the_same_exception(idle: TorchServe, model: str) -> None:
    for service in (
        RestClient(idle.inference_url, retry=ONCE, model=model),
        GrpcClient(idle.grpc_target, retry=ONCE, model=model),
    ):
        with service:
            for ask in (service.predict, service.explain, lambda film: service.infer_v2([film])):  # noqa: B023
                with pytest.raises(NoCapacity) as caught:
                    ask(PNG)
                assert caught.value.status == 503
    assert idle.is_running()
