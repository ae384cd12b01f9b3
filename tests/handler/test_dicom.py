from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.sequence import Sequence

from cxr import dicom
from cxr.errors import (
    CxrError,
    FilmTooLarge,
    MultiFrame,
    NotAFilm,
    UnreadableImage,
    UnsupportedEncoding,
    UnsupportedImage,
)  # fmt: skip
from cxr.film import Limits
from tests.handler import films
from tests.handler.films import chest, coloured, film_of, shown, tensor_of
from tests.parts import shared

# --- transfer syntaxes -----------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", films.LOSSLESS)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_encodings_of_one_film_give_bit_identical_tensors(encoding: str, bits: int) -> None:
    plain = films.dicom(chest(bits=bits), BitsStored=bits, HighBit=bits - 1)
    encoded = films.LOSSLESS[encoding](plain)
    assert (film_of(encoded).pixels == film_of(plain).pixels).all()
    assert tensor_of(encoded).equal(tensor_of(plain))


@pytest.mark.parametrize("encoding", films.LOSSLESS)
def test_signed_films_survive_every_lossless_encoding(encoding: str) -> None:
    pixels = chest(bits=12).astype(np.int16) - 2048
    plain = films.dicom(pixels, BitsStored=16, HighBit=15)
    np.testing.assert_array_equal(film_of(films.LOSSLESS[encoding](plain)).pixels, pixels.view(np.uint16) ^ 0x8000)


@pytest.mark.parametrize("encoding", films.LOSSY | films.LOSSY_8_BIT)
def test_lossy_encodings_stay_near_the_film(encoding: str) -> None:
    bits = 8 if encoding in films.LOSSY_8_BIT else 12
    plain = films.dicom(chest(bits=bits), BitsStored=bits, HighBit=bits - 1)
    encoded = (films.LOSSY | films.LOSSY_8_BIT)[encoding](plain)
    difference = films.stretch(film_of(encoded), (0.5, 99.5)) - films.stretch(film_of(plain), (0.5, 99.5)).astype(float)
    assert np.abs(difference).mean() < 4
    assert not tensor_of(encoded).equal(tensor_of(plain))


@pytest.mark.parametrize("encoding", ["big endian", "RLE", "JPEG lossless SV1", "JPEG-LS", "JPEG 2000", "deflated"])
@pytest.mark.parametrize("shape", [(63, 65), (1, 200), (200, 1), (37, 5)])
def test_odd_sizes_survive(encoding: str, shape: tuple[int, int]) -> None:
    pixels = chest(*shape, bits=8)
    np.testing.assert_array_equal(film_of(films.LOSSLESS[encoding](films.dicom(pixels, BitsStored=8))).pixels, pixels)


@pytest.mark.parametrize("name", ["RG1_J2KR.dcm", "RG3_J2KR.dcm"])
def test_real_films_are_the_same_lossless_and_uncompressed(name: str) -> None:
    plain = name.replace("J2KR", "UNCR")
    assert tensor_of(films.packaged(name)).equal(tensor_of(films.packaged(plain)))


def test_every_readable_film_of_the_data_folder_is_read() -> None:
    for path in sorted(shared("dicom").glob("*.dcm")):
        if path.name.startswith("NOT_DICOM"):
            with pytest.raises(UnsupportedImage):
                film_of(path.read_bytes())
        else:
            assert film_of(path.read_bytes()).pixels.size > 10_000


@pytest.mark.parametrize("encoding", ["rle", "jpegls", "jpeglossless_sv1"])
def test_encodings_of_rg1_in_the_data_folder_agree(encoding: str) -> None:
    encoded = shared(f"dicom/RG1_15bit_mono1_{encoding}.dcm").read_bytes()
    assert tensor_of(encoded).equal(tensor_of(films.packaged("RG1_UNCR.dcm")))


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
             "MR_small_padded.dcm", "MR_small_implicit.dcm"],
)  # fmt: skip
def test_published_encodings_of_one_image_agree(name: str) -> None:
    np.testing.assert_array_equal(film_of(films.packaged(name)).pixels, film_of(films.packaged("MR_small.dcm")).pixels)


