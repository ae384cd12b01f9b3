"""Leaf: PNG, JPEG and TIFF to a film. Pillow decodes; this file decides what is a film at all."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from cxr.codestream import (
    EXIF,
    jpeg_frame,
    jpeg_without_metadata,
    orientation,
    png_is_excessive,
    tiff_directory,
    tiff_is_excessive,
)
from cxr.errors import CxrError, FilmTooLarge, MultiFrame, UnreadableImage, UnsupportedEncoding, UnsupportedImage
from cxr.film import Film, Limits

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
}
CHROMA_SIDE = 256
"""The colour of a picture is judged on a copy about this large."""
IMAGE_WIDTH, IMAGE_LENGTH, PHOTOMETRIC, TILE_WIDTH, TILE_LENGTH = 256, 257, 262, 322, 323
"""TIFF 6.0 tags."""
WHITE_IS_ZERO = 0
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF 2.32, 4.6.4 A, tag 274: what brings a stored picture upright."""
ImageFile.LOAD_TRUNCATED_IMAGES = False
# Pillow warns of sizes, which our own limit judges, and of metadata, which it quotes and which may name a patient.
# Switched off once for all threads: warnings.catch_warnings is for one.
warnings.filterwarnings("ignore", module="PIL")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Pillow knows WhiteIsZero of 16 bits in little endian only.
TiffImagePlugin.OPEN_INFO[(TiffImagePlugin.MM, WHITE_IS_ZERO, (1,), 1, (16,), ())] = ("I;16", "I;16B")


def sniff(data: bytes) -> str | None:
    """The picture format by its first bytes, never by a name or header: PNG, JPEG, TIFF or None."""
    return next((name for magic, name in SIGNATURES.items() if data.startswith(magic)), None)


