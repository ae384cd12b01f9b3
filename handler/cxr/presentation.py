"""Leaf: how the stored values of a grey DICOM image are shown.

Order of the transformations, PS3.3 C.11 and PS3.4 N.2: stored values -> Modality LUT -> VOI LUT ->
presentation (inversion). All of them act on grey values, so they are computed once for every possible
stored value (`Film.tone`), never for every pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from cxr.errors import UnreadableImage
from cxr.film import Film

MAX_LUT = 1 << 18
"""Bytes of LUT Data: 65,536 entries of 16 bits have half of it."""


def grey_film(pixels: NDArray[Any], ds: Dataset) -> Film:
    """The film of decoded pixels (rows, columns), bit 0 the lowest stored one; a broken VOI is a warning.

    Raises:
        UnreadableImage: no finite grey values.
    """
    bits, levels = int(ds.BitsStored), _levels(pixels, ds)
    offset = 1 << (bits - 1) if ds.PixelRepresentation == 1 else 0
    stored = np.arange(1 << bits, dtype=np.float64) - offset  # (levels,) stored value of each level
    modality = modality_lut(stored, ds)
    shown, problems = _windowed(modality, ds)
    film = Film(levels, _tone(shown, stored, ds), warnings=problems)
    if not problems and _has_voi(ds) and _flat(film) and not _flat(Film(levels, _tone(stored, stored, ds))):
        problem = "the VOI window leaves no contrast and was not applied"
        return Film(levels, _tone(modality, stored, ds), warnings=(problem,))
    return film


def _levels(pixels: NDArray[Any], ds: Dataset) -> NDArray[Any]:
    """Stored values as unsigned levels 0 .. 2^BitsStored - 1 whatever the sign and the bits above them.

    PS3.5 8.1.1: bits outside BitsStored mean nothing (old objects keep overlays there). For signed data
    (two's complement) the sign bit is flipped, so that level = value + 2^(BitsStored - 1). Padding that needs the
    bits above gets the level 2^BitsStored.
    """
    bits = int(ds.BitsStored)
    unsigned = np.uint8 if pixels.dtype.itemsize == 1 else np.uint16
    words: NDArray[Any] = pixels.astype(pixels.dtype.newbyteorder("="), copy=False).view(unsigned)
    levels = words & unsigned((1 << bits) - 1) if bits < 8 * words.dtype.itemsize else words
    if ds.PixelRepresentation == 1:
        levels = levels ^ unsigned(1 << (bits - 1))
    if (padded := _padded_above(words, ds)) is not None:
        levels[padded] = 1 << bits
    return levels


def _padded_above(words: NDArray[Any], ds: Dataset) -> NDArray[np.bool_] | None:
    """(rows, columns) True where a word is padding and its stored bits are not; None where padding needs no more."""
    if int(ds.BitsStored) == 8 * words.dtype.itemsize:  # no bits above
        return None
    padding, half = _padding(ds), 1 << (int(ds.BitsStored) - 1)
    lowest, highest = (-half, half - 1) if ds.PixelRepresentation == 1 else (0, 2 * half - 1)
    if padding is None or (lowest <= padding[0] and padding[1] <= highest):
        return None
    values = words.view(f"i{words.dtype.itemsize}") if ds.PixelRepresentation == 1 else words
    stored = (values >= lowest) & (values <= highest)
    return (values >= padding[0]) & (values <= padding[1]) & ~stored


def _tone(shown: NDArray[np.float64], stored: NDArray[np.float64], ds: Dataset) -> NDArray[np.float64]:
    """`Film.tone` of what is `shown` for each stored value: inverted where the object says so, NaN for padding."""
    tone = _to_unit(-shown if _inverted(ds) else shown)
    padding = _padding(ds)
    if padding is None:
        return tone
    low, high = padding
    tone[(stored >= low) & (stored <= high)] = np.nan
    return np.append(tone, np.nan)


def _flat(film: Film) -> bool:
    low, high = film.percentiles(0.5, 99.5)
    return high <= low


def _to_unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadableImage("the grey value transformation gives no finite values")
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _inverted(ds: Dataset) -> bool:
    """Once, whichever of the two says so: PS3.3 C.7.6.3.1.2 and C.11.6 (INVERSE goes with MONOCHROME1)."""
    return bool(ds.PhotometricInterpretation == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE")


def _padding(ds: Dataset) -> tuple[int, int] | None:
    """PS3.3 C.7.5.1.1.2: PixelPaddingValue, or all values between it and PixelPaddingRangeLimit.

    Values of the allocated word: the standard allows padding outside the range of the stored bits.
    """
    value = ds.get("PixelPaddingValue")
    if value is None:
        return None
    low, high = sorted((_as_stored(value, ds), _as_stored(ds.get("PixelPaddingRangeLimit", value), ds)))
    return low, high


def _as_stored(value: Any, ds: Dataset) -> int:
    """US or SS by PixelRepresentation; written with the wrong one by some modalities."""
    number, bits = int(value), int(ds.BitsAllocated)
    if ds.PixelRepresentation == 1 and number >= 1 << (bits - 1):
        return number - (1 << bits)
    if ds.PixelRepresentation == 0 and number < 0:
        return number + (1 << bits)
    return number


def modality_lut(values: NDArray[np.float64], ds: Dataset) -> NDArray[np.float64]:
    """Modality LUT Sequence or rescale, PS3.3 C.11.1; the values themselves where there is neither; all (levels,)."""
    if ds.get("ModalityLUTSequence"):
        return _lookup(values, ds.ModalityLUTSequence[0], ds)
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    return values * float(1 if slope is None else slope) + float(0 if intercept is None else intercept)


def _has_voi(ds: Dataset) -> bool:
    return bool(ds.get("VOILUTSequence")) or None not in (ds.get("WindowCenter"), ds.get("WindowWidth"))


def _windowed(values: NDArray[np.float64], ds: Dataset) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """A film with a broken VOI transformation is still a film: it is shown without, and a warning says so."""
    try:
        return voi_lut(values, ds), ()
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
        return values, ("the VOI LUT or window is invalid and was not applied",)


def voi_lut(values: NDArray[np.float64], ds: Dataset) -> NDArray[np.float64]:
    """VOI LUT Sequence, else the first window, PS3.3 C.11.2; the values themselves where there is neither.

    Args:
        values: (levels,) after the modality LUT.

    Raises:
        ValueError: an invalid LUT or window.
    """
    if ds.get("VOILUTSequence"):
        return _lookup(np.rint(values), ds.VOILUTSequence[0], ds)
    if not _has_voi(ds):
        return values
    centre, width = _first(ds.WindowCenter), _first(ds.WindowWidth)
    return window(values, centre, width, ds.get("VOILUTFunction") or "LINEAR")


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, MultiValue) else value)


def window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT); result 0..1.

    Raises:
        ValueError: a width the function does not allow, or an unknown function.
    """
    if not np.isfinite([centre, width]).all():
        raise ValueError("window is not finite")
    if function == "SIGMOID" and width > 0:
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT" and width > 0:
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function == "LINEAR" and width == 1:
        return (values > centre - 0.5).astype(np.float64)
    if function == "LINEAR" and width > 1:
        return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    raise ValueError("window width or function out of range")


def _lookup(values: NDArray[np.float64], item: Dataset, ds: Dataset) -> NDArray[np.float64]:
    """LUT Descriptor and LUT Data, PS3.3 C.11.1.1.1 and C.11.2.1.1; values outside take the end entries."""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count % (1 << 16) or 1 << 16  # read as SS with the second number, always meant as US
    if first >= 1 << 15 and values.min() < 0:  # read as US, meant as SS
        first -= 1 << 16
    table = _lut_data(item, ds, bits, count)
    index = np.clip(values - first, 0, len(table) - 1).astype(np.int64)
    return table[index]


def _lut_data(item: Dataset, ds: Dataset, bits: int, count: int) -> NDArray[np.float64]:
    if len(item.get_item("LUTData").value or b"") > MAX_LUT:  # raw yet: pydicom makes a number object of each entry
        raise ValueError("LUT Data is longer than any LUT")
    data = item.LUTData
    if isinstance(data, bytes):
        packed = bits <= 8 and len(data) in (count, count + 1)  # 8-bit entries, two to a word
        order = "<" if ds.file_meta.TransferSyntaxUID != uid.ExplicitVRBigEndian else ">"
        table = np.frombuffer(data, np.uint8 if packed else f"{order}u2")
    else:
        table = np.asarray(data)
    if len(table) < count:
        raise ValueError("LUT Data is shorter than its descriptor says")
    return table[:count].astype(np.float64)