@pytest.mark.parametrize(
    "name", ["JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "JPEGLSNearLossless_16.dcm", "693_J2KI.dcm",
             "693_J2KR.dcm", "J2K_pixelrep_mismatch.dcm", "image_dfl.dcm", "explicit_VR-UN.dcm", "examples_overlay.dcm"],
)  # fmt: skip
def test_published_images_hold_what_pydicom_decodes(name: str) -> None:
    ds = films.dcmread(films.packaged_path(name))
    offset = 1 << (ds.BitsStored - 1) if ds.PixelRepresentation else 0
    np.testing.assert_array_equal(film_of(films.packaged(name)).pixels, ds.pixel_array.astype(int) + offset)


def test_a_frame_in_several_fragments_is_one_frame() -> None:
    plain = films.dicom(chest())
    split = films.dcmtk("dcmcjpeg", "+e1", "+fs", "2")(plain)
    assert tensor_of(split).equal(tensor_of(plain))


def test_a_frame_without_offset_table_is_read() -> None:
    plain = films.dicom(chest())
    assert tensor_of(films.dcmtk("dcmcjpls", "-ot")(plain)).equal(tensor_of(plain))


def test_codec_with_fewer_bits_than_allocated_is_read() -> None:
    pixels = chest(bits=8)
    frame = films.imagecodecs.jpegls_encode(pixels)
    data = films.encapsulated(frame, pixels.astype(np.uint16), uid.JPEGLSLossless, BitsStored=8, HighBit=7)
    np.testing.assert_array_equal(film_of(data).pixels, pixels)


# --- bits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stored", "high"), [(12, 15), (12, 13), (10, 9), (9, 15)])
def test_bits_may_lie_anywhere_in_the_word(stored: int, high: int) -> None:
    pixels = chest(bits=stored).astype(np.uint16)
    shift = high + 1 - stored
    data = films.dicom(pixels << shift, BitsStored=stored, HighBit=high)
    np.testing.assert_array_equal(film_of(data).pixels, pixels)


@pytest.mark.parametrize(
    "encoding",
    [
        "big endian",
        "RLE",
        "JPEG lossless SV1",
        "JPEG lossless SV6",
        "JPEG lossless by libjpeg-turbo",
        "JPEG-LS",
        "JPEG 2000",
    ],
)
@pytest.mark.parametrize(("stored", "high"), [(12, 15), (12, 13)])
@pytest.mark.parametrize("signed", [0, 1])
def test_bits_may_lie_anywhere_in_an_encoded_word(encoding: str, stored: int, high: int, signed: int) -> None:
    pixels = chest(bits=stored).astype(np.uint16)
    word = (pixels ^ (signed << (stored - 1))) << (high + 1 - stored)
    plain = films.dicom(word, BitsStored=stored, HighBit=high, PixelRepresentation=signed)
    np.testing.assert_array_equal(film_of(films.LOSSLESS[encoding](plain)).pixels, pixels)


@pytest.mark.parametrize(
    ("frame", "syntax"),
    [
        (films.imagecodecs.jpegls_encode(chest(bits=8)), uid.JPEGLSLossless),
        (films.jpeg8(chest(bits=8), lossless=True, predictor=1), uid.JPEGLosslessSV1),
        (films.j2k(chest(bits=8), level=0, reversible=True), uid.JPEG2000Lossless),
    ],
)
@pytest.mark.parametrize("high", [7, 11, 15])
def test_a_codestream_of_the_stored_bits_alone_is_not_shifted(frame: bytes, syntax: str, high: int) -> None:
    """The HighBit of the word it came from may stand in the header yet."""
    pixels = chest(bits=8)
    data = films.encapsulated(frame, pixels.astype(np.uint16), syntax, BitsStored=8, HighBit=high)
    np.testing.assert_array_equal(film_of(data).pixels, pixels)


def test_overlay_bits_above_the_stored_ones_mean_nothing() -> None:
    pixels = chest(bits=12)
    overlay = np.zeros_like(pixels)
    overlay[::3] = 0xF000
    assert tensor_of(films.dicom(pixels | overlay)).equal(tensor_of(films.dicom(pixels)))


