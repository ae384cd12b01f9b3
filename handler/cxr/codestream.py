"""Leaf: the size a compressed picture announces, read from its first bytes.

A decoder takes memory for what the codestream says, whatever the DICOM header around it says:
both have to be known before anything is decoded.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""ITU-T T.81 table B.1 without DHT, JPG and DAC."""
LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
JPEG_LS_FRAME = 0xF7
"""ITU-T T.87 C.1.1: SOF55."""
J2K_START = b"\xff\x4f\xff\x51"
"""ITU-T T.800 A.4.1, A.5.1: SOC followed by SIZ."""


class Frame(NamedTuple):
    """What a codestream announces."""

    rows: int
    columns: int
    samples: int
    precision: int
    lossless: bool


def jpeg_frame(data: bytes) -> Frame | None:
    """Of a JPEG (ITU-T T.81) or JPEG-LS (T.87) stream; None if no frame header is found."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in START_OF_FRAME or marker == JPEG_LS_FRAME:
            return _frame_header(data, position, marker)
        if marker in (EOI, SOS):
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _frame_header(data: bytes, position: int, marker: int) -> Frame | None:
    if position + 10 > len(data):
        return None
    precision, rows, columns, samples = struct.unpack_from(">BHHB", data, position + 4)
    return Frame(rows, columns, samples, precision, marker in LOSSLESS or marker == JPEG_LS_FRAME)


def j2k_frame(data: bytes) -> Frame | None:
    """Of a JPEG 2000 codestream (ITU-T T.800 A.5.1), bare or in a JP2 box."""
    start = data.find(J2K_START)
    if start < 0 or start + 43 > len(data):
        return None
    width, height, left, top = struct.unpack_from(">4I", data, start + 8)
    samples, precision = struct.unpack_from(">HB", data, start + 40)
    return Frame(height - top, width - left, samples, (precision & 0x7F) + 1, lossless=False)
