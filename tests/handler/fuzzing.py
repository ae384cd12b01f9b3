"""A bare worker that decodes broken films, one after another, until it dies or is through.

    python -m tests.handler.fuzzing FIRST COUNT FOLDER -> a JSON line for each finding

The input under way lies in FOLDER/current-FIRST, so that a segmentation fault or a hang leaves its cause behind.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import uid

from cxr.errors import CxrError
from cxr.film import Limits
from cxr.reading import decode, inspect_pixels, stretch
from tests.handler import films
from tests.handler.films import chest, coloured, picture, tiff
from tests.handler.probe import forget_peak, peak_megabytes

SECONDS = 10
LEAP_MEGABYTES = 400
"""An input that takes more is a finding: the bases are smaller than 20 KB and 100 x 100 pixels."""
LIMITS = Limits(max_bytes=40_000_000, max_pixels=25_000_000)
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


@cache
def bases() -> dict[str, bytes]:
    """Good films of every kind that is read."""
    grey, deep, colour = chest(64, 56, bits=8), chest(64, 56, bits=12), coloured(48, 40)
    rgba = Image.fromarray(colour).convert("RGBA")
    exif = Image.Exif()
    exif[274] = 6
    found = {
        "png 8": picture(grey), "png 16": picture(deep), "png 1": picture(Image.fromarray(grey > 99).convert("1")),
        "png palette": picture(Image.fromarray(colour).quantize(16)), "png rgba": picture(rgba, exif=exif),
        "png la": picture(rgba.convert("LA")), "tiff 8": tiff(grey), "tiff 16": tiff(deep, byteorder=">"),
        "tiff lzw": tiff(deep, compression="lzw", rowsperstrip=9), "tiff tiled": tiff(grey, tile=(16, 16)),
        "tiff deflate": tiff(deep, compression="deflate", predictor=True), "tiff float": tiff(deep.astype("f4")),
        "tiff packbits": tiff(grey, compression="packbits"), "tiff rgb": tiff(colour, photometric="rgb"),
        "tiff jpeg": picture(grey, "TIFF", compression="jpeg"), "tiff g4": picture(
            Image.fromarray(grey > 99).convert("1"), "TIFF", compression="group4"),
        "jpeg grey": picture(grey, "JPEG", exif=exif), "jpeg rgb": picture(colour, "JPEG"),
        "jpeg progressive": picture(colour, "JPEG", progressive=True),
        "jpeg cmyk": picture(Image.fromarray(colour).convert("CMYK"), "JPEG"),
    }  # fmt: skip
    plain, plain8, rgb = (
        films.dicom(deep),
        films.dicom(grey, BitsStored=8, HighBit=7),
        films.dicom(colour, BitsStored=8),
    )
    tables = {f"{name}PaletteColorLookupTable{part}": value for name in ("Red", "Green", "Blue")
              for part, value in (("Descriptor", [256, 0, 16]), ("Data", bytes(range(256)) * 2))}  # fmt: skip
    found |= {
        "dicom": plain, "dicom 8": plain8, "dicom rgb": rgb,
        "dicom window": films.dicom(deep, WindowCenter=[5, 6], WindowWidth=[9, 9], RescaleSlope=2, PixelPaddingValue=4),
        "dicom palette": films.dicom(grey, BitsStored=8, PhotometricInterpretation="PALETTE COLOR", **tables),
        **{f"dicom {name}": films.LOSSLESS[name](plain) for name in films.LOSSLESS if _possible(name)},
        **{f"dicom {name}": films.LOSSY[name](plain) for name in films.LOSSY if _possible(name)},
        **{f"dicom rgb {name}": films.LOSSLESS[name](rgb)
           for name in ("RLE by pydicom", "JPEG-LS by CharLS", "JPEG 2000")},
        "dicom jpeg": films.encapsulated(picture(grey, "JPEG"), grey, uid.JPEGBaseline8Bit, BitsStored=8, HighBit=7),
    }  # fmt: skip
    return found


def _possible(name: str) -> bool:
    """Without dcmtk the encodings of PyPI's packages remain."""
    return shutil.which("dcmcjpeg") is not None or " by " in name or "2000" in name


# --- ways to break one -----------------------------------------------------------------------------


def flip(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 1, 2, 5, 20, 100))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def overwrite(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 1, 3, 10))):
        data[chance.randrange(len(data))] = chance.choice(INTERESTING)
    return data


def number(data: bytearray, chance: random.Random) -> bytearray:
    """A 16 or 32 bit number near the beginning or the end, where headers are."""
    layout = chance.choice(("<H", ">H", "<I", ">I"))
    top = (1 << 8 * struct.calcsize(layout)) - 1
    value = chance.choice((0, 1, 2, top, top - 1, top // 2, top // 2 + 1, 65500, 5000, chance.randint(0, top))) & top
    window = min(len(data) - 4, chance.choice((64, 700, len(data))))
    at = chance.randrange(window) if chance.random() < 0.7 else len(data) - 4 - chance.randrange(window)
    struct.pack_into(layout, data, at, value)
    return data


def truncate(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(len(data))]


def cut_out(data: bytearray, chance: random.Random) -> bytearray:
    at = chance.randrange(len(data))
    del data[at : at + chance.choice((1, 2, 4, 100, 1000))]
    return data


def repeat(data: bytearray, chance: random.Random) -> bytearray:
    at, size = chance.randrange(len(data)), chance.choice((2, 8, 100, 2000))
    return data[:at] + data[at : at + size] * chance.choice((2, 3, 50)) + data[at + size :]


def insert(data: bytearray, chance: random.Random) -> bytearray:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(chance.choice((1, 2, 30))) + data[at:]


def splice(data: bytearray, chance: random.Random) -> bytearray:
    other = bases()[chance.choice(sorted(bases()))]
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


BREAKERS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    flip, overwrite, number, number, truncate, cut_out, repeat, insert, splice,
)  # fmt: skip


def mended(data: bytes) -> bytes:
    """A PNG with right checksums, so that what was broken is looked at."""
    if not data.startswith(b"\x89PNG"):
        return data
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts) + data[at:]


