from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cxr.errors import (
    UnreadableImage,
)  # fmt: skip
from tests.handler import films
from tests.handler.films import chest, film_of, shown, tensor_of

# --- inversion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_monochrome1_and_its_inverted_twin_agree(bits: int) -> None:
    pixels, top = chest(bits=bits), (1 << bits) - 1
    depth: dict[str, Any] = {"BitsStored": bits, "HighBit": bits - 1}
    inverted = films.dicom((top - pixels).astype(pixels.dtype), PhotometricInterpretation="MONOCHROME1", **depth)
    assert tensor_of(inverted).equal(tensor_of(films.dicom(pixels, **depth)))


def test_monochrome1_with_a_window_and_its_inverted_twin_agree() -> None:
    pixels = chest()
    plain = films.dicom(pixels, WindowCenter=2000, WindowWidth=1001, VOILUTFunction="LINEAR_EXACT")
    inverted = films.dicom(
        4095 - pixels, WindowCenter=2095, WindowWidth=1001, VOILUTFunction="LINEAR_EXACT",
        PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    np.testing.assert_allclose(tensor_of(inverted), tensor_of(plain), atol=1e-6)


@pytest.mark.parametrize("shape", [None, "IDENTITY", "INVERSE"])
def test_presentation_lut_shape_inverts_monochrome1_once(shape: str | None) -> None:
    elements = {"PhotometricInterpretation": "MONOCHROME1"} | ({"PresentationLUTShape": shape} if shape else {})
    inverted = films.dicom(4095 - chest(), **elements)
    assert tensor_of(inverted).equal(tensor_of(films.dicom(chest())))


# --- modality LUT and VOI, against PS3.3 computed here ---------------------------------------------

RAMP = np.arange(0, 4096, dtype=np.uint16).reshape(64, 64)


def unit(values: NDArray[Any]) -> NDArray[Any]:
    return (values - values.min()) / (values.max() - values.min())


def linear(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.2.1, ymin 0, ymax 1."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 1.0
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x: float, c: float, w: float) -> float:
    """C.11.2.1.3.2."""
    if x <= c - w / 2:
        return 0.0
    return 1.0 if x > c + w / 2 else (x - c) / w + 0.5


def sigmoid(x: float, c: float, w: float) -> float:
    """C.11.2.1.3.1."""
    return float(1 / (1 + np.exp(-4 * (x - c) / w)))


FUNCTIONS = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("centre", "width"), [(2048, 4096), (1000.5, 300.25), (0, 100), (4000, 2000), (2047.5, 2)])
def test_window_follows_the_standard(function: str, centre: float, width: float) -> None:
    data = films.dicom(RAMP, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    expected = np.vectorize(FUNCTIONS[function])(RAMP.astype(float), centre, width)
    np.testing.assert_allclose(shown(data), unit(expected), atol=1e-12)


def test_window_of_width_one_is_a_step() -> None:
    data = films.dicom(RAMP, WindowCenter=1000, WindowWidth=1)
    np.testing.assert_array_equal(shown(data), (RAMP > 999.5).astype(float))


def test_window_without_function_is_linear() -> None:
    plain = films.dicom(RAMP, WindowCenter=1000, WindowWidth=500)
    named = films.dicom(RAMP, WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR")
    np.testing.assert_array_equal(shown(plain), shown(named))


def test_the_first_of_several_windows_is_used() -> None:
    several = films.dicom(RAMP, WindowCenter=[1000, 3000], WindowWidth=[500, 100])
    one = films.dicom(RAMP, WindowCenter=1000, WindowWidth=500)
    np.testing.assert_array_equal(shown(several), shown(one))


def test_window_applies_after_the_rescale() -> None:
    rescaled = films.dicom(RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000, WindowWidth=1000)
    expected = np.vectorize(linear)(RAMP * 2.0 - 1000, 1000, 1000)
    np.testing.assert_allclose(shown(rescaled), expected, atol=1e-12)


def test_negative_rescale_slope_inverts() -> None:
    pixels = chest()
    inverted = films.dicom(4095 - pixels, RescaleSlope=-1, RescaleIntercept=4095)
    assert tensor_of(inverted).equal(tensor_of(films.dicom(pixels)))


@pytest.mark.parametrize(
    "broken",
    [
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100, "WindowWidth": -5},
        {"WindowCenter": 100, "WindowWidth": 0.5},
        {"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "CUBIC"},
        {"WindowCenter": 100, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"},
    ],
)
def test_an_invalid_window_is_a_warning_and_the_film_is_shown_without(broken: dict[str, Any]) -> None:
    data = films.dicom(chest(), **broken)
    assert "invalid" in film_of(data).warnings[0]
    assert tensor_of(data).equal(tensor_of(films.dicom(chest())))


@pytest.mark.parametrize("number", [b"nan ", b"inf ", b"1e999 ", b"wide", b"1\\2 "])
def test_a_window_that_is_no_number_is_a_warning(number: bytes) -> None:
    data = films.dicom(chest(), WindowCenter=2000, WindowWidth="123456.5")
    film = film_of(data.replace(b"123456.5", number.ljust(8)))
    assert film.warnings or number == b"1\\2 "  # the first of two is a valid width


def test_a_window_beside_the_film_is_a_warning_and_not_applied() -> None:
    data = films.dicom(chest(), WindowCenter=60000, WindowWidth=10)
    assert "no contrast" in film_of(data).warnings[0]
    assert tensor_of(data).equal(tensor_of(films.dicom(chest())))


def lut(entries: list[int], first: int, bits: int, vr: str = "US", *, packed: bool = False) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries), first, bits])
    data = np.array(entries, "u1" if packed else "<u2").tobytes()
    item.add_new("LUTData", "OW", data + bytes(len(data) % 2))
    return item


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_voi_lut_maps_values_and_takes_the_end_entries_outside(packed: bool, syntax: str) -> None:
    entries = [*range(0, 200, 2), *range(200, 100, -1)]
    data = films.dicom(RAMP, syntax, VOILUTSequence=Sequence([lut(entries, 1000, 8, packed=packed)]))
    expected = np.array(entries, float)[np.clip(RAMP.astype(int) - 1000, 0, 199)]
    np.testing.assert_allclose(shown(data), unit(expected), atol=1e-12)


