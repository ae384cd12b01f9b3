from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from client import GrpcClient, RestClient, RetryPolicy
from cxr import network
from cxr.reading import Explain, Reader, Request
from cxr.settings import Settings
from serving.torchserve import REGISTRATIONS, TorchServe

ONCE = RetryPolicy(attempts=1)
TIMEOUT_S = 600.0


@pytest.fixture
def unharmed(server: TorchServe) -> Iterator[None]:
    """No worker died meanwhile."""
    before = {model: server.worker_pids(model) for model in REGISTRATIONS}
    yield
    assert {model: server.worker_pids(model) for model in REGISTRATIONS} == before


@pytest.fixture(scope="session")
def reader(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The archive's network behind the reading that training uses too, in this process."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())
    settings = Settings.from_yaml(yaml.safe_load((folder / "model-config.yaml").read_text())["handler"])
    loaded = network.load(folder / manifest["model"]["serializedFile"])
    return Reader(loaded, settings.limits)


@pytest.fixture(scope="session")
def expected(reader: Reader) -> Callable[..., dict[str, Any]]:
    """The answer to one film, or prepared tensor, computed without a server."""
    known: dict[tuple[int, Explain | None], dict[str, Any]] = {}

    def answer(film: bytes | torch.Tensor, explain: Explain | None = None) -> dict[str, Any]:
        key = (hash(film), explain)
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
