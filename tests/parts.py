"""What tests of several folders share: chunks of a PNG, and films that are no part of the repository."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def chunk(kind: bytes, body: bytes) -> bytes:
    """One of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def shared(path: str) -> Path:
    """A file or folder of `../shared/data`, or of CXR_DATA; a skip where it is missing."""
    found = Path(os.environ.get("CXR_DATA", ROOT.parent / "shared" / "data")) / path
    if not found.exists():
        pytest.skip(f"the data folder has no {path} here")
    return found
