"""Checks before anything is started: each failure is one sentence that says what to do.

Standard library only: the Makefile runs `python3 -m serving.preflight` before there is a virtual environment.
"""

from __future__ import annotations

import argparse
import errno
import shutil
import socket
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from serving.errors import CannotStart, ServingError
from serving.properties import listeners

RUN_SPACE_GB = 0.5
"""Two unpacked archives and rotating logs."""


def check_archive(archive: Path) -> None:
    """The model archive is there and is a whole zip file with a manifest."""
    if not archive.is_file():
        raise CannotStart(f"{archive} is missing: build it with `make archive`, or name another with ARCHIVE=<file>.")
    if not zipfile.is_zipfile(archive):
        raise CannotStart(f"{archive} is no model archive (not a zip file): build it anew with `make archive`.")
    with zipfile.ZipFile(archive) as source:
        if "MAR-INF/MANIFEST.json" not in source.namelist():
            raise CannotStart(f"{archive} has no MAR-INF/MANIFEST.json: build it anew with `make archive`.")


def check_ports(properties: Mapping[str, str]) -> None:
    """Nothing else listens where TorchServe is going to."""
    for key, host, port in listeners(properties):
        if not 0 < port < 65535:  # TorchServe's own bounds, Connector.parse
            raise CannotStart(f"{port} is no port: correct {key} in config.properties, or PORT_OFFSET.")
        if _is_taken(host, port):
            raise CannotStart(
                f"Port {port} is in use: stop what listens there, change {key} in config.properties, "
                "or move every port with PORT_OFFSET=100."
            )


def check_space(folder: Path, gigabytes: float, remedy: str) -> None:
    """The disk under `folder` (or its nearest existing parent) has so much room left."""
    existing = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < gigabytes:
        raise CannotStart(f"{free:.1f} GB are free under {existing}, {gigabytes:g} GB are needed: {remedy}")


def check_file(properties: Mapping[str, str], key: str) -> None:
    """A file that config.properties names exists; TorchServe would only log that it does not."""
    if key in properties and not Path(properties[key]).is_file():
        raise CannotStart(f"{properties[key]} is missing: correct {key} in config.properties.")


def _is_taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        # As TorchServe binds: a port whose last connections are still closing is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return True
            raise CannotStart(f"{host}:{port} cannot be bound ({error.strerror}): correct its address.") from None
    return False


def main(arguments: list[str] | None = None) -> int:
    """`python3 -m serving.preflight <folder> <gigabytes>`: room for the virtual environment?"""
    parser = argparse.ArgumentParser(prog="serving.preflight", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("gigabytes", type=float)
    chosen = parser.parse_args(arguments)
    try:
        check_space(chosen.folder, chosen.gigabytes, "free some space, or install a CPU-only torch (TORCH_INDEX).")
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
