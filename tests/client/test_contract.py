from __future__ import annotations

import pytest
import yaml

from client.contract import MAX_REQUEST_BYTES, MODEL, SLOW_METHODS, is_loopback, model_for, timeout_for
from client.rpc import _ENVELOPE_BYTES
from serving import paths
from serving.archive import CONFIG_MEMBERS
from serving.properties import read_properties


def configuration(model: str) -> dict[str, object]:
    return dict(yaml.safe_load((paths.ROOT / "handler" / CONFIG_MEMBERS[model]).read_text()))


@pytest.mark.parametrize("method", [None, "true", "grad_cam", *sorted(SLOW_METHODS)])
def test_a_call_waits_as_long_as_the_server_works(method: str | None) -> None:
    assert timeout_for(method, None) == configuration(model_for(method, MODEL))["responseTimeout"]
    assert timeout_for(method, 3.0) == 3.0


def test_a_connection_that_is_to_end_lets_the_slowest_call_end_first() -> None:
    grace_ms = int(read_properties(paths.CONFIG)["grpc_inference_max_connection_age_grace_ms"])

    assert grace_ms / 1000 > max(timeout_for(method, None) for method in SLOW_METHODS)


def test_what_the_client_sends_the_front_end_takes_and_the_handler_judges() -> None:
    front_end = int(read_properties(paths.CONFIG)["max_request_size"])
    handler = configuration(MODEL)["handler"]
    assert isinstance(handler, dict)

    assert handler["max_bytes"] < MAX_REQUEST_BYTES
    assert front_end > MAX_REQUEST_BYTES + _ENVELOPE_BYTES


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.0.1.1", True), ("::1", True),
        ("cxr.example", False), ("10.0.0.1", False), ("", False), (None, False),
    ],
)  # fmt: skip
def test_which_hosts_are_this_machine(host: str | None, own: bool) -> None:
    assert is_loopback(host) is own