def random_header(chance: random.Random) -> bytes:
    """A DICOM object whose header numbers are drawn, over pixels of another size."""
    pixels = chest(chance.choice((1, 16, 64)), chance.choice((1, 17, 64)), bits=chance.choice((8, 12, 16)))
    drawn = {
        name: chance.choice((0, 1, 2, 7, 8, 12, 15, 16, 17, 63, 64, 65, 255, 4096, 65535))
        for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
                     "SamplesPerPixel", "PlanarConfiguration")
        if chance.random() < 0.25
    } | {"PixelPaddingValue": chance.choice((0, 5, 4095, 32767))}  # fmt: skip
    words: dict[str, object] = {
        "PhotometricInterpretation": chance.choice(("MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "")),
        "RescaleSlope": chance.choice(("0", "-1", "1e300", "-1e-300")), "RescaleIntercept": chance.choice(("1e308", "-5")),
        "WindowWidth": chance.choice(("0", "1", "1e-300", "-4")), "WindowCenter": chance.choice(("1e308", "0", "-7")),
        "VOILUTFunction": chance.choice(("SIGMOID", "LINEAR_EXACT", "X")), "NumberOfFrames": chance.choice(("0", "1", "-1")),
    }  # fmt: skip
    drawn |= {name: value for name, value in words.items() if chance.random() < 0.25}  # type: ignore[misc]
    if chance.random() < 0.5:
        return films.dicom(pixels, chance.choice((uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)), **drawn)
    codec, syntax = chance.choice((
        (films.j2k, uid.JPEG2000), (films.rle, uid.RLELossless), (films.imagecodecs.jpegls_encode, uid.JPEGLSLossless),
    ))  # fmt: skip
    return films.encapsulated(codec(pixels), pixels, syntax, **drawn)


def broken(index: int) -> tuple[str, bytes]:
    """The index-th input, always the same for one version of the encoders."""
    chance = random.Random(index)
    if index % 10 == 0:
        return "random header", random_header(chance)
    name = chance.choice(sorted(bases()))
    data = bytearray(bases()[name])
    if name == "dicom deflated by pydicom":
        return name, _deflated(data, chance)
    for _ in range(chance.choice((1, 1, 2, 4))):
        if len(data) > 8:
            data = chance.choice(BREAKERS)(data, chance)
    return name, mended(bytes(data)) if chance.random() < 0.8 else bytes(data)


def _deflated(data: bytearray, chance: random.Random) -> bytes:
    """Broken inside, then deflated again."""
    start = 144 + int.from_bytes(data[140:144], "little")
    inside = chance.choice(BREAKERS)(bytearray(zlib.decompress(data[start:], -15)), chance)
    packer = zlib.compressobj(wbits=-15)
    return bytes(data[:start]) + packer.compress(bytes(inside)) + packer.flush()


# --- the worker ------------------------------------------------------------------------------------


def finding(data: bytes) -> str | None:
    """What is wrong with the answer to these bytes; None if it is a film or one of the declared errors."""
    forget_peak()  # each input is measured from where memory stands now, not from an earlier one's peak
    before, start = peak_megabytes(), time.monotonic()
    try:
        film = decode(data, LIMITS)
        inspect_pixels(film, films.RECIPE)
        shown = stretch(film, (0.5, 99.5))
        if shown.shape != film.pixels.shape or shown.ndim != 2 or shown.dtype != np.uint8:
            return f"a film of the shape {shown.shape}"
    except CxrError as error:
        if error.status == 500 or len(error.message) > 250:
            return f"error {error.as_json('')}"
    except BaseException as error:
        return f"undeclared {type(error).__name__}: {error}"
    if peak_megabytes() - before > LEAP_MEGABYTES:
        return f"took {peak_megabytes() - before:.0f} MB"
    if time.monotonic() - start > SECONDS:
        return f"took {time.monotonic() - start:.0f} s"
    return None


def main() -> None:
    warnings.simplefilter("ignore")
    first, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    current = folder / f"current-{first}"
    bases()
    peak = peak_megabytes()
    for index in range(first, first + count):
        name, data = broken(index)
        current.write_bytes(data)
        signal.alarm(3 * SECONDS)
        wrong = finding(data)
        peak = max(peak, peak_megabytes())
        if wrong is not None:
            (folder / f"input-{index}").write_bytes(data)
            print(json.dumps({"index": index, "base": name, "wrong": wrong}), flush=True)
    print(json.dumps({"done": count, "peak": peak}), flush=True)


if __name__ == "__main__":
    main()
