from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import generate_frames

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
from tests.handler.films import chest, film_of, tensor_of
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
    ds = dcmread(films.packaged_path(name))
    offset = 1 << (ds.BitsStored - 1) if ds.PixelRepresentation else 0
    np.testing.assert_array_equal(film_of(films.packaged(name)).pixels, ds.pixel_array.astype(int) + offset)


def test_a_frame_in_several_fragments_is_one_frame() -> None:
    plain = films.dicom(chest())
    split = films.dcmtk("dcmcjpeg", "+e1", "+fs", "2")(plain)
    assert tensor_of(split).equal(tensor_of(plain))


def test_a_frame_without_offset_table_is_read() -> None:
    plain = films.dicom(chest())
    assert tensor_of(films.dcmtk("dcmcjpls", "-ot")(plain)).equal(tensor_of(plain))


@pytest.mark.parametrize("encoding", ["JPEG lossless SV1", "JPEG-LS", "JPEG 2000"])
def test_zeros_behind_a_whole_frame_do_no_harm(encoding: str) -> None:
    plain = films.dicom(chest())
    ds = dcmread(io.BytesIO(films.LOSSLESS[encoding](plain)))
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    filled = films.encapsulated(frame + bytes(512), chest(), ds.file_meta.TransferSyntaxUID)
    assert tensor_of(filled).equal(tensor_of(plain))


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
    ds = dcmread(io.BytesIO(films.LOSSLESS[encoding](films.dicom(SMALL))))
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
    ds = dcmread(io.BytesIO(films.LOSSLESS[encoding](films.dicom(chest()))))
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
