"""What a hostile client sends: refused with the right class, in little memory and time."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from cxr.errors import FilmTooLarge
from cxr.film import Limits
from cxr.reading import decode
from tests.handler import films
from tests.handler.films import chest, j2k, picture
from tests.parts import chunk

SIZE = 39_000_000
"""Of a large hostile body; the limit is 40,000,000."""
REFUSED_MEGABYTES = 200
"""Over the body itself, for whatever is refused."""
READ_MEGABYTES = 900
"""For the largest film that is read, 25,000,000 pixels."""
REFUSED_SECONDS = 6

SMALL, SMALL8 = chest(64, 64), chest(64, 64, bits=8)
PLAIN = films.dicom(SMALL)
IMPLICIT = films.dicom(SMALL, uid.ImplicitVRLittleEndian)
BODY = PLAIN.index(b"\x08\x00\x16\x00UI", 140)
PIXELS, IMPLICIT_PIXELS = (data.rindex(b"\xe0\x7f\x10\x00") for data in (PLAIN, IMPLICIT))
UNDEFINED = b"\xff\xff\xff\xff"
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
EMPTY_ITEM = ITEM + bytes(4)
VOI, OTHER = b"\x28\x00\x10\x30SQ\0\0", b"\x40\x00\x75\x02SQ\0\0"


def before_pixels(elements: bytes) -> bytes:
    return PLAIN[:PIXELS] + elements + PLAIN[PIXELS:]


def implicit(elements: bytes) -> bytes:
    return IMPLICIT[:IMPLICIT_PIXELS] + elements + IMPLICIT[IMPLICIT_PIXELS:]


def many_elements() -> bytes:
    count = SIZE // 8
    table = np.zeros(count, np.dtype([("group", "<u2"), ("element", "<u2"), ("vr", "S2"), ("length", "<u2")]))
    numbers = np.arange(count)
    table["group"], table["element"], table["vr"] = 0x29 + 2 * (numbers >> 16), numbers & 0xFFFF, b"LO"
    return table.tobytes()


def deflated() -> bytes:
    whole = films.dicom(SMALL, uid.DeflatedExplicitVRLittleEndian)
    head = whole[: 144 + int.from_bytes(whole[140:144], "little")]
    packer = zlib.compressobj(1, wbits=-15)
    length = 300_000_000
    body = packer.compress(PLAIN[BODY:PIXELS] + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", length))
    return head + body + b"".join(packer.compress(bytes(1 << 20)) for _ in range(length >> 20)) + packer.flush()


def resized(jpeg: bytes, rows: int, columns: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", rows, columns) + jpeg[at + 4 :]


def disguised_jpeg(marker: bytes) -> bytes:
    """A huge frame behind a marker without length: read with one, it leads to a small frame header."""
    small = picture(chest(64, 64, bits=8), "JPEG", quality=50)
    huge = b"\xff\xd8" + marker + resized(small, 65500, 65500)[2:-2]
    landing = 4 + int.from_bytes(huge[4:6], "big")
    at = small.index(b"\xff\xc0")
    return huge + bytes(landing - len(huge)) + small[at : at + 19] + b"\xff\xd9"


def baseline(frame: bytes) -> bytes:
    return films.encapsulated(frame, chest(64, 64, bits=8), uid.JPEGBaseline8Bit, BitsStored=8, HighBit=7)


def jpeg2000(side: int, tile: int, *, style: bytes = b"") -> bytes:
    """A header that announces a film of 25 megapixels or more, around the data of a small one."""
    data = j2k(chest(64, 64, bits=8), level=0)
    data = data[:8] + struct.pack(">8I", side, side, 0, 0, tile, tile, 0, 0) + data[40:]
    if style:
        at = data.index(b"\xff\x52")
        data = data[:at] + style + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    size = min(side, 65000)
    return films.encapsulated(
        data, chest(64, 64, bits=8), uid.JPEG2000Lossless, BitsStored=8, HighBit=7, Rows=size, Columns=size
    )


def coding(precincts: bytes, block: int) -> bytes:
    body = struct.pack(">BBHBBBBBB", bool(precincts), 0, 1, 0, 0, block, block, 0, 1) + precincts
    return struct.pack(">HH", 0xFF52, 2 + len(body)) + body


def rle_bomb() -> bytes:
    runs = (SIZE - 64) // 2
    frame = struct.pack("<16I", 2, 64, 64 + runs // 2 * 2, *[0] * 13) + b"\x81\x00" * runs
    return films.encapsulated(frame, np.zeros((64, 64), np.uint16), uid.RLELossless, Rows=5000, Columns=5000)


def tiff(*entries: tuple[int, int, int, int], body: int = 0, count: int | None = None) -> bytes:
    table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries, key=itemgetter(0)))
    return b"II*\0" + struct.pack("<IH", 8, count or len(entries)) + table + bytes(4) + bytes(body)


def grey_tiff(columns: int, rows: int, *changes: tuple[int, int, int, int], body: int = 9000) -> bytes:
    plain = [(256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200),
             (277, 3, 1, 1), (278, 4, 1, rows), (279, 4, 1, columns * rows)]  # fmt: skip
    changed = {change[0] for change in changes}
    return tiff(*(entry for entry in plain if entry[0] not in changed), *changes, body=body)


def followed(data: bytes, page: bytes) -> bytes:
    """A TIFF of nine entries and a second page."""
    end = 8 + 2 + 12 * 9
    return data[:end] + struct.pack("<I", len(data)) + data[end + 4 :] + page


def behind_many_directories(entry: tuple[int, int, int, int]) -> bytes:
    """The first pointer, which counts for Pillow, to a directory of `entry`; the others to ever other places."""
    others = ((34665, 4, 1, place) for place in range(300, 320))
    data = grey_tiff(64, 64, (34665, 4, 1, SIZE), *others, body=SIZE)[:SIZE]
    return data + tiff(entry)[8:]


def tiff_with_directory(pointer: int, *entries: tuple[int, int, int, int]) -> bytes:
    """A directory at the end, and a pointer to it."""
    data = grey_tiff(64, 64, (pointer, 4, 1, SIZE), body=SIZE)[:SIZE]
    return data + tiff(*entries)[8:]


def exif_bomb() -> bytes:
    count, start = 60000, 8 + 2 + 12 * 60000 + 4
    return tiff(*((tag, 7, 20_000_000 - start, start) for tag in range(1, count + 1)), body=20_000_000 - start)


def jpeg_with_exif_bomb() -> bytes:
    exif, plain = exif_bomb(), picture(chest(64, 64, bits=8), "JPEG")
    parts = (b"Exif\0\0" + exif[at : at + 65000] for at in range(0, len(exif), 65000))
    return plain[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(part)) + part for part in parts) + plain[2:]


def scans() -> bytes:
    data = picture(np.zeros((4900, 4900), np.uint8), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 2000 + b"\xff\xd9"


def zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 1)


def as_pixels(vr: bytes, value: bytes) -> bytes:
    return PLAIN[:PIXELS] + b"\xe0\x7f\x10\x00" + vr + struct.pack("<2xI", len(value)) + value


def first_in_meta(element: bytes, vr: bytes, value: bytes) -> bytes:
    """In place of the file meta information."""
    return PLAIN[:132] + b"\x02\x00" + element + vr + struct.pack("<2xI", len(value)) + value + PLAIN[BODY:]


def fragments(syntax: str, body: bytes) -> bytes:
    ds = films.dataset(SMALL)
    ds.PixelData = body + SEQUENCE_END
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return films.part10(ds, syntax)


LUT_HEAD = b"\x28\x00\x02\x30\x06\0\0\0\x00\x00\x00\x00\x10\x00\x28\x00\x06\x30"
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG header": (lambda: films.png(60000, 60000, idat=zeros(1000)), "FilmTooLarge"),
    "PNG profile": (lambda: films.png(8, 8, chunk(b"iCCP", b"x\0\0" + zeros(200_000_000))), "UnreadableImage"),
    "PNG text": (lambda: films.png(8, 8, chunk(b"zTXt", b"x\0\0" + zeros(200_000_000))), "UnreadableImage"),
    "PNG texts": (
        lambda: films.png(8, 8, *(chunk(b"zTXt", b"%d\0\0" % n + zeros(1_000_000)) for n in range(200))),
        "UnreadableImage",
    ),
    "PNG pixels": (lambda: films.png(8, 8, idat=zeros(200_000_000)), "read (8, 8)"),
    "PNG EXIF": (lambda: films.png(8, 8, chunk(b"eXIf", exif_bomb()), idat=zeros(72)), "read (8, 8)"),
    "PNG chunks": (lambda: films.png(8, 8, chunk(b"prVt", b"") * (SIZE // 12), idat=zeros(72)), "FilmTooLarge"),
    "TIFF numbers": (lambda: grey_tiff(64, 64, (282, 5, SIZE // 8, 300), body=SIZE), "FilmTooLarge"),
    "TIFF sample formats": (lambda: grey_tiff(64, 64, (339, 3, SIZE // 2, 300), body=SIZE), "FilmTooLarge"),
    "TIFF signed bytes": (lambda: grey_tiff(64, 64, (40000, 6, SIZE, 300), body=SIZE), "FilmTooLarge"),
    "TIFF EXIF": (lambda: tiff_with_directory(34665, (33434, 5, 4_000_000, 300)), "FilmTooLarge"),
    "TIFF GPS": (lambda: tiff_with_directory(34853, *((tag, 5, 100_000, 300) for tag in range(100, 140))), "FilmTooLarge"),
    "TIFF EXIF over one another": (
        lambda: tiff_with_directory(34665, *((tag, 7, SIZE - 1000, 300) for tag in range(100, 600))), "FilmTooLarge",
    ),
    "TIFF EXIF behind many": (lambda: behind_many_directories((33434, 5, 4_000_000, 300)), "FilmTooLarge"),
    "TIFF second page": (
        lambda: followed(grey_tiff(64, 64, body=SIZE), tiff((256, 4, 1, 64), (258, 3, 15_000_000, 300))[8:]), "FilmTooLarge",
    ),
    "TIFF header": (lambda: grey_tiff(60000, 60000), "FilmTooLarge"),
    "TIFF tile": (
        lambda: grey_tiff(64, 64, (322, 4, 1, 60000), (323, 4, 1, 60000), (324, 4, 1, 200), (325, 4, 1, 99), (259, 3, 1, 8)),
        "FilmTooLarge",
    ),
    "TIFF strips": (lambda: grey_tiff(64, 64, (273, 4, 9_500_000, 300), body=SIZE), "FilmTooLarge"),
    "TIFF tiles": (
        lambda: grey_tiff(5000, 5000, (322, 4, 1, 1), (323, 4, 1, 1), (324, 4, 9_500_000, 300), body=SIZE),
        "FilmTooLarge",
    ),
    "TIFF bits": (lambda: grey_tiff(64, 64, (258, 3, 19_000_000, 300), body=SIZE), "FilmTooLarge"),
    "TIFF directory": (
        lambda: tiff(*((tag, 7, 30_000_000, 800_000) for tag in range(65535)), body=38_000_000), "FilmTooLarge",
    ),
    "JPEG header": (lambda: resized(picture(SMALL.astype(np.uint8), "JPEG"), 65500, 65500), "FilmTooLarge"),
    "JPEG EXIF": (jpeg_with_exif_bomb, "read (64, 64)"),
    "JPEG segments": (lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * (SIZE // 4) + picture(SMALL8, "JPEG")[2:], "UnreadableImage"),
    "JPEG fill bytes": (lambda: b"\xff\xd8" + b"\xff" * SIZE + picture(SMALL8, "JPEG")[2:], "UnreadableImage"),
    "DICOM JPEG segments": (
        lambda: baseline(b"\xff\xd8" + b"\xff\xfe\0\2" * (SIZE // 4) + picture(SMALL8, "JPEG")[2:]), "UnreadableImage",
    ),
    "JPEG scans": (scans, "FilmTooLarge"),
    "DICOM header": (lambda: films.dicom(SMALL, Rows=65000, Columns=65000), "FilmTooLarge"),
    "DICOM deflated": (deflated, "FilmTooLarge"),
    "DICOM RLE": (rle_bomb, "UnreadableImage"),
    "DICOM JPEG": (lambda: baseline(resized(picture(SMALL.astype(np.uint8), "JPEG"), 65500, 65500)), "FilmTooLarge"),
    "DICOM JPEG behind TEM": (lambda: baseline(disguised_jpeg(b"\xff\x01")), "UnreadableImage"),
    "DICOM JPEG behind RST": (lambda: baseline(disguised_jpeg(b"\xff\xd0")), "UnreadableImage"),
    "DICOM JPEG 2000": (lambda: jpeg2000(60000, 60000), "FilmTooLarge"),
    "DICOM JPEG 2000 tiles": (lambda: jpeg2000(5000, 20), "FilmTooLarge"),
    "DICOM JPEG 2000 precincts": (lambda: jpeg2000(5000, 5000, style=coding(b"\x00", 4)), "FilmTooLarge"),
    "DICOM JPEG 2000 blocks": (lambda: jpeg2000(5000, 5000, style=coding(b"", 0)), "FilmTooLarge"),
    "DICOM items": (lambda: before_pixels(VOI + UNDEFINED + EMPTY_ITEM * (SIZE // 8) + SEQUENCE_END), "FilmTooLarge"),
    "DICOM items elsewhere": (
        lambda: before_pixels(OTHER + UNDEFINED + EMPTY_ITEM * (SIZE // 8) + SEQUENCE_END), "FilmTooLarge",
    ),
    "DICOM items counted": (
        lambda: before_pixels(VOI + struct.pack("<I", SIZE // 8 * 8) + EMPTY_ITEM * (SIZE // 8)), "FilmTooLarge",
    ),
    "DICOM nesting": (lambda: before_pixels((OTHER + UNDEFINED + ITEM + UNDEFINED) * (SIZE // 20)), "UnreadableImage"),
    "DICOM elements": (lambda: before_pixels(many_elements()), "FilmTooLarge"),
    "DICOM elements in an item": (
        lambda: before_pixels(VOI + UNDEFINED + ITEM + UNDEFINED + many_elements() + ITEM_END + SEQUENCE_END), "FilmTooLarge",
    ),
    "DICOM pixels as items": (lambda: as_pixels(b"SQ", EMPTY_ITEM * (SIZE // 8)), "UnreadableImage"),
    "DICOM pixels as texts": (lambda: as_pixels(b"UC", b"\\" * SIZE), "UnreadableImage"),
    "DICOM number of frames as items": (
        lambda: before_pixels(b"\x28\x00\x08\x00SQ" + struct.pack("<2xI", 1 << 18) + EMPTY_ITEM * (1 << 15)), "UnreadableImage",
    ),
    "DICOM meta as items": (lambda: first_in_meta(b"\x10\x00", b"SQ", EMPTY_ITEM * (SIZE // 8)), "FilmTooLarge"),
    "DICOM meta as texts": (lambda: first_in_meta(b"\x10\x00", b"UC", b"\\" * SIZE), "FilmTooLarge"),
    "DICOM first of meta": (lambda: first_in_meta(b"\x00\x00", b"UC", b"\\" * SIZE), "FilmTooLarge"),
    "DICOM fragments": (lambda: fragments(uid.JPEGLosslessSV1, EMPTY_ITEM * (SIZE // 8)), "FilmTooLarge"),
    "DICOM RLE fragments": (lambda: fragments(uid.RLELossless, EMPTY_ITEM * (SIZE // 8)), "FilmTooLarge"),
    "DICOM offsets": (
        lambda: fragments(uid.RLELossless, ITEM + struct.pack("<I", SIZE) + bytes(SIZE)), "FilmTooLarge",
    ),
    "DICOM most items": (
        lambda: before_pixels(VOI + struct.pack("<I", 1 << 19) + EMPTY_ITEM * (1 << 16)), "read (64, 64)",
    ),
    "DICOM numbers": (
        lambda: implicit(b"\x28\x00\x51\x10" + struct.pack("<I", SIZE) + b"1\\" * (SIZE // 2)), "FilmTooLarge",
    ),
    "DICOM LUT": (
        lambda: implicit(
            b"\x28\x00\x10\x30" + UNDEFINED + ITEM + UNDEFINED + LUT_HEAD + struct.pack("<I", SIZE) + bytes(SIZE)
            + ITEM_END + SEQUENCE_END
        ),
        "read (64, 64)",  # with a warning: the LUT was not applied
    ),
}  # fmt: skip


def probe(folder: Path, files: dict[str, bytes]) -> dict[str, dict[str, object]]:
    """What `tests.handler.probe` says of each."""
    paths = []
    for number, data in enumerate(files.values()):
        paths.append(folder / str(number))
        paths[-1].write_bytes(data)
    environment = {**os.environ, "PYTHONPATH": f"{films.ROOT}:{films.ROOT / 'handler'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.handler.probe", *map(str, paths)]
    done = subprocess.run(command, env=environment, cwd=films.ROOT, capture_output=True, text=True, check=True)
    for path in paths:
        path.unlink()
    return dict(zip(files, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    folder = tmp_path_factory.mktemp("bombs")
    answers: dict[str, dict[str, object]] = {}
    names = list(BOMBS)
    for start in range(0, len(names), 12):  # a dozen at a time on the disk
        answers |= probe(folder, {name: BOMBS[name][0]() for name in names[start : start + 12]})
    return answers


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_answered_in_little_memory_and_time(name: str, told: dict[str, dict[str, float]]) -> None:
    assert told[name]["outcome"] == BOMBS[name][1]
    assert told[name]["megabytes"] < REFUSED_MEGABYTES
    assert told[name]["seconds"] < REFUSED_SECONDS


def test_every_bomb_fits_the_limit_of_bytes() -> None:
    assert all(len(BOMBS[name][0]()) <= Limits().max_bytes for name in ("DICOM RLE", "DICOM elements", "TIFF strips"))


def test_the_largest_films_are_read_in_bounded_memory(tmp_path: Path) -> None:
    rows = b"\0" + bytes(5000 * 2)
    deep = films.png(5000, 5000, depth=16, idat=zlib.compress(rows * 5000, 1))
    colour = films.png(5000, 5000, colour=6, idat=zlib.compress((b"\0" + bytes(5000 * 4)) * 5000, 1))
    wide = films.tiff(np.zeros((5000, 5000), np.float32), compression="deflate")
    plain = np.tile(np.arange(4000, dtype=np.uint16), (4000, 1))
    answers = probe(tmp_path, {
        "PNG 16": deep, "PNG RGBA": colour, "TIFF float": wide, "DICOM": films.dicom(plain),
        "DICOM JPEG 2000": films.encapsulated(j2k(plain, level=0, reversible=True), plain, uid.JPEG2000Lossless),
    })  # fmt: skip
    assert all(str(answer["outcome"]).startswith("read (") for answer in answers.values())
    assert {name: answer for name, answer in answers.items() if float(str(answer["megabytes"])) > READ_MEGABYTES} == {}


def test_one_byte_over_the_limit_is_refused_before_anything_is_read() -> None:
    with pytest.raises(FilmTooLarge, match="40,000,001 bytes; the limit is 40,000,000"):
        decode(bytes(40_000_001), Limits())