def test_voi_lut_of_sixteen_bits_is_followed() -> None:
    entries = [int(value) for value in 65535 * np.sqrt(np.linspace(0, 1, 4096))]
    data = films.dicom(RAMP, VOILUTSequence=Sequence([lut(entries, 0, 16)]))
    np.testing.assert_allclose(shown(data), unit(np.array(entries, float)[RAMP]), atol=1e-12)


def test_voi_lut_wins_over_the_window_and_the_first_over_the_second() -> None:
    luts = [lut(list(range(4096)), 0, 12), lut(list(range(4095, -1, -1)), 0, 12)]
    data = films.dicom(chest(), VOILUTSequence=Sequence(luts), WindowCenter=1, WindowWidth=1)
    assert tensor_of(data).equal(tensor_of(films.dicom(chest())))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_voi_lut_may_begin_at_a_negative_value_of_signed_pixels(syntax: str) -> None:
    pixels = RAMP.astype(np.int16) - 2048
    entries = list(range(0, 1000, 10))
    data = films.dicom(pixels, syntax, VOILUTSequence=Sequence([lut(entries, -50, 16, "SS")]))
    expected = np.array(entries, float)[np.clip(pixels.astype(int) + 50, 0, 99)]
    np.testing.assert_allclose(shown(data), unit(expected), atol=1e-12)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_voi_lut_may_begin_at_a_negative_rescaled_value(syntax: str) -> None:
    first = lut(list(range(0, 1000, 10)), -1000, 16, "SS")
    data = films.dicom(RAMP, syntax, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=Sequence([first]))
    expected = np.clip(RAMP.astype(float) - 24, 0, 99)
    np.testing.assert_allclose(shown(data), unit(expected), atol=1e-12)


def test_voi_lut_may_hold_more_entries_than_a_signed_number_counts() -> None:
    pixels = RAMP.astype(np.int16) - 2048
    item = lut(list(range(40000)), -2048, 16, "SS")
    film = film_of(films.dicom(pixels, VOILUTSequence=Sequence([item])))
    assert not film.warnings


def test_voi_lut_of_big_endian_is_read() -> None:
    plain = films.dicom(RAMP, VOILUTSequence=Sequence([lut([0, 300, 2, 65000], 1000, 16)]))
    np.testing.assert_array_equal(shown(films.LOSSLESS["big endian"](plain)), shown(plain))


def test_a_voi_lut_shorter_than_it_says_is_a_warning() -> None:
    item = lut(list(range(100)), 0, 16)
    item["LUTDescriptor"].value = [4096, 0, 16]
    assert "invalid" in film_of(films.dicom(chest(), VOILUTSequence=Sequence([item]))).warnings[0]


def test_modality_lut_sequence_is_applied_before_the_window() -> None:
    curve = [int(value) for value in 4095 * np.linspace(0, 1, 4096) ** 2]
    data = films.dicom(RAMP, ModalityLUTSequence=Sequence([lut(curve, 0, 12)]), WindowCenter=1000, WindowWidth=500)
    expected = np.vectorize(linear)(np.array(curve, float)[RAMP], 1000, 500)
    np.testing.assert_allclose(shown(data), expected, atol=1e-12)