def test_overlay_bits_below_the_stored_ones_mean_nothing() -> None:
    pixels = chest(bits=12) << 4
    data = films.dicom(pixels | 5, BitsStored=12, HighBit=15)
    assert tensor_of(data).equal(tensor_of(films.dicom(pixels, BitsStored=12, HighBit=15)))


def test_seven_bits_of_eight_are_read() -> None:
    pixels = chest(bits=7)
    assert film_of(films.dicom(pixels, BitsStored=7, HighBit=6)).tone.size == 128


def test_signed_values_of_twelve_bits_are_ordered() -> None:
    pixels = chest(bits=12).astype(np.int16) - 2048
    packed = (pixels.view(np.uint16) & 0x0FFF).view(np.int16)  # sign in bit 11, zeros above
    assert tensor_of(films.dicom(packed)).equal(tensor_of(films.dicom(chest(bits=12))))


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
    assert film_of(films.packaged("mlut_18.dcm")).pixels.size > 0


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


# --- colour ----------------------------------------------------------------------------------------


def luminance(rgb: NDArray[np.uint8]) -> NDArray[Any]:
    return np.asarray(Image.fromarray(rgb).convert("L"))


@pytest.mark.parametrize(
    "encoding", [None, "implicit", "big endian", "deflated", "RLE", "RLE by pydicom", "JPEG lossless SV1", "JPEG-LS",
                 "JPEG-LS by CharLS", "JPEG 2000", "JPEG lossless by libjpeg-turbo"],
)  # fmt: skip
def test_rgb_captures_become_their_luminance(encoding: str | None) -> None:
    data = films.dicom(coloured(), BitsStored=8, HighBit=7)
    film = film_of(films.LOSSLESS[encoding](data) if encoding else data)
    np.testing.assert_array_equal(film.pixels, luminance(coloured()))
    assert film.colour > 0.3


def test_rgb_may_lie_in_planes() -> None:
    planes = np.ascontiguousarray(np.moveaxis(coloured(), -1, 0))
    data = films.dicom(coloured(), BitsStored=8, PlanarConfiguration=1, PixelData=planes.tobytes())
    np.testing.assert_array_equal(film_of(data).pixels, luminance(coloured()))


@pytest.mark.parametrize("stored", [12, 16])
def test_rgb_of_more_than_eight_bits_is_reduced_to_eight(stored: int) -> None:
    pixels = coloured().astype(np.uint16) << (stored - 8)
    data = films.dicom(pixels, BitsStored=stored, HighBit=stored - 1)
    np.testing.assert_array_equal(film_of(data).pixels, luminance(coloured()))


@pytest.mark.parametrize("encoding", [None, "RLE by pydicom", "JPEG-LS by CharLS", "JPEG-LS", "JPEG 2000"])
def test_ybr_full_captures_become_rgb_first(encoding: str | None) -> None:
    ybr = np.asarray(Image.fromarray(coloured()).convert("YCbCr"))
    data = films.dicom(ybr, BitsStored=8, PhotometricInterpretation="YBR_FULL")
    encode = films.LOSSLESS[encoding] if encoding else bytes
    if encoding == "JPEG 2000":
        encode = films.recoded(films.j2k, uid.JPEG2000Lossless, level=0, reversible=True, mct=False)
    film = film_of(encode(data))
    assert np.abs(film.pixels.astype(int) - luminance(coloured())).max() <= 2
    assert film.colour > 0.3


def test_a_grey_ybr_full_capture_has_no_colour() -> None:
    grey = np.dstack([chest(bits=8), *[np.full((128, 112), 128, np.uint8)] * 2])
    data = films.dicom(grey, BitsStored=8, PhotometricInterpretation="YBR_FULL")
    assert film_of(films.LOSSLESS["JPEG-LS by CharLS"](data)).colour < 0.01


