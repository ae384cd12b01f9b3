"""What tests of several folders share: an archive's parts, chunks of a PNG, films that are no part of the repository."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import yaml

from cxr.network import LoadedNetwork
from cxr.reading import Reader
from cxr.settings import Settings

ROOT = Path(__file__).parent.parent


def extracted(archive: Path, folder: Path) -> Path:
    """An archive's TorchScript file."""
    with zipfile.ZipFile(archive) as opened:
        return Path(opened.extract("model.pt", folder))


def reader_of(archive: Path, loaded: LoadedNetwork) -> Reader:
    """`loaded` behind the reading of films, within the archive's limits."""
    with zipfile.ZipFile(archive) as opened:
        settings = Settings.from_yaml(yaml.safe_load(opened.read("model-config.yaml"))["handler"])
    return Reader(loaded, settings.limits)


def chunk(kind: bytes, body: bytes) -> bytes:
    """One of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def shared(path: str) -> Path:
    """A file or folder of `../shared/data`, or of CXR_DATA; a skip where it is missing."""
    found = Path(os.environ.get("CXR_DATA", ROOT.parent / "shared" / "data")) / path
    if not found.exists():
        pytest.skip(f"the data folder has no {path} here")
    return found
