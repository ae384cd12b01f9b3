"""Leaf: what a compressed picture announces, read from its headers.

A decoder takes memory and time for what the codestream says, whatever the DICOM header around it says:
both have to be known before anything is decoded. Where a decoder could understand a header differently
from this file, the header counts as unreadable.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

# ITU-T T.81 table B.1
SOI, EOI, SOS, APP0, APP1, APP14, APP15, COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Without DHT, JPG and DAC."""
WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, SOS)}
"""Stuffing, TEM, RST, SOI and EOI: two bytes, nothing behind them to jump over."""
LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
JPEG_LS_FRAME = 0xF7
"""ITU-T T.87 C.1.1: SOF55."""
MAX_SCANS = 64
"""Every scan of a progressive JPEG goes over the whole picture; encoders write about ten."""
MAX_SEGMENTS = 1 << 12
"""Segments and fill bytes before the first scan; 40 MB of the longest segments are 600."""
EXIF = b"Exif\0\0"

MAX_CHUNKS = 1 << 14
"""Of a PNG; 40 MB in the chunks of 8 KB that libpng writes are 5,000."""

# TIFF 6.0
TIFF_SHORT, ORIENTATION = 3, 274
DIRECTORIES = (34665, 34853, 40965)
"""Tags that point to further directories, EXIF 2.32: EXIF, GPS, interoperability."""
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
BYTES = (1, 2, 7)
"""BYTE, ASCII, UNDEFINED: kept as they are; of each value of another type Pillow makes an object."""
MAX_NUMBERS = 1 << 17
"""Numbers in one directory: offsets and lengths of 65,536 strips or tiles."""
MAX_DIRECTORIES = 8

# ITU-T T.800 table A.2
SOC, SOT, SOD, EOC, SIZ, COD, COC = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9, 0xFF51, 0xFF52, 0xFF53
J2K_START = struct.pack(">2H", SOC, SIZ)
CUSTOM_PRECINCTS = 1
"""Bit of Scod and Scoc, table A.13."""
MAX_TILES = 1 << 10
MAX_PIECES = 1 << 19
"""Code blocks and precincts, times layers: a decoder keeps records of each. A 5000 x 5000 film has about 8,000."""


class Frame(NamedTuple):
    """What a codestream announces."""

    rows: int
    columns: int
    samples: int
    precision: int
    lossless: bool
    excessive: bool
    """Cut into more scans, tiles, precincts or layers than any film: an attack on a decoder's memory or time."""


# --- JPEG and JPEG-LS ------------------------------------------------------------------------------


class Segment(NamedTuple):
    """A marker segment: `data[start:end]` with its marker and length."""

    marker: int
    start: int
    end: int


def jpeg_segments(data: bytes) -> Iterator[Segment]:
    """Those before the first scan, the last one reaching from SOS to the end; ends early at anything odd."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        if position + 4 > len(data) or data[position] != 0xFF:
            return
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in WITHOUT_LENGTH:
            return
        if marker == SOS:
            yield Segment(SOS, position, len(data))
            return
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        yield Segment(marker, position, end)
        position = end


def jpeg_frame(data: bytes) -> Frame | None:
    """Of a JPEG (ITU-T T.81) or JPEG-LS (T.87) stream; None if no frame header is found."""
    for segment in jpeg_segments(data):
        if segment.marker in START_OF_FRAME or segment.marker == JPEG_LS_FRAME:
            return _frame_header(data, segment)
    return None


def _frame_header(data: bytes, segment: Segment) -> Frame | None:
    if segment.start + 10 > len(data):
        return None
    precision, rows, columns, samples = struct.unpack_from(">BHHB", data, segment.start + 4)
    lossless = segment.marker in LOSSLESS or segment.marker == JPEG_LS_FRAME
    excessive = data.count(bytes((0xFF, SOS))) > MAX_SCANS
    return Frame(rows, columns, samples, precision, lossless, excessive)


def jpeg_names_its_colours(data: bytes) -> bool:
    """Whether a JFIF or Adobe header says what the components are."""
    return any(segment.marker in (APP0, APP14) for segment in jpeg_segments(data))


def jpeg_without_metadata(data: bytes) -> tuple[bytes, bytes]:
    """The JPEG with nothing but what its pixels need (JFIF and Adobe headers stay), and its EXIF block.

    Thumbnails, profiles and previews of any size and nesting never reach a parser. No EXIF: empty.
    """
    segments = list(jpeg_segments(data))
    kept = b"".join(data[part.start : part.end] for part in segments if not _is_metadata(part.marker))
    blocks = (data[part.start + 4 : part.end] for part in segments if part.marker == APP1)
    exif = next((block[len(EXIF) :] for block in blocks if block.startswith(EXIF)), b"")
    return data[:2] + kept, exif


def _is_metadata(marker: int) -> bool:
    return marker == COM or (APP0 < marker <= APP15 and marker != APP14)


# --- TIFF, and EXIF, which is one ------------------------------------------------------------------


class Entry(NamedTuple):
    """Of a TIFF directory: type, number and (first) value or offset of a tag's values."""

    tag: int
    kind: int
    number: int
    value: int


def tiff_directory(data: bytes) -> dict[int, Entry]:
    """The first directory, as far as it can be read."""
    return {entry.tag: entry for entry in _tiff_entries(data, _tiff_start(data))[0]}


