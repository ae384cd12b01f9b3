"""Films that tests synthesise, and every way to encode one. Nothing here is a patient's."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder

from cxr.film import Film, Limits
from cxr.reading import decode, stretch, to_tensor
from cxr.recipe import Recipe
from tests.parts import ROOT, chunk

RG1_PNG = ROOT / "tests" / "films" / "RG1.png"
RECIPE = Recipe(name="test", architecture="resnet18", version="1", labels=("a", "b"), size=64)


def film_of(data: bytes) -> Film:
    return decode(data, Limits())


def tensor_of(data: bytes, recipe: Recipe = RECIPE) -> torch.Tensor:
    """What the network sees of a film."""
    return to_tensor(stretch(film_of(data), recipe.stretch), recipe)


def shown(data: bytes) -> NDArray[np.float64]:
    """Display values (rows, columns), NaN for padding."""
    film = film_of(data)
    return film.tone[film.pixels]


# --- pixels ----------------------------------------------------------------------------------------


def chest(rows: int = 128, columns: int = 112, bits: int = 12) -> NDArray[Any]:
    """Two dark lungs in a bright body with noise: (rows, columns) uint8 or uint16, 0 and the maximum left out."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    body = 0.8 - 0.3 * np.abs(x) - 0.1 * y
    lungs = sum(0.45 * (((x - side) / 0.3) ** 2 + (y / 0.7) ** 2 < 1) for side in (-0.45, 0.45))
    noise = np.random.default_rng(0).normal(0, 0.02, (rows, columns))
    top = (1 << bits) - 1
    values = np.clip(np.rint((body - lungs + noise) * top), 1, top - 1)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def coloured(rows: int = 64, columns: int = 48) -> NDArray[np.uint8]:
    """A smooth colour picture (rows, columns, 3)."""
    y, x = np.mgrid[0 : 255 : rows * 1j, 0 : 255 : columns * 1j]
    return np.stack([y, x, 255 - (x + y) / 2], axis=2).astype(np.uint8)


# --- PNG, JPEG, TIFF -------------------------------------------------------------------------------


def picture(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=options.pop("byteorder", "<")) as writer:
        writer.write(pixels, metadata=None, **{"photometric": "minisblack", **options})
    return buffer.getvalue()


def png(rows: int, columns: int, *chunks: bytes, depth: int = 8, colour: int = 0, idat: bytes = b"") -> bytes:
    """A PNG with exactly these chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


# --- DICOM -----------------------------------------------------------------------------------------


def dataset(pixels: NDArray[Any] | None = None, **elements: Any) -> Dataset:
    """A CR image of `pixels`; `elements` by keyword are set last, None removes one."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = uid.ComputedRadiographyImageStorage, "2.25.1", "CR"
    if pixels is not None:
        _add_pixels(ds, pixels)
    for name, value in elements.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def _add_pixels(ds: Dataset, pixels: NDArray[Any]) -> None:
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = min(ds.BitsAllocated, 12)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    ds.add_new("PixelData", "OB" if ds.BitsAllocated == 8 else "OW", data + bytes(len(data) % 2))


