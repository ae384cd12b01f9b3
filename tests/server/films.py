"""Bytes to send: good films, and one for every cause of DESIGN.md's error table. Nothing here is a patient's."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from tests.parts import chunk

RG1 = Path(__file__).parents[1] / "films" / "RG1.png"
PNG = RG1.read_bytes()
HTML = b"<!DOCTYPE html><html><head><title>Viewer</title></head><body>not a film</body></html>"
HANDLER_LIMIT = 40_000_000
OVER_THE_HANDLERS_LIMIT = HANDLER_LIMIT + 1
OVER_THE_FRONT_ENDS_LIMIT = 57_000_000


def pixels() -> NDArray[np.uint8]:
    """RG1, (rows, columns) uint8."""
    return np.asarray(Image.open(RG1).convert("L"))


@cache
def encode(kind: str, **options: object) -> bytes:
    """RG1 as PNG, JPEG, TIFF."""
    return as_picture(pixels(), kind, **options)


def as_picture(values: NDArray[np.uint8], kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(side: int) -> bytes:
    """A square film of grey noise as PNG: what compresses worst."""
    values = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    return as_picture(values, compress_level=0)


def colour_picture() -> bytes:
    """What the quality gate rejects for its colour."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    return as_picture(np.stack([rows, columns, 255 - rows], axis=2))


def header_of(rows: int, columns: int) -> bytes:
    """A PNG that announces a size and brings hardly any pixels."""
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def dicom(
    *,
    sop_class: str = uid.DigitalXRayImageStorageForPresentation,
    syntax: str = uid.ExplicitVRLittleEndian,
    with_pixels: bool = True,
    frames: int = 1,
    **elements: object,
) -> bytes:
    """RG1 as a DICOM object, zeros in its place where `syntax` compresses; `elements` by keyword."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "2.25.1"
    ds.Modality = "DX"
    if with_pixels:
        _add_pixels(ds, frames)
    for name, value in elements.items():
        setattr(ds, name, value)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _add_pixels(ds: Dataset, frames: int) -> None:
    values = pixels()
    ds.Rows, ds.Columns = values.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    if frames > 1:
        ds.NumberOfFrames = frames
    compressed = uid.UID(ds.file_meta.TransferSyntaxUID).is_compressed
    ds.PixelData = encapsulate([bytes(64)]) if compressed else values.tobytes() * frames
    ds["PixelData"].VR = "OB"


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
        Fault("several pages", pages_of(pages), 422, "MultiFrame", "more than one page"),
    )


def pages_of(pages: list[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    return buffer.getvalue()