@pytest.mark.parametrize("options", [("+eb",), ("+eb", "+cr"), ("+eb", "+s2"), ("+ee",)])
def test_lossy_jpeg_captures_in_colour_are_read(options: tuple[str, ...]) -> None:
    data = films.dcmtk("dcmcjpeg", "+q", "95", *options)(films.dicom(coloured(), BitsStored=8, HighBit=7))
    assert np.abs(film_of(data).pixels.astype(int) - luminance(coloured())).max() <= 12


@pytest.mark.parametrize("name", ["SC_jpeg_no_color_transform.dcm", "SC_rgb_jpeg_dcmd.dcm"])
def test_rgb_stays_rgb_in_a_jpeg_that_does_not_name_its_colours(name: str) -> None:
    from pydicom.pixels import pixel_array

    expected = luminance(pixel_array(films.packaged_path("SC_jpeg_no_color_transform.dcm")))
    assert np.abs(film_of(films.packaged(name)).pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colour_is_looked_up(bits: int) -> None:
    palette = coloured(256, 1)[:, 0]
    tables = {}
    for name, channel in zip(("Red", "Green", "Blue"), palette.T, strict=True):
        entries = channel.astype(np.uint16) * (257 if bits == 16 else 1)
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tables[f"{name}PaletteColorLookupTableData"] = entries.astype("<u2" if bits == 16 else "u1").tobytes()
    data = films.dicom(chest(bits=8), BitsStored=8, PhotometricInterpretation="PALETTE COLOR", **tables)
    np.testing.assert_array_equal(film_of(data).pixels, luminance(palette[chest(bits=8)]))


# --- refused by name -------------------------------------------------------------------------------

SMALL = chest(32, 32)


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (lambda: films.dicom(SMALL, NumberOfFrames=3, PixelData=SMALL.tobytes() * 3), MultiFrame, "3 frames"),
        (lambda: films.dicom(SOPClassUID=uid.BasicTextSRStorage), NotAFilm, "Basic Text SR"),
        (lambda: films.dicom(SOPClassUID=uid.EncapsulatedPDFStorage), NotAFilm, "Encapsulated PDF"),
        (lambda: films.dicom(SMALL, PixelData=None), NotAFilm, "no pixel data"),
        (lambda: films.dicom(SMALL, PixelData=None, FloatPixelData=bytes(4096)), UnsupportedEncoding, "floating"),
        (lambda: films.encapsulated(b"..", SMALL, uid.MPEG4HP41), UnsupportedEncoding, "MPEG-4"),
        (lambda: films.encapsulated(b"..", SMALL, uid.MPEG2MPML), UnsupportedEncoding, "MPEG2"),
        (lambda: films.encapsulated(b"..", SMALL, uid.MPEG4HP41).replace(b"1.2.4.102", b"1.2.4.110"),
         UnsupportedEncoding, "1.2.4.110"),  # JPEG XL
        (lambda: films.dicom(SMALL).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99998.9.9.9\0"),
         UnsupportedEncoding, "1.2.840.99998.9.9.9"),
        (lambda: films.dicom(SMALL, Rows=0), UnreadableImage, "no rows"),
        (lambda: films.dicom(SMALL, Columns=0), UnreadableImage, "no columns"),
        (lambda: films.dicom(SMALL, BitsAllocated=32, BitsStored=32, HighBit=31), UnsupportedEncoding, "32 bits"),
        (lambda: films.dicom(SMALL, BitsAllocated=1, BitsStored=1, HighBit=0), UnsupportedEncoding, "1 bits"),
        (lambda: films.dicom(SMALL, BitsStored=17), UnreadableImage, "contradict"),
        (lambda: films.dicom(SMALL, BitsStored=12, HighBit=3), UnreadableImage, "contradict"),
        (lambda: films.dicom(SMALL, BitsStored=0), UnreadableImage, "contradict"),
        (lambda: films.dicom(SMALL, SamplesPerPixel=4), UnsupportedEncoding, "4 samples"),
        (lambda: films.dicom(SMALL, PhotometricInterpretation="YBR_FULL"), UnsupportedEncoding, "YBR_FULL"),
        (lambda: films.dicom(SMALL, Rows=33), UnreadableImage, "truncated"),
        (lambda: films.dicom(SMALL, PixelData=b""), UnreadableImage, ""),
    ],
)  # fmt: skip
def test_what_is_no_single_readable_film_is_refused_by_name(data: Any, error: type[CxrError], says: str) -> None:
    with pytest.raises(error) as refused:
        film_of(data())
    assert type(refused.value) is error
    assert says in refused.value.message