def part10(ds: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """The bytes of a file. pydicom swaps no pixels: big endian is dcmtk's."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "1.2")
    ds.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicom(pixels: NDArray[Any] | None = None, syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """An uncompressed object."""
    return part10(dataset(pixels, **elements), syntax)


def encapsulated(frame: bytes, pixels: NDArray[Any], syntax: str, **elements: Any) -> bytes:
    """An object that says it holds `pixels` and holds `frame`."""
    ds = dataset(pixels, **elements)
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return part10(ds, syntax)


def dcmtk(program: str, *options: str) -> Callable[[bytes], bytes]:
    """A program of the Debian package dcmtk, from file to file."""

    def convert(data: bytes) -> bytes:
        if shutil.which(program) is None:
            pytest.skip(f"{program} of the Debian package dcmtk is not installed")
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.dcm", Path(folder) / "out.dcm"
            source.write_bytes(data)
            subprocess.run([program, *options, source, target], check=True, capture_output=True)
            return target.read_bytes()

    return convert


def recoded(codec: Callable[..., bytes], syntax: str, **options: Any) -> Callable[[bytes], bytes]:
    """An uncompressed object with its pixels encoded by `codec`."""

    def convert(data: bytes) -> bytes:
        ds = dcmread(io.BytesIO(data))
        dtype = f"<u{ds.BitsAllocated // 8}"  # two's complement travels as it is
        shape = (ds.Rows, ds.Columns, 3)[: 3 if ds.SamplesPerPixel == 3 else 2]
        pixels = np.frombuffer(ds.PixelData, dtype, count=int(np.prod(shape))).reshape(shape)
        ds.PixelData = encapsulate([codec(pixels, **options)])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        return part10(ds, syntax)

    return convert


def rle(pixels: NDArray[Any]) -> bytes:
    rows, columns = pixels.shape[:2]
    return RLELosslessEncoder.encode(
        pixels.tobytes(), rows=rows, columns=columns, samples_per_pixel=1 if pixels.ndim == 2 else 3,
        bits_allocated=8 * pixels.dtype.itemsize, bits_stored=8 * pixels.dtype.itemsize, pixel_representation=0,
        photometric_interpretation="MONOCHROME2" if pixels.ndim == 2 else "RGB", number_of_frames=1,
        planar_configuration=0, encoding_plugin="pydicom",
    )  # fmt: skip


def j2k(pixels: NDArray[Any], **options: Any) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", **options)


def jpeg8(pixels: NDArray[Any], **options: Any) -> bytes:
    return imagecodecs.jpeg8_encode(pixels, **options)


def jpeg_lossless(pixels: NDArray[Any]) -> bytes:
    """With the precision of the word: imagecodecs writes 12 for any uint16."""
    return jpeg8(pixels, lossless=True, predictor=1, bitspersample=8 * pixels.dtype.itemsize)


LOSSLESS: dict[str, Callable[[bytes], bytes]] = {
    "implicit": dcmtk("dcmconv", "+ti"),
    "implicit by pydicom": lambda data: part10(dcmread(io.BytesIO(data)), uid.ImplicitVRLittleEndian),
    "big endian": dcmtk("dcmconv", "+tb"),
    "deflated": dcmtk("dcmconv", "+td"),
    "deflated by pydicom": lambda data: part10(dcmread(io.BytesIO(data)), uid.DeflatedExplicitVRLittleEndian),
    "RLE": dcmtk("dcmcrle"),
    "RLE by pydicom": recoded(rle, uid.RLELossless),
    "JPEG lossless SV1": dcmtk("dcmcjpeg", "+e1"),
    **{f"JPEG lossless SV{sv}": dcmtk("dcmcjpeg", "+el", "+sv", str(sv)) for sv in range(2, 8)},
    "JPEG lossless by libjpeg-turbo": recoded(jpeg_lossless, uid.JPEGLosslessSV1),
    "JPEG-LS": dcmtk("dcmcjpls", "+el"),
    "JPEG-LS by CharLS": recoded(imagecodecs.jpegls_encode, uid.JPEGLSLossless),
    "JPEG 2000": recoded(j2k, uid.JPEG2000Lossless, level=0, reversible=True),
    "JPEG 2000 in JP2": recoded(imagecodecs.jpeg2k_encode, uid.JPEG2000Lossless, level=0, codecformat="jp2"),
}
"""How an uncompressed little endian object becomes one that holds exactly the same stored values."""

LOSSY: dict[str, Callable[[bytes], bytes]] = {
    "JPEG extended": dcmtk("dcmcjpeg", "+ee", "+q", "95"),
    "JPEG-LS near-lossless": dcmtk("dcmcjpls", "+en", "+md", "2"),
    "JPEG 2000 lossy": recoded(j2k, uid.JPEG2000, level=80, reversible=False),
}
LOSSY_8_BIT = {"JPEG baseline": dcmtk("dcmcjpeg", "+eb", "+q", "95")}


# --- films of others -------------------------------------------------------------------------------


def packaged_path(name: str) -> Path:
    """A DICOM file of the package pydicom-data, or of pydicom's own."""
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str), f"{name} is not in pydicom-data"
    return Path(found)


def packaged(name: str) -> bytes:
    return packaged_path(name).read_bytes()
