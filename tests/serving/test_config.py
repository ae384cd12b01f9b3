from __future__ import annotations

import re
import struct
import zipfile
from base64 import b64encode
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from serving import paths
from serving.properties import listeners, read_properties
from serving.torchserve import TorchServe

PROPERTIES = read_properties(paths.CONFIG)
MODEL_CONFIGS: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((paths.ROOT / "handler" / name).read_text())
    for name in ("model-config.yaml", "model-config-attribution.yaml")
}
READ_BY_THE_LAUNCHER = {"vmargs"}
"""Not a key of Java's: ts/model_server.py reads it, and serving/ in its place."""
OURS = {"handler"}
"""Top-level keys of model-config.yaml that TorchServe hands through to the handler."""
FP32_AS_TEXT = len("-1.17549435E-38,") / 4
"""Characters for each byte of the longest float: TorchServe queues a v2 message as JSON, OpenInferenceProtocolImpl."""
JVM_ITSELF = 256 * 2**20
"""Bytes of heap that TorchServe needs with no request waiting."""


def torchserve_package() -> Path:
    spec = find_spec("ts")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def string_constants(class_name: str) -> set[str]:
    """String constants of one class in TorchServe's jar (Java Virtual Machine Specification, section 4.4)."""
    with zipfile.ZipFile(torchserve_package() / "frontend" / "model-server.jar") as jar:
        code = jar.read(class_name.replace(".", "/") + ".class")
    sizes = {
        3: 4,
        4: 4,
        5: 8,
        6: 8,
        7: 2,
        8: 2,
        9: 4,
        10: 4,
        11: 4,
        12: 4,
        15: 3,
        16: 2,
        17: 4,
        18: 4,
        19: 2,
        20: 2,
    }
    found, position, index = set(), 10, 1
    while index < struct.unpack_from(">H", code, 8)[0]:
        tag = code[position]
        if tag == 1:  # CONSTANT_Utf8
            length = struct.unpack_from(">H", code, position + 1)[0]
            found.add(code[position + 3 : position + 3 + length].decode("utf-8", "replace"))
            position += 3 + length
        else:
            position += 1 + sizes[tag]
        index += 2 if tag in (5, 6) else 1  # a long or double takes two entries
    return found


@pytest.mark.parametrize("key", sorted(set(PROPERTIES) - READ_BY_THE_LAUNCHER))
def test_every_key_of_config_properties_is_one_torchserve_knows(key: str) -> None:
    assert key in string_constants("org.pytorch.serve.util.ConfigManager")


def test_jvm_arguments_go_by_the_launchers_name() -> None:
    assert 'props.get("vmargs")' in (torchserve_package() / "model_server.py").read_text()


@pytest.mark.parametrize("name", sorted(MODEL_CONFIGS))
def test_every_key_of_a_model_config_is_one_torchserve_knows(name: str) -> None:
    known = string_constants("org.pytorch.serve.archive.model.ModelConfig")

    assert set(MODEL_CONFIGS[name]) - OURS <= known


def test_everything_listens_on_loopback_alone() -> None:
    assert {host for _, host, _ in listeners(PROPERTIES)} == {"127.0.0.1"}


def test_no_url_is_allowed() -> None:
    patterns = PROPERTIES["allowed_urls"].split(",")
    urls = [
        "",
        "file:///etc/passwd",
        "https://example.org/model.mar",
        "http://127.0.0.1/x.mar",
        "s3://bucket/x.mar",
    ]

    assert not [url for url in urls for pattern in patterns if re.fullmatch(pattern, url)]


def test_both_registrations_hold_films_to_the_same_limits() -> None:
    limits = [(c["handler"]["max_bytes"], c["handler"]["max_pixels"]) for c in MODEL_CONFIGS.values()]

    assert limits[0] == limits[1]


def test_the_front_end_lets_through_what_the_handler_judges() -> None:
    largest_film = MODEL_CONFIGS["model-config.yaml"]["handler"]["max_bytes"]
    of_16_megapixels = 4000 * 4000 * 2 + 100_000  # with its header

    assert of_16_megapixels < largest_film < int(PROPERTIES["max_request_size"]) - 100_000
    assert int(PROPERTIES["max_request_size"]) > len(b64encode(bytes(of_16_megapixels))) + 100_000


def test_full_queues_fit_the_heap() -> None:
    jobs = sum(c["jobQueueSize"] + c["maxWorkers"] * c["batchSize"] for c in MODEL_CONFIGS.values())
    megabytes = re.search(r"-Xmx(\d+)m", PROPERTIES["vmargs"])
    assert megabytes is not None

    assert jobs * FP32_AS_TEXT * int(PROPERTIES["max_request_size"]) + JVM_ITSELF <= int(megabytes[1]) * 2**20
    assert int(PROPERTIES["job_queue_size"]) == MODEL_CONFIGS["model-config.yaml"]["jobQueueSize"]


def test_a_delay_of_zero_would_be_a_hundred_milliseconds() -> None:
    assert all(config["maxBatchDelay"] > 0 for config in MODEL_CONFIGS.values())


# --- what the running server makes of it ---


def test_java_listens_nowhere_else(server: TorchServe) -> None:
    assert server.leader is not None
    connections = psutil.Process(server.leader.pid).net_connections(kind="inet")
    bound = {(c.laddr.ip.removeprefix("::ffff:"), c.laddr.port) for c in connections if c.status == "LISTEN"}

    assert bound == {(host, port) for _, host, port in listeners(server.properties)}


@pytest.mark.parametrize("port", ["inference_url", "management_url"])
def test_no_client_may_load_or_remove_a_model(server: TorchServe, port: str) -> None:
    url = f"{getattr(server, port)}/models"

    assert requests.post(url, params={"url": "https://example.org/x.mar"}, timeout=10).status_code in (
        404,
        405,
    )
    assert requests.delete(f"{url}/cxr", timeout=10).status_code in (404, 405)
    assert server.worker_pids("cxr")


def test_no_token_is_asked_for(server: TorchServe) -> None:
    assert requests.get(f"{server.inference_url}/ping", timeout=10).json() == {"status": "Healthy"}
    assert not (server.run / "key_file.json").exists()


def test_metrics_are_prometheus(server: TorchServe) -> None:
    answer = requests.get(f"{server.metrics_url}/metrics", timeout=10)

    assert answer.ok
    assert "# TYPE " in answer.text


def test_open_inference_protocol_is_on(server: TorchServe) -> None:
    assert requests.get(f"{server.inference_url}/v2", timeout=10).json()["name"] == "Torchserve"


@pytest.mark.parametrize(
    ("model", "member"),
    [("cxr", "model-config.yaml"), ("cxr-attribution", "model-config-attribution.yaml")],
)
def test_each_registration_runs_by_its_own_yaml(server: TorchServe, model: str, member: str) -> None:
    described = server.describe(model)
    assert described is not None
    wanted = MODEL_CONFIGS[member]

    assert described["jobQueueStatus"]["remainingCapacity"] == wanted["jobQueueSize"]
    for key in ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "deviceType"):
        assert described[key] == wanted[key], key


def test_the_logs_hold_no_addresses_and_no_urls(server: TorchServe) -> None:
    requests.get(f"{server.inference_url}/ping", params={"patient": "Doe^Jane"}, timeout=10)

    assert not (server.log_folder / "access_log.log").exists()
    written = b"".join(path.read_bytes() for path in server.log_folder.iterdir())
    assert b"Doe^Jane" not in written
    assert b"Doe%5EJane" not in written