def test_modality_lut_of_a_published_file_is_applied() -> None:
    data = films.packaged("mlut_18.dcm")
    ds = dcmread(io.BytesIO(data))
    _, first, bits = ds.ModalityLUTSequence[0].LUTDescriptor
    table = np.array(ds.ModalityLUTSequence[0].LUTData)
    np.testing.assert_allclose(shown(data), table[ds.pixel_array.astype(int) - first] / (2**bits - 1))


def test_a_rescale_slope_that_is_no_number_makes_the_film_unreadable() -> None:
    data = films.dicom(chest(), RescaleSlope=1234.5, RescaleIntercept=0)
    with pytest.raises(UnreadableImage):
        film_of(data.replace(b"1234.5", b"nan   "))


# --- padding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_left_out_of_the_statistics_and_becomes_black(syntax: str, signed: bool) -> None:
    pixels = chest().astype(np.int16 if signed else np.uint16)
    padded = np.pad(pixels, 40, constant_values=-2000 if signed else 4095)
    data = films.dicom(padded, syntax, PixelPaddingValue=-2000 if signed else 4095, BitsStored=16, HighBit=15)
    film = film_of(data)
    assert film.histogram.sum() == pixels.size
    inner = films.stretch(film, (0.5, 99.5))[40:-40, 40:-40]
    alone = films.dicom(pixels, syntax, BitsStored=16, HighBit=15)
    np.testing.assert_array_equal(inner, films.stretch(film_of(alone), (0.5, 99.5)))
    assert films.stretch(film, (0.5, 99.5))[0, 0] == 0


@pytest.mark.parametrize(("signed", "padding"), [(False, 65535), (True, -32768), (True, 2048)])
def test_padding_may_need_more_than_the_stored_bits(signed: bool, padding: int) -> None:
    values = chest().astype(np.int32) - (2048 if signed else 0)  # all of 12 bits
    padded = np.pad(values, 40, constant_values=padding).astype(np.int16 if signed else np.uint16)
    film = film_of(films.dicom(padded, BitsStored=12, HighBit=11, PixelPaddingValue=padding))
    assert film.histogram.sum() == values.size
    shown = films.stretch(film, (0.5, 99.5))
    np.testing.assert_array_equal(shown[40:-40, 40:-40], films.stretch(film_of(films.dicom(chest())), (0.5, 99.5)))
    assert shown[0, 0] == 0


@pytest.mark.parametrize(("bits", "signed", "padding"), [(8, 0, 65535), (8, 0, 300), (8, 1, -2000), (16, 0, 65535)])
def test_padding_that_no_pixel_can_have_does_no_harm(bits: int, signed: int, padding: int) -> None:
    pixels = chest(bits=bits).view(f"i{bits // 8}") if signed else chest(bits=bits)
    told = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the value
        data = films.dicom(pixels, PixelPaddingValue=padding, **told)
    assert film_of(data).histogram.sum() == pixels.size


def test_padding_of_monochrome1_is_black_too() -> None:
    padded = np.pad(4095 - chest(), 9, constant_values=0)
    data = films.dicom(padded, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1")
    assert films.stretch(film_of(data), (0.5, 99.5))[0, 0] == 0


def test_padding_may_be_a_range() -> None:
    pixels = chest()
    padded = np.vstack([pixels, np.full((9, pixels.shape[1]), 4090, np.uint16), np.full((9, 112), 4095, np.uint16)])
    data = films.dicom(padded, PixelPaddingValue=4095, PixelPaddingRangeLimit=4089)
    assert film_of(data).histogram.sum() == (pixels < 4089).sum()


def test_padding_may_be_written_with_the_wrong_sign() -> None:
    padded = np.pad(chest().astype(np.int16), 9, constant_values=-2000)
    data = films.dicom(padded, BitsStored=16, HighBit=15)
    at = data.index(b"\x28\x00\x03\x01")  # behind (0028,0103) PixelRepresentation
    data = data[: at + 10] + b"\x28\x00\x20\x01US\x02\x00" + (65536 - 2000).to_bytes(2, "little") + data[at + 10 :]
    assert film_of(data).histogram.sum() == chest().size


def test_a_film_of_padding_alone_is_black() -> None:
    data = films.dicom(np.full((20, 20), 7, np.uint16), PixelPaddingValue=7)
    assert films.stretch(film_of(data), (0.5, 99.5)).max() == 0
