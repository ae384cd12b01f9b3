"""Leaf: a DICOM object to a film.

Here: elements, transfer syntaxes, stored values. `cxr.presentation` says how they are shown.

Only the elements in WANTED are ever read: names, dates and numbers of a patient never enter memory
as values, let alone a log.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space
from pydicom.pixels.utils import pixel_array
from pydicom.tag import Tag

from cxr.codestream import Frame, j2k_codestream, j2k_frame, jpeg_frame, jpeg_names_its_colours
from cxr.errors import CxrError, FilmTooLarge, MultiFrame, NotAFilm, UnreadableImage, UnsupportedEncoding
from cxr.film import Film, Limits
from cxr.picture import chroma
from cxr.presentation import grey_film

# pydicom quotes element values in warnings and log lines: patient data.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module="pydicom")

PREAMBLE = 128
WANTED = [
    "SOPClassUID", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit",
    "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept",
    "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
]  # fmt: skip

Codec = Callable[[bytes], NDArray[Any]]
JPEG_FAMILY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
LOSSY_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
# libjpeg-turbo, CharLS and OpenJPEG; pydicom's own plugins refuse 12-bit JPEG or are slower.
CODECS: dict[str, tuple[Codec, Callable[[bytes], Frame | None]]] = {
    **dict.fromkeys(JPEG_FAMILY, (imagecodecs.jpeg8_decode, jpeg_frame)),
    **dict.fromkeys(JPEG_LS, (imagecodecs.jpegls_decode, jpeg_frame)),
    **dict.fromkeys(JPEG_2000, (imagecodecs.jpeg2k_decode, j2k_frame)),
}
NATIVE = {
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
}  # fmt: skip
END_OF_IMAGE = b"\xff\xd9"
ITEM = b"\xfe\xff\x00\xe0"
"""The tag (FFFE,E000) before the offset table and every fragment."""
PIXELS = {Tag("PixelData"), Tag("FloatPixelData"), Tag("DoubleFloatPixelData")}
PIXEL_VRS = {"OB", "OW", "OB or OW", "OF", "OD", "UN", None}
"""None and `OB or OW`: pydicom's, where the object does not say."""
SEQUENCES = {Tag("ModalityLUTSequence"), Tag("VOILUTSequence")}
MAX_VALUE = 1 << 18
"""Bytes of one element that is no pixel data: a LUT of 65,536 entries of 16 bits has half of it."""
MAX_SEQUENCE = 1 << 19
MAX_META = 1 << 12
"""Bytes of one element of the file meta information; a UID has 64."""
MAX_FRAGMENTS = 1 << 16
MAX_READS = 100_000
"""pydicom reads two or three times for an element or item, and makes objects of a kilobyte for items."""
KNOWN_PHOTOMETRIC = {
    "RGB", "PALETTE COLOR", "HSV", "ARGB", "CMYK", "XYB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420",
    "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT",
}  # fmt: skip


def is_dicom(data: bytes) -> bool:
    """PS3.10 7.1: 128 bytes of preamble, then DICM."""
    return data[PREAMBLE : PREAMBLE + 4] == b"DICM"


def read_dicom(data: bytes, limits: Limits) -> Film:
    """Decode one single-frame DICOM image.

    Raises:
        UnsupportedEncoding: transfer syntax or sample format we cannot decode.
        FilmTooLarge: header, codestream or deflated data set over the limit.
        MultiFrame: NumberOfFrames over 1.
        NotAFilm: no pixel data; the SOP class is named.
        UnreadableImage: broken or truncated.
    """
    try:
        dataset = _parse(data, limits)
        _check(dataset, limits)
        return _to_film(dataset, limits)
    except (CxrError, MemoryError):
        raise
    except Exception as error:  # pydicom and the codecs raise anything on broken bytes
        raise UnreadableImage(f"the DICOM object is broken or truncated ({type(error).__name__})") from error


# --- data set --------------------------------------------------------------------------------------