def read_picture(data: bytes, limits: Limits) -> Film:
    """Decode PNG, JPEG or TIFF: 1, 8, 16 or 32 bit grey, palette, RGB(A), CMYK; EXIF orientation applied.

    Raises:
        UnsupportedImage: no such picture, or a JPEG process Pillow does not decode.
        FilmTooLarge: the header announces more pixels than the limit.
        MultiFrame: more than one page or frame.
        UnreadableImage: broken or truncated.
    """
    kind = sniff(data)
    if kind is None:
        raise UnsupportedImage("not a PNG, JPEG, TIFF or DICOM file")
    try:
        return _read(data, kind, limits)
    except (CxrError, MemoryError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... on broken bytes
        raise UnreadableImage(f"the {kind} is broken or truncated ({type(error).__name__})") from error


def _read(data: bytes, kind: str, limits: Limits) -> Film:
    exif = b""
    if kind == "JPEG":
        _check_process(data)
        data, exif = jpeg_without_metadata(data)
    elif png_is_excessive(data) if kind == "PNG" else tiff_is_excessive(data):
        raise FilmTooLarge(f"the {kind} is cut into more pieces than any film")
    image = _open(data, kind)
    limits.check_pixels(image.height, image.width)
    if kind == "TIFF":
        limits.check_pixels(image.tag_v2.get(TILE_LENGTH, 1), image.tag_v2.get(TILE_WIDTH, 1))
    _check_single(image, kind)
    image.load()
    if kind == "PNG":  # the chunk may stand behind the pixels
        exif = image.info.get("exif", b"").removeprefix(EXIF)
    turn = orientation(exif)
    if kind == "PNG" and _is_deep_colour(data):
        film = _to_film(_turned(Image.fromarray(_luminance(data)), turn), inverted=False)
        return replace(film, colour=chroma(_to_rgb(image)))
    return _to_film(_turned(image, turn), inverted=_white_is_zero(image, kind))


def _open(data: bytes, kind: str) -> Any:
    try:
        return Image.open(io.BytesIO(data), formats=[kind])
    except Image.DecompressionBombError as error:
        raise FilmTooLarge("the picture announces more pixels than any film has") from error
    except UnidentifiedImageError as error:
        if kind == "TIFF" and tiff_directory(data).keys() >= {IMAGE_WIDTH, IMAGE_LENGTH, PHOTOMETRIC}:
            raise UnsupportedEncoding("a TIFF of this sample format or layout is not read") from error
        raise UnreadableImage(f"the {kind} header is broken") from error


def _check_process(data: bytes) -> None:
    frame = jpeg_frame(data)
    if frame is None:
        raise UnreadableImage("the JPEG header is broken")
    if frame.excessive:
        raise FilmTooLarge("the JPEG is cut into more scans than any picture")
    if frame.precision != 8 or frame.lossless:
        raise UnsupportedEncoding("a JPEG with more than 8 bits or lossless coding is read only inside DICOM")


def _turned(image: Any, value: int) -> Any:
    """Upright, by EXIF orientation. Pillow does the same for a TIFF on its own, from the TIFF's own directory."""
    return image if value == 1 else image.transpose(UPRIGHT[value])


def _check_single(image: Any, kind: str) -> None:
    if kind == "TIFF":
        try:
            image.seek(1)
        except EOFError:
            image.seek(0)
            return
        raise MultiFrame("the TIFF holds more than one page")
    # A JPEG may be an MPO, a phone's main picture with previews behind it: the first one is the film.
    if kind == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise MultiFrame("the PNG is animated")


def _white_is_zero(image: Any, kind: str) -> bool:
    """Pillow turns WhiteIsZero round for 1 and 8 bit, and leaves 16 bit and floats as stored."""
    return kind == "TIFF" and image.mode.startswith(("I;16", "F")) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO


def _to_film(image: Any, *, inverted: bool) -> Film:
    if image.mode.startswith("I;16"):
        tone = np.linspace(0, 1, 65536)
        return Film(np.asarray(image).astype(np.uint16), tone[::-1] if inverted else tone)
    if image.mode in ("I", "F"):
        return _from_wide(np.asarray(image), inverted=inverted)
    if image.mode in ("1", "L"):
        return Film(np.asarray(image.convert("L")), np.linspace(0, 1, 256))
    colours = _to_rgb(image)
    return Film(np.asarray(colours.convert("L")), np.linspace(0, 1, 256), colour=chroma(colours))


def _from_wide(values: NDArray[Any], *, inverted: bool) -> Film:
    """32-bit integers or floats (rows, columns): 65,536 even steps between their extremes."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise UnreadableImage("the picture holds values that are no numbers")
    low, high = values.min(), values.max()
    tone = np.linspace(0, 1, 65536)
    steps = np.rint((values - low) / max(high - low, np.finfo(float).tiny) * 65535)
    return Film(steps.astype(np.uint16), tone[::-1] if inverted else tone)


def _is_deep_colour(png: bytes) -> bool:
    """16 bits of colour, or of grey with alpha: Pillow cuts them to 8. ISO/IEC 15948, 11.2.2: IHDR comes first."""
    depth, colour_type = png[24], png[25]
    return depth == 16 and colour_type in (2, 4, 6)


def _luminance(png: bytes) -> NDArray[np.uint16]:
    """Of a PNG of 16 bits, (rows, columns); ITU-R BT.601-7 in Pillow's integers; transparent parts become black."""
    samples = imagecodecs.png_decode(png)  # (rows, columns, 2, 3 or 4) uint16
    grey = np.empty(samples.shape[:2], np.uint16)
    for row, line in enumerate(samples):  # (columns, 2, 3 or 4): the widened values stay in the cache
        values = line.astype(np.uint32)
        bright = values[:, 0]
        if line.shape[1] >= 3:
            bright = (values[:, 0] * 19595 + values[:, 1] * 38470 + values[:, 2] * 7471 + (1 << 15)) >> 16
        if line.shape[1] in (2, 4):
            bright = (bright * values[:, -1] + 32767) // 65535
        grey[row] = bright
    return grey


def _to_rgb(image: Any) -> Any:
    """Transparent parts become black, as unexposed film is."""
    if image.mode in ("LA", "La", "PA", "RGBa", "RGBA") or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "black")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def chroma(colours: Any) -> float:
    """Mean of max(R, G, B) - min(R, G, B), 0..1, of the picture reduced to about CHROMA_SIDE."""
    factor = max(1, min(colours.size) // CHROMA_SIDE)
    small = np.asarray(colours.reduce(factor), dtype=np.float32)  # (h, w, 3)
    return float((small.max(axis=2) - small.min(axis=2)).mean() / 255)
