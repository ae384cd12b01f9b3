"""What an intruder would look for: nothing loads a model, and the inference port knows no management."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import requests

from serving.properties import LOOPBACK
from serving.torchserve import TorchServe

pytestmark = pytest.mark.usefixtures("unharmed")
URL = "http://127.0.0.1:9/evil.mar"
CALLS = [
    ("GET", "/models"),
    ("GET", "/models/cxr"),
    ("POST", f"/models?url={URL}"),
    ("PUT", "/models/cxr?min_worker=0"),
    ("PUT", "/models/cxr/1.0/set-default"),
    ("DELETE", "/models/cxr"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("verb", "path"), CALLS)
def test_the_inference_port_knows_no_management(server: TorchServe, verb: str, path: str) -> None:
    answer = requests.request(verb, server.inference_url + path, timeout=30)
    assert 400 <= answer.status_code < 500
    assert "cxr.mar" not in answer.text


def registered(server: TorchServe) -> list[str]:
    models = requests.get(f"{server.management_url}/models", timeout=30).json()["models"]
    return sorted(model["modelName"] for model in models)


@pytest.mark.parametrize("url", [URL, "cxr.mar", "file:///etc/passwd", "../../cxr.mar"])
def test_no_model_can_be_registered(server: TorchServe, url: str) -> None:
    parameters = {"url": url, "model_name": "evil", "initial_workers": "1", "synchronous": "true"}
    answer = requests.post(f"{server.management_url}/models", params=parameters, timeout=30)
    assert 400 <= answer.status_code < 500
    assert registered(server) == ["cxr", "cxr-attribution"]


def test_no_model_can_be_unregistered(server: TorchServe) -> None:
    answer = requests.delete(f"{server.management_url}/models/cxr", timeout=30)
    assert 400 <= answer.status_code < 500
    assert registered(server) == ["cxr", "cxr-attribution"]


@pytest.mark.parametrize("port", ["grpc_inference", "grpc_management"])
def test_no_model_can_be_registered_over_grpc(server: TorchServe, port: str) -> None:
    """RegisterModelRequest by hand: field 5 is model_name, field 9 is url."""
    request = b"\x2a\x04evil" + b"\x4a" + bytes([len(URL)]) + URL.encode()
    method = "/org.pytorch.serve.grpc.management.ManagementAPIsService/RegisterModel"
    address = f"{LOOPBACK}:{getattr(server.ports, port)}"
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(method)(request, timeout=30)
    assert registered(server) == ["cxr", "cxr-attribution"]


def test_nothing_listens_beyond_this_machine(server: TorchServe) -> None:
    """Java's own listening sockets, as the kernel shows them: local address and state 0A, LISTEN."""
    assert server.leader is not None
    lines = [line.split() for line in Path(f"/proc/{server.leader.pid}/net/tcp").read_text().splitlines()[1:]]
    lines += [line.split() for line in Path(f"/proc/{server.leader.pid}/net/tcp6").read_text().splitlines()[1:]]
    own = {f"{port:04X}" for port in vars(server.ports).values()}
    bound = {line[1].rpartition(":")[0] for line in lines if line[3] == "0A" and line[1].rpartition(":")[2] in own}
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    assert bound
    assert bound <= loopback