class _Metered(io.BytesIO):
    """A stream that ends before millions of elements or items are parsed, each of which costs memory and time."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size) if self.reads <= MAX_READS else b""


@contextmanager
def _metered(data: bytes) -> Iterator[_Metered]:
    stream = _Metered(data)
    try:
        yield stream
    finally:
        if stream.reads > MAX_READS:
            raise FilmTooLarge("the DICOM object has more elements than any film")


def _parse(data: bytes, limits: Limits) -> Dataset:
    meta, end = _read_meta(data)
    syntax = meta.get("TransferSyntaxUID")
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        data, end = _inflate(data[end:], limits), 0
    with _metered(data) as stream:
        stream.seek(end)
        implicit, little = syntax == uid.ImplicitVRLittleEndian, syntax != uid.ExplicitVRBigEndian
        dataset = read_dataset(stream, implicit, little, specific_tags=[Tag(name) for name in WANTED])
    dataset.file_meta = FileMetaDataset(meta)
    for element in dataset.elements():
        _check_element(element)
    return dataset


def _read_meta(data: bytes) -> tuple[Dataset, int]:
    """The file meta information and where it ends; always explicit little endian, PS3.10 7.1."""
    with _metered(data) as stream:
        stream.seek(PREAMBLE + 4)
        meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    for element in meta.elements():
        _check_length(element, MAX_META)
    return meta, stream.tell()


def _check_element(element: Any) -> None:
    """Of a raw element, before pydicom makes an object of each of its values or items."""
    if element.tag in PIXELS:
        if element.VR not in PIXEL_VRS:
            raise UnreadableImage("the pixel data is no bytes by its value representation")
        return
    if element.VR == "SQ" and element.tag not in SEQUENCES:
        raise UnreadableImage(f"the element {element.tag} is a sequence where the standard has none")
    _check_length(element, MAX_SEQUENCE if element.tag in SEQUENCES else MAX_VALUE)


def _check_length(element: Any, longest: int) -> None:
    if isinstance(element.value, bytes) and len(element.value) > longest:
        raise FilmTooLarge(f"the element {element.tag} has {len(element.value):,} bytes; the limit is {longest:,}")


def _inflate(deflated: bytes, limits: Limits) -> bytes:
    """PS3.5 A.5, with a cap: 600 KB can inflate to more than a gigabyte."""
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    inflated = inflater.decompress(deflated, limits.max_bytes + 1)
    limits.check_bytes(len(inflated), "the inflated data set")
    if not inflater.eof:
        raise UnreadableImage("the deflated data set is truncated")
    return inflated


def _check(ds: Dataset, limits: Limits) -> None:
    """Refuse by name what is no single film, before any pixel is decoded."""
    if "PixelData" not in ds:
        if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
            raise UnsupportedEncoding("floating point pixel data is not read")
        raise NotAFilm(f"{_sop_class(ds)} holds no pixel data: not a film")
    if int(ds.get("NumberOfFrames") or 1) > 1:
        raise MultiFrame(f"{_sop_class(ds)} with {int(ds.NumberOfFrames)} frames; send a single-frame image")
    if ds.Rows == 0 or ds.Columns == 0:
        raise UnreadableImage("the image has no rows or no columns")
    limits.check_pixels(ds.Rows, ds.Columns)
    if ds.BitsAllocated not in (8, 16):
        raise UnsupportedEncoding(f"{ds.BitsAllocated} bits allocated; 8 and 16 are read")
    if not 1 <= ds.BitsStored <= ds.BitsAllocated or not ds.BitsStored <= _high_bit(ds) + 1 <= ds.BitsAllocated:
        raise UnreadableImage("BitsAllocated, BitsStored and HighBit contradict each other")
    if ds.SamplesPerPixel not in (1, 3):
        raise UnsupportedEncoding(f"{ds.SamplesPerPixel} samples per pixel; 1 and 3 are read")


def _sop_class(ds: Dataset) -> str:
    return _name(ds.get("SOPClassUID")) or "an object without SOP class"


def _name(given: Any) -> str:
    """A UID's name, the UID itself where it has none; what is no UID may be anything, a patient's name too."""
    known = uid.UID(str(given or ""))
    return known.name if known.is_valid else ""


def _high_bit(ds: Dataset) -> int:
    return int(ds.get("HighBit", ds.BitsStored - 1))


# --- pixels ----------------------------------------------------------------------------------------


def _to_film(ds: Dataset, limits: Limits) -> Film:
    pixels = _decode(ds, limits)
    if pixels.shape[:2] != (ds.Rows, ds.Columns):
        raise UnreadableImage("the decoded picture has not the size that its header says")
    if pixels.ndim == 3:
        return _colour_film(pixels >> max(int(ds.BitsStored) - 8, 0))
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        palette = apply_color_lut(pixels, ds)
        return _colour_film(palette >> (8 if palette.dtype == np.uint16 else 0))
    if ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        given = ds.PhotometricInterpretation if ds.PhotometricInterpretation in KNOWN_PHOTOMETRIC else "unknown"
        raise UnsupportedEncoding(f"photometric interpretation {given} of one sample")
    return grey_film(pixels, ds)


def _decode(ds: Dataset, limits: Limits) -> NDArray[Any]:
    """Stored values (rows, columns), or RGB (rows, columns, 3)."""
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax in NATIVE:
        return _decode_native(ds) if ds.SamplesPerPixel == 1 else pixel_array(ds)
    if syntax == uid.RLELossless:
        pixels = _decode_rle(ds)
    elif syntax in CODECS:
        pixels = _decode_frame(ds, limits, *CODECS[syntax])
    else:
        raise UnsupportedEncoding(f"transfer syntax {_name(syntax) or 'unknown'} is not decoded here")
    # libjpeg gives RGB whatever the file holds, JPEG 2000's own transforms (YBR_ICT, YBR_RCT) are undone too
    if syntax not in LOSSY_JPEG and ds.PhotometricInterpretation in ("YBR_FULL", "YBR_FULL_422"):
        return convert_color_space(pixels, ds.PhotometricInterpretation, "RGB")
    return pixels


def _decode_native(ds: Dataset) -> NDArray[Any]:
    """PS3.5 8.1.1 and A.3: every bit as it stands; pydicom's own masks by BitsStored before HighBit is looked at."""
    big = ds.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian
    dtype = np.dtype((">u2" if big else "<u2") if ds.BitsAllocated == 16 else "u1")
    data, count = ds.PixelData, int(ds.Rows) * int(ds.Columns)
    if big and dtype.itemsize == 1 and ds["PixelData"].VR == "OW":  # two pixels to a word, the first one low
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
    if len(data) < count * dtype.itemsize:
        raise UnreadableImage("the pixel data is truncated")
    pixels = np.frombuffer(data, dtype, count).reshape(int(ds.Rows), int(ds.Columns))
    return _stored_bits(pixels, ds, int(ds.BitsAllocated))


