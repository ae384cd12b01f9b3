from __future__ import annotations

import re
from dataclasses import astuple
from pathlib import Path

import pytest

from serving import paths
from serving.errors import CannotStart
from serving.properties import (
    WORKER_PORTS,
    Ports,
    free_ports,
    listeners,
    reachable,
    read_properties,
    write_properties,
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    entries = {"model_store": "/a folder/with=equals", "vmargs": "-Xmx1g -Dx=y"}
    write_properties(tmp_path / "p", entries)

    assert read_properties(tmp_path / "p") == entries


def test_java_reads_other_letters_as_escapes(tmp_path: Path) -> None:
    write_properties(tmp_path / "p", {"model_store": "/Röntgen/🩻"})

    assert (tmp_path / "p").read_bytes() == rb"model_store=/R\u00f6ntgen/\ud83e\ude7b" + b"\n"


def test_a_line_that_is_no_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("# comment\n\nkey=value\nno entry\n")

    with pytest.raises(CannotStart, match="line 4"):
        read_properties(tmp_path / "p")


def test_the_documented_ports() -> None:
    assert Ports.of(read_properties(paths.CONFIG)) == Ports(8080, 8081, 8082, 7070, 7071, worker=9000)


def test_ports_move_together_and_keep_their_hosts() -> None:
    properties = {"inference_address": "http://0.0.0.0:80", "grpc_inference_address": "0.0.0.0"}
    moved = properties | Ports.of(properties).shifted(100).entries(properties)

    assert moved["inference_address"] == "http://0.0.0.0:180"
    assert moved["management_address"] == "http://127.0.0.1:8181"
    assert ("grpc_inference_port", "0.0.0.0", 7170) in listeners(moved)
    assert reachable("0.0.0.0") == "127.0.0.1"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inference_address", "http://127.0.0.1:80x"), ("inference_address", "http://[::1:8080"),
        ("metrics_address", "http://127.0.0.1:808200"), ("grpc_inference_port", "7070x"),
        ("grpc_inference_address", "http://[::1"), ("initial_worker_port", ""),
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_named(key: str, value: str) -> None:
    with pytest.raises(CannotStart, match=f"{re.escape(key)}={re.escape(value)} names no (port|host): correct it"):
        listeners({key: value})


def test_free_ports_differ_and_leave_room_for_workers() -> None:
    ports = free_ports()

    assert len(set(astuple(ports))) == 6
    assert not set(astuple(ports)[:5]) & set(range(ports.worker, ports.worker + WORKER_PORTS))
    assert ports.worker + WORKER_PORTS <= 65536
