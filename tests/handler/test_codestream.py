from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest

from cxr.codestream import Frame, j2k_codestream, j2k_frame, jpeg_frame, jpeg_without_metadata, orientation
from tests.handler.films import chest, coloured, j2k, picture

JPEG = picture(chest(bits=8), "JPEG")
J2K = j2k(chest(), level=0)
SOF = JPEG.index(b"\xff\xc0")


@pytest.mark.parametrize(
    ("data", "samples", "precision", "lossless"),
    [
        (JPEG, 1, 8, False),
        (picture(chest(bits=8), "JPEG", progressive=True), 1, 8, False),
        (imagecodecs.jpeg8_encode(chest(), bitspersample=12), 1, 12, False),
        (imagecodecs.jpeg8_encode(chest(bits=16), lossless=True, predictor=7, bitspersample=16), 1, 16, True),
        (imagecodecs.jpegls_encode(chest(bits=16)), 1, 16, True),
        (imagecodecs.jpeg8_encode(coloured(128, 112)), 3, 8, False),
    ],
)
def test_a_jpeg_announces_its_frame(data: bytes, samples: int, precision: int, lossless: bool) -> None:
    assert jpeg_frame(data) == Frame(128, 112, samples, precision, lossless, excessive=False)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("layout", [{}, {"resolutions": 1}, {"mct": False}])
def test_a_jpeg_2000_announces_its_frame(samples: int, layout: dict[str, Any]) -> None:
    data = j2k(chest(bits=8) if samples == 1 else coloured(128, 112), level=0, **layout)
    assert j2k_frame(data) == Frame(128, 112, samples, 8, lossless=False, excessive=False)


def test_fill_bytes_before_a_marker_are_skipped() -> None:
    assert jpeg_frame(JPEG[:SOF] + b"\xff\xff" + JPEG[SOF:]) == jpeg_frame(JPEG)


@pytest.mark.parametrize("marker", [b"\xff\x01", b"\xff\xd0", b"\xff\xd8", b"\xff\x00", b"junk"])
def test_what_decoders_may_skip_differently_is_unreadable(marker: bytes) -> None:
    assert jpeg_frame(JPEG[:2] + marker + JPEG[2:]) is None


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", JPEG[: SOF + 8], b"\xff\xd8" + b"\xff" * 100, bytes(100)])
def test_no_header_is_no_frame(data: bytes) -> None:
    assert jpeg_frame(data) is None
    assert j2k_frame(data) is None


def test_a_second_frame_header_cannot_hide_behind_the_first() -> None:
    huge = JPEG[SOF : SOF + 5] + struct.pack(">HH", 65500, 65500) + JPEG[SOF + 9 : SOF + 13]
    frame = jpeg_frame(JPEG[:SOF] + huge + JPEG[SOF:])
    assert frame is not None and (frame.rows, frame.columns) == (65500, 65500)


def test_more_scans_than_any_encoder_writes_are_excessive() -> None:
    data = picture(chest(bits=8), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    many = jpeg_frame(data[:-2] + scan * 100 + b"\xff\xd9")
    assert many is not None and many.excessive


# --- JPEG 2000 -------------------------------------------------------------------------------------


def resized(data: bytes, side: int, tile: int) -> bytes:
    return data[:8] + struct.pack(">8I", side, side, 0, 0, tile, tile, 0, 0) + data[40:]


def styled(data: bytes, *, layers: int = 1, levels: int = 0, block: int = 4, precincts: bytes = b"") -> bytes:
    """Another COD segment in place of the codestream's own."""
    at = data.index(b"\xff\x52")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    body = struct.pack(">BBHBBBBBB", bool(precincts), 0, layers, 0, levels, block, block, 0, 1) + precincts
    return data[:at] + struct.pack(">HH", 0xFF52, 2 + len(body)) + body + data[end:]


@pytest.mark.parametrize(
    "data",
    [
        resized(J2K, 5000, 20),
        styled(resized(J2K, 5000, 5000), precincts=b"\x00"),
        styled(resized(J2K, 5000, 5000), block=0),
        styled(J2K, layers=65535, precincts=b"\x11"),
    ],
    ids=["tiles", "precincts", "code blocks", "layers"],
)
def test_more_pieces_than_any_film_are_excessive(data: bytes) -> None:
    frame = j2k_frame(data)
    assert frame is not None and frame.excessive


def test_a_style_in_a_tile_header_counts_too() -> None:
    data = resized(J2K, 5000, 5000)
    bad = styled(data, precincts=b"\x00")
    cod = bad[bad.index(b"\xff\x52") :][: 2 + 13]
    sot = data.index(b"\xff\x90")
    length = int.from_bytes(data[sot + 6 : sot + 10], "big") + len(cod)
    moved = data[: sot + 6] + struct.pack(">I", length) + data[sot + 10 : sot + 12] + cod + data[sot + 12 :]
    frame = j2k_frame(moved)
    assert frame is not None and frame.excessive


def test_a_real_film_of_25_megapixels_is_not_excessive() -> None:
    frame = j2k_frame(resized(J2K, 5000, 5000))
    assert frame is not None and not frame.excessive


def test_a_missing_tile_is_no_frame() -> None:
    assert j2k_frame(resized(J2K, 128, 64)) is None


@pytest.mark.parametrize("share", np.linspace(0.05, 0.98, 12))
def test_a_truncated_codestream_is_no_frame(share: float) -> None:
    assert j2k_frame(J2K[: int(len(J2K) * share)]) is None


def test_the_codestream_is_taken_out_of_its_boxes() -> None:
    boxed = imagecodecs.jpeg2k_encode(chest(), level=0, codecformat="jp2")
    assert j2k_frame(boxed) is None
    assert j2k_frame(j2k_codestream(boxed)) is not None


def test_what_is_measured_is_what_is_decoded() -> None:
    real = imagecodecs.jpeg2k_encode(chest(), level=0, codecformat="jp2")
    fake = J2K[:60]
    disguised = real[:12] + struct.pack(">I", 8 + len(fake)) + b"uuid" + fake + real[12:]
    assert j2k_frame(j2k_codestream(disguised)) is None


# --- metadata --------------------------------------------------------------------------------------


def test_metadata_is_left_out_and_exif_handed_over() -> None:
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 1, 6)
    comment = b"\xff\xfe" + struct.pack(">H", 12) + b"DOE^JOHN.."
    data = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif + comment + JPEG[2:]
    bare, found = jpeg_without_metadata(data)
    assert (bare, found) == (JPEG, exif)
    assert orientation(found) == 6


def test_headers_that_change_colours_stay() -> None:
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\0"
    assert adobe in jpeg_without_metadata(JPEG[:2] + adobe + JPEG[2:])[0]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation_is_read_in_both_byte_orders(order: str, value: int) -> None:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}IHHHIHH", 8, 1, 274, 3, 1, value, 0)
    assert orientation(head + entry) == value