def _frame(encapsulated: bytes) -> bytes:
    """PS3.5 A.4: the only frame, put together of its fragments.

    pydicom makes an object of each fragment and of each offset, so both are counted first.
    """
    offsets = int.from_bytes(encapsulated[4:8], "little") // 4
    if max(offsets, encapsulated.count(ITEM)) > MAX_FRAGMENTS:
        raise FilmTooLarge("the compressed frame is cut into more fragments than any film")
    return next(generate_frames(encapsulated, number_of_frames=1))


def _decode_frame(
    ds: Dataset, limits: Limits, codec: Codec, announced: Callable[[bytes], Frame | None]
) -> NDArray[Any]:
    data = _frame(ds.PixelData)
    if announced is j2k_frame:
        data = j2k_codestream(data)
    frame = announced(data)
    if frame is None:
        raise UnreadableImage("the compressed frame has no readable header, or is incomplete")
    limits.check_pixels(frame.rows, frame.columns)
    if frame.excessive:
        raise FilmTooLarge("the compressed frame is cut into more pieces than any film")
    if (frame.rows, frame.columns, frame.samples) != (ds.Rows, ds.Columns, ds.SamplesPerPixel):
        raise UnreadableImage("the compressed frame and the DICOM header contradict each other")
    if frame.precision > ds.BitsAllocated:
        raise UnreadableImage("the compressed frame has more bits than the DICOM header allocates")
    if END_OF_IMAGE not in data.rstrip(b"\0")[-16:]:  # a decoder would fill the missing part with grey
        raise UnreadableImage("the compressed frame is truncated")
    if codec is imagecodecs.jpeg8_decode and ds.PhotometricInterpretation == "RGB" and not jpeg_names_its_colours(data):
        return imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB")  # libjpeg would guess YCbCr
    return _stored_bits(codec(data), ds, frame.precision)


def _decode_rle(ds: Dataset) -> NDArray[Any]:
    """PS3.5 annex G: planes of bytes, unpacked into what the film takes and no more."""
    shape = (int(ds.SamplesPerPixel), int(ds.Rows), int(ds.Columns))
    dtype = np.dtype("<u2" if ds.BitsAllocated == 16 else "u1")
    size = math.prod(shape) * dtype.itemsize
    data = _frame(ds.PixelData)
    unpacked = imagecodecs.dicomrle_decode(data, dtype, out=size)
    if len(unpacked) != size:
        raise UnreadableImage("the RLE frame is truncated")
    planes = _stored_bits(np.frombuffer(unpacked, dtype).reshape(shape), ds, int(ds.BitsAllocated))
    return planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1)


def _stored_bits(pixels: NDArray[Any], ds: Dataset, precision: int) -> NDArray[Any]:
    """The lowest of the stored bits moved to bit 0; `precision`: bits of one decoded value.

    PS3.5 8.1.1 counts HighBit in the allocated word, 8.2 leaves the word of a codestream to its encoder: some
    encode the word as it stands, bits around the stored ones and all, others the stored bits alone and keep
    the HighBit of the word they came from. The codestream's own precision tells the two apart.
    """
    shift = min(precision, _high_bit(ds) + 1) - int(ds.BitsStored)
    return pixels >> shift if shift > 0 else pixels


# --- colour ----------------------------------------------------------------------------------------


def _colour_film(rgb: NDArray[Any]) -> Film:
    """(rows, columns, 3), values up to 255, to luminance, ITU-R BT.601-7, with its chroma for the gate."""
    image = Image.fromarray(np.ascontiguousarray(rgb.astype(np.uint8)), "RGB")
    return Film(np.asarray(image.convert("L")), np.linspace(0, 1, 256), colour=chroma(image))
