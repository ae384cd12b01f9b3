"""TorchServe's config.properties: read, given its ports, written for one run."""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from serving.errors import CannotStart

LOOPBACK = "127.0.0.1"
WORKER_PORTS = 16
"""Consecutive `initial_worker_port`s kept free for one run. On Linux they only name socket files."""


def read_properties(path: Path) -> dict[str, str]:
    """The `key=value` lines of a file; no continuation lines and no escapes, which this project does not use.

    Raises CannotStart for a line that is neither that nor a comment: Java would make a key of it.
    """
    properties = {}
    for number, line in enumerate(_text_of(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith(("#", "!")):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise CannotStart(f"{path}, line {number} is no `key=value`: correct it or make it a comment.")
        properties[key.strip()] = value.strip()
    return properties


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CannotStart(f"{path} is no UTF-8 text: name a config.properties with CONFIG=<file>.") from None


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """One `key=value` a line, in ASCII: Java reads Latin-1, and UTF-16 escapes for everything else."""
    lines = [f"{key}={_escaped(value)}\n" for key, value in properties.items()]
    path.write_text("".join(lines), encoding="ascii")


def _escaped(value: str) -> str:
    units = (value[i : i + 1].encode("utf-16-be") for i in range(len(value)))
    return "".join(
        u[1:].decode("ascii") if u[0] == 0 and u[1] < 128 else re.sub("(....)", r"\\u\1", u.hex()) for u in units
    )


@dataclass(frozen=True)
class Ports:
    """Everything that TorchServe listens on. `worker` is the first of one per worker process."""

    inference: int
    management: int
    metrics: int
    grpc_inference: int
    grpc_management: int
    worker: int

    @staticmethod
    def of(properties: Mapping[str, str]) -> Ports:
        """Ports named in the file, TorchServe's own defaults for the others (its ConfigManager).

        Raises CannotStart for what is no port.
        """
        return Ports(
            inference=_port_of(properties, "inference_address", 8080),
            management=_port_of(properties, "management_address", 8081),
            metrics=_port_of(properties, "metrics_address", 8082),
            grpc_inference=_port_of(properties, "grpc_inference_port", 7070),
            grpc_management=_port_of(properties, "grpc_management_port", 7071),
            worker=_port_of(properties, "initial_worker_port", 9000),
        )

    def shifted(self, offset: int) -> Ports:
        """Each port moved by the same number: a second instance beside the first."""
        return Ports(**{name: port + offset for name, port in dataclasses.asdict(self).items()})

    def entries(self, properties: Mapping[str, str]) -> dict[str, str]:
        """The entries of config.properties that name these ports, at the hosts the file has."""
        return {
            "inference_address": f"http://{host_of(properties, 'inference_address')}:{self.inference}",
            "management_address": f"http://{host_of(properties, 'management_address')}:{self.management}",
            "metrics_address": f"http://{host_of(properties, 'metrics_address')}:{self.metrics}",
            "grpc_inference_port": str(self.grpc_inference),
            "grpc_management_port": str(self.grpc_management),
            "initial_worker_port": str(self.worker),
        }


def host_of(properties: Mapping[str, str], key: str) -> str:
    """Host that the address `key` binds, e.g. of `management_address` or `grpc_inference_address`."""
    value = properties.get(key, LOOPBACK)
    try:
        return (urlsplit(value).hostname if "//" in value else value) or LOOPBACK
    except ValueError:
        raise CannotStart(f"{key}={value} names no host: correct it in config.properties.") from None


def reachable(host: str) -> str:
    """Where a client on this machine finds a server bound to `host`: 0.0.0.0 is no place to connect to."""
    return LOOPBACK if host in ("0.0.0.0", "::", "") else host


def listeners(properties: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """(key, host, port) of every address in the file that TorchServe will bind."""
    ports = Ports.of(properties)
    return [
        ("inference_address", host_of(properties, "inference_address"), ports.inference),
        ("management_address", host_of(properties, "management_address"), ports.management),
        ("metrics_address", host_of(properties, "metrics_address"), ports.metrics),
        ("grpc_inference_port", host_of(properties, "grpc_inference_address"), ports.grpc_inference),
        ("grpc_management_port", host_of(properties, "grpc_management_address"), ports.grpc_management),
    ]


def free_ports() -> Ports:
    """Ports that nothing listened on a moment ago, for instances side by side.

    All are held at once while they are picked, so that they differ; between the return and TorchServe's bind
    another process may still take one, which shows as StartFailed.
    """
    with ExitStack() as held:
        a, b, c, d, e = (_held_port(held) for _ in range(5))
        return Ports(a, b, c, d, e, worker=_free_run(held, WORKER_PORTS))


def _held_port(held: ExitStack, port: int = 0) -> int:
    listener = held.enter_context(socket.socket())
    listener.bind((LOOPBACK, port))
    return int(listener.getsockname()[1])


def _free_run(held: ExitStack, count: int) -> int:
    """First of `count` consecutive free ports."""
    while True:
        first = _held_port(held)
        try:
            for port in range(first + 1, first + count):
                _held_port(held, port)
        except (OSError, OverflowError):  # taken, or beyond 65535
            continue
        return first


def _port_of(properties: Mapping[str, str], key: str, default: int) -> int:
    value = properties.get(key, str(default))
    try:
        return (urlsplit(value).port or default) if key.endswith("_address") else int(value)
    except ValueError:
        raise CannotStart(f"{key}={value} names no port: correct it in config.properties.") from None