def tiff_is_excessive(data: bytes) -> bool:
    """Whether what Pillow reads has more directories or numbers than any film's, or values that lie over one another.

    Of further pages only the second is read: a film has none.
    """
    first = _tiff_start(data)
    waiting, seen = [first], set[int]()
    while waiting:
        start = waiting.pop()
        if start in seen:
            continue
        seen.add(start)
        entries, following = _tiff_entries(data, start)
        numbers = sum(entry.number for entry in entries if entry.kind not in BYTES)
        size = sum(entry.number * SIZES.get(entry.kind, 0) for entry in entries)
        if len(seen) > MAX_DIRECTORIES or numbers > MAX_NUMBERS or size > len(data) + MAX_NUMBERS:
            return True
        waiting += [entry.value for entry in entries if entry.tag in DIRECTORIES]
        waiting += [following] if start == first and following else []
    return False


def _tiff_start(data: bytes) -> int:
    return int.from_bytes(data[4:8], "big" if data.startswith(b"MM") else "little")


def _tiff_entries(data: bytes, start: int) -> tuple[list[Entry], int]:
    """Those of the directory at `start`, as far as they can be read, and where the next directory is; 0: nowhere."""
    order = ">" if data.startswith(b"MM\0*") else "<"
    entries: list[Entry] = []
    try:
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for position in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", data, position)
            layout = f"{order}H" if kind == TIFF_SHORT else f"{order}I"
            entries.append(Entry(tag, kind, values, *struct.unpack_from(layout, data, position + 8)))
        return entries, int(struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)[0])
    except struct.error:
        return entries, 0


def orientation(exif: bytes) -> int:
    """EXIF 2.32, 4.6.4 A, tag 274: 1..8; 1, upright, where none can be read."""
    entry = tiff_directory(exif).get(ORIENTATION)
    return entry.value if entry is not None and 1 <= entry.value <= 8 else 1


# --- PNG -------------------------------------------------------------------------------------------


def png_is_excessive(data: bytes) -> bool:
    """Whether a PNG (ISO/IEC 15948, 5.3) is cut into more than MAX_CHUNKS; what follows its end counts for nothing."""
    position = 8
    for _ in range(MAX_CHUNKS):
        if position >= len(data) or data[position + 4 : position + 8] == b"IEND":
            return False
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return position < len(data)


# --- JPEG 2000 -------------------------------------------------------------------------------------


def j2k_codestream(data: bytes) -> bytes:
    """The bare codestream, taken out of its JP2 boxes where there are any (PS3.5 A.4.4 forbids them)."""
    return data[max(data.find(J2K_START), 0) :]


def j2k_frame(data: bytes) -> Frame | None:
    """Of a JPEG 2000 codestream (ITU-T T.800 annex A); None if it is no such, or incomplete."""
    try:
        return _j2k_frame(data)
    except (struct.error, ZeroDivisionError, IndexError):
        return None


def _j2k_frame(data: bytes) -> Frame | None:
    if not data.startswith(J2K_START):
        return None
    right, lower, left, top, tile_width, tile_height, tile_left, tile_top = struct.unpack_from(">8I", data, 8)
    samples, precision = struct.unpack_from(">HB", data, 40)
    tiles = ceil((right - tile_left) / tile_width) * ceil((lower - tile_top) / tile_height)
    frame = Frame(lower - top, right - left, samples, (precision & 0x7F) + 1, False, tiles > MAX_TILES)
    if frame.excessive:
        return frame
    present: set[int] = set()
    pieces, layers = 0, 1
    for marker, start, tile in _j2k_segments(data):
        if marker == SOT:
            present.add(tile)
        elif marker == COD:
            layers = max(layers, int.from_bytes(data[start + 6 : start + 8], "big"))
            pieces = max(pieces, _pieces(frame, data, data[start + 4], start + 9))
        elif marker == COC:  # the component's index takes two bytes where there are many
            wide = samples > 256
            pieces = max(pieces, _pieces(frame, data, data[start + 5 + wide], start + 6 + wide))
    if len(present) != tiles:
        return None
    return frame._replace(excessive=pieces * layers > MAX_PIECES)


def _j2k_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, tile) of the main header, tile -1, and of every tile-part header; struct.error if broken."""
    position, tile, next_part = 2, -1, 0
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">2H", data, position)
        if marker == EOC:
            return
        if marker == SOD:
            position = next_part
            continue
        if not SIZ - 1 <= marker <= SOT or length < 2:
            raise struct.error("not a marker segment")
        if marker == SOT:
            tile, part = struct.unpack_from(">HI", data, position + 4)
            next_part = position + part if part else len(data) - 2  # 0: up to EOC
            if not position + 12 <= next_part <= len(data) - 2:
                raise struct.error("tile-part outside the codestream")
        yield marker, position, tile
        position += 2 + length


def _pieces(frame: Frame, data: bytes, style: int, at: int) -> int:
    """Code blocks and precincts of the picture under the coding style at `data[at:]` (tables A.15, A.20, A.21)."""
    levels, block_width, block_height = struct.unpack_from(">3B", data, at)
    pieces = 0
    for level in range(levels + 1):  # from the smallest resolution up
        size = data[at + 5 + level] if style & CUSTOM_PRECINCTS else 0xFF
        columns, rows = (side / (1 << (levels - level)) for side in (frame.columns, frame.rows))
        wide, high = 1 << (size & 0xF), 1 << (size >> 4)
        pieces += ceil(columns / wide) * ceil(rows / high)
        pieces += ceil(columns / min(wide, 4 << block_width)) * ceil(rows / min(high, 4 << block_height))
    return pieces * frame.samples
