"""Bytes to send: good films, and one for every cause of DESIGN.md's error table. Nothing here is a patient's."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid

from tests.handler.films import RG1_PNG, coloured, dataset, encapsulated, part10, picture, png

PNG = RG1_PNG.read_bytes()
HTML = b"<!DOCTYPE html><html><head><title>Viewer</title></head><body>not a film</body></html>"
HANDLER_LIMIT = 40_000_000
OVER_THE_HANDLERS_LIMIT = HANDLER_LIMIT + 1
OVER_THE_FRONT_ENDS_LIMIT = 57_000_000


def pixels() -> NDArray[np.uint8]:
    """RG1, (rows, columns) uint8."""
    return np.asarray(Image.open(RG1_PNG).convert("L"))


@cache
def encode(kind: str, **options: object) -> bytes:
    """RG1 as PNG, JPEG, TIFF."""
    return picture(pixels(), kind, **options)


def noise(side: int) -> bytes:
    """A square film of grey noise as PNG: what compresses worst."""
    values = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    return picture(values, compress_level=0)


def colour_picture() -> bytes:
    """What the quality gate rejects for its colour."""
    return picture(coloured(256, 256))


def header_of(rows: int, columns: int) -> bytes:
    """A PNG that announces a size and brings hardly any pixels."""
    return png(rows, columns, idat=zlib.compress(bytes(64)))


def dicom(
    *,
    sop_class: str = uid.DigitalXRayImageStorageForPresentation,
    syntax: str = uid.ExplicitVRLittleEndian,
    with_pixels: bool = True,
    frames: int = 1,
    **elements: object,
) -> bytes:
    """RG1 as a DICOM object, zeros in its place where `syntax` compresses; `elements` by keyword."""
    elements = {"SOPClassUID": sop_class, "Modality": "DX", **elements}
    if uid.UID(syntax).is_compressed:
        return encapsulated(bytes(64), pixels(), syntax, **elements)
    if frames > 1:
        elements |= {"NumberOfFrames": frames, "PixelData": pixels().tobytes() * frames}
    return part10(dataset(pixels() if with_pixels else None, **elements), syntax)


@dataclass(frozen=True)
class Fault:
    """One cause of the error table, and its answer."""

    cause: str
    film: bytes
    status: int
    type: str
    says: str


@cache
def faults() -> tuple[Fault, ...]:
    """Every cause that lies in the bytes."""
    structured, pdf = uid.BasicTextSRStorage, uid.EncapsulatedPDFStorage
    pages = [Image.fromarray(pixels()[::8, ::8])] * 2
    return (
        Fault("empty", b"", 400, "BadRequest", "empty"),
        Fault("too many bytes", bytes(OVER_THE_HANDLERS_LIMIT), 413, "FilmTooLarge", "the limit is 40,000,000"),
        Fault("too many pixels", header_of(6000, 6000), 413, "FilmTooLarge", "the limit is 25,000,000 pixels"),
        Fault("a bomb", header_of(200_000, 200_000), 413, "FilmTooLarge", "pixels"),
        Fault("an HTML page", HTML, 415, "UnsupportedImage", "not a PNG, JPEG, TIFF or DICOM file"),
        Fault("a video in DICOM", dicom(syntax=uid.MPEG4HP41), 415, "UnsupportedEncoding", "MPEG-4"),
        Fault("a truncated PNG", PNG[: len(PNG) // 2], 422, "UnreadableImage", "truncated"),
        Fault("a truncated JPEG", encode("JPEG")[:9000], 422, "UnreadableImage", "truncated"),
        Fault("a truncated DICOM", dicom()[:90_000], 422, "UnreadableImage", "truncated"),
        Fault("a report", dicom(sop_class=structured, with_pixels=False), 422, "NotAFilm", structured.name),
        Fault("a PDF", dicom(sop_class=pdf, with_pixels=False), 422, "NotAFilm", pdf.name),
        Fault("a film without pixels", dicom(with_pixels=False), 422, "NotAFilm", "no pixel data"),
        Fault("several frames", dicom(frames=2), 422, "MultiFrame", "2 frames"),
        Fault(
            "several pages",
            picture(pages[0], "TIFF", save_all=True, append_images=pages[1:]),
            422,
            "MultiFrame",
            "more than one page",
        ),
    )