def test_html_named_dcm_is_refused() -> None:
    with pytest.raises(UnsupportedImage):
        film_of(b"<!DOCTYPE html><html></html>" * 20)


def test_a_published_structured_report_is_refused() -> None:
    with pytest.raises(NotAFilm):
        film_of(films.packaged("test-SR.dcm"))


@pytest.mark.parametrize("encoding", ["JPEG lossless SV1", "JPEG-LS", "JPEG 2000"])
def test_a_frame_of_another_size_than_its_header_is_refused(encoding: str) -> None:
    ds = films.dcmread(films.io.BytesIO(films.LOSSLESS[encoding](films.dicom(SMALL))))
    ds.Rows = 31
    with pytest.raises(UnreadableImage, match="contradict"):
        film_of(films.part10(ds, ds.file_meta.TransferSyntaxUID))


def test_an_rle_frame_of_another_size_than_its_header_is_refused() -> None:
    for rows in (31, 33, 400):
        data = films.encapsulated(films.rle(SMALL), SMALL, uid.RLELossless, Rows=rows)
        with pytest.raises(UnreadableImage):
            film_of(data)


def test_a_frame_of_more_bits_than_allocated_is_refused() -> None:
    wide = films.j2k(SMALL.astype(np.uint32) << 10, level=0, bitspersample=24)
    with pytest.raises(UnreadableImage, match="more bits"):
        film_of(films.encapsulated(wide, SMALL, uid.JPEG2000Lossless, BitsStored=16, HighBit=15))


@pytest.mark.parametrize("encoding", [None, *films.LOSSLESS, *films.LOSSY])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9, 0.98])
def test_a_truncated_film_is_refused_in_every_encoding(encoding: str | None, share: float) -> None:
    data = films.dicom(chest())
    data = (films.LOSSLESS | films.LOSSY)[encoding](data) if encoding else data
    with pytest.raises(UnreadableImage):
        film_of(data[: int(len(data) * share)])


@pytest.mark.parametrize("encoding", ["JPEG 2000", "RLE", "JPEG-LS"])
def test_a_frame_cut_short_and_closed_again_is_refused(encoding: str) -> None:
    ds = films.dcmread(films.io.BytesIO(films.LOSSLESS[encoding](films.dicom(chest()))))
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    cut = frame[: len(frame) // 2 & ~1] + b"\xff\xd9"
    with pytest.raises(UnreadableImage):
        film_of(films.encapsulated(cut, chest(), ds.file_meta.TransferSyntaxUID))


def test_messages_never_quote_an_element() -> None:
    for elements in (
        {"PhotometricInterpretation": "DOE^JOHN"}, {"SOPClassUID": "DOE^JOHN", "PixelData": None},
        {"SOPClassUID": "DOE^JOHN", "NumberOfFrames": 2}, {"Rows": 0, "PatientName": "DOE^JOHN"},
    ):  # fmt: skip
        with pytest.raises(CxrError) as refused:
            film_of(films.dicom(SMALL, **elements))
        assert "DOE" not in refused.value.message


def test_the_transfer_syntax_is_quoted_only_if_it_is_a_uid() -> None:
    with pytest.raises(CxrError) as refused:
        film_of(films.dicom(SMALL).replace(b"1.2.840.10008.1.2.1\0", b"DOE^JOHN 19560304  \0"))
    assert "DOE" not in refused.value.message


def test_limits_hold_for_the_header_and_for_the_frame() -> None:
    tight = Limits(max_pixels=1000)
    data = films.dicom(SMALL)
    with pytest.raises(FilmTooLarge):
        dicom.read_dicom(data, tight)
    assert dicom.read_dicom(data, Limits(max_pixels=1024)).pixels.shape == (32, 32)
