from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.errors import CxrError, FilmTooLarge, MultiFrame, UnreadableImage, UnsupportedEncoding, UnsupportedImage
from cxr.film import Limits
from cxr.picture import UPRIGHT, read_picture
from cxr.reading import stretch
from tests.handler import films
from tests.handler.films import chest, coloured, film_of, picture, shown, tensor_of, tiff
from tests.parts import chunk

GREY = chest(bits=8)
DEEP = chest(bits=16)


def close_to_grey(data: bytes, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(shown(data), GREY / 255, atol=tolerance)


# --- PNG -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_eight_bits_are_shown_as_they_are(kind: str) -> None:
    close_to_grey(picture(GREY, kind))


def test_sixteen_bits_keep_their_depth() -> None:
    film = film_of(picture(DEEP))
    np.testing.assert_array_equal(film.pixels, DEEP)
    assert film.tone.size == 65536


def test_one_bit_is_black_and_white() -> None:
    film = film_of(picture(Image.fromarray(GREY > 128).convert("1")))
    np.testing.assert_array_equal(film.tone[film.pixels], (GREY > 128).astype(float))


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "LA"])
def test_a_grey_picture_in_a_colour_mode_is_the_same_film(mode: str) -> None:
    image = Image.fromarray(GREY).convert("RGB").convert(mode) if mode != "P" else Image.fromarray(GREY).convert("P")
    data = picture(image)
    close_to_grey(data)
    assert film_of(data).colour == 0


def test_palette_is_looked_up() -> None:
    image = Image.fromarray(coloured()).quantize(64)
    film = film_of(picture(image))
    np.testing.assert_array_equal(film.pixels, np.asarray(image.convert("RGB").convert("L")))
    assert film.colour > 0.3


def test_transparent_entries_of_a_palette_are_black() -> None:
    image = Image.fromarray(np.repeat([[0, 1]], 4, axis=0).astype(np.uint8), "P")
    image.putpalette([200, 200, 200, 255, 255, 255])
    np.testing.assert_array_equal(film_of(picture(image, transparency=b"\x00\xff")).pixels, [[0, 255]] * 4)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_parts_are_black(mode: str) -> None:
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(Image.fromarray(np.where(GREY > 100, 255, 0).astype(np.uint8)))
    np.testing.assert_array_equal(film_of(picture(image)).pixels, np.where(GREY > 100, GREY, 0))


@pytest.mark.parametrize(("colour", "samples"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colour_and_alpha_are_read(colour: int, samples: int) -> None:
    import zlib

    planes = np.repeat(DEEP[..., None], samples, axis=2)
    if colour != 2:
        planes[..., -1] = 65535
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in planes)
    data = films.png(*DEEP.shape, depth=16, colour=colour, idat=zlib.compress(rows))
    film = film_of(data)
    np.testing.assert_array_equal(film.pixels, DEEP)
    assert (film.tone.size, film.colour) == (65536, 0)
    assert tensor_of(data).equal(tensor_of(picture(DEEP)))


def test_sixteen_bits_of_colour_are_weighed_composed_and_turned_at_full_depth() -> None:
    import zlib

    samples = np.random.default_rng(0).integers(0, 65536, (5, 7, 4)).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    exif = chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 1, 6))
    film = film_of(films.png(5, 7, exif, depth=16, colour=6, idat=zlib.compress(rows)))
    luminance = samples[..., :3] @ np.array([0.299, 0.587, 0.114]) * (samples[..., 3] / 65535)
    np.testing.assert_allclose(film.pixels, np.rot90(luminance, -1), atol=2)
    assert film.colour > 0.1


def test_no_memory_is_not_a_broken_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", none_left)
    with pytest.raises(MemoryError):
        film_of(picture(GREY))


def test_pillows_warnings_stay_out_of_a_workers_log(tmp_path: Path) -> None:
    """pytest has filters of its own: another process."""
    large = tmp_path / "large.png"
    large.write_bytes(films.png(10000, 10000))
    code = """
import pathlib, sys
from concurrent.futures import ThreadPoolExecutor
from tests.handler.probe import outcome
data = pathlib.Path(sys.argv[1]).read_bytes()
with ThreadPoolExecutor(4) as pool:
    print(set(pool.map(outcome, [data] * 20)))
"""
    environment = {**os.environ, "PYTHONPATH": f"{films.ROOT}:{films.ROOT / 'handler'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(large)]
    done = subprocess.run(command, env=environment, cwd=films.ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("{'FilmTooLarge'}", "")


def test_an_interlaced_png_is_read() -> None:
    import zlib

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(film_of(data).pixels, [[128]])


def test_an_animated_png_is_refused() -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    with pytest.raises(MultiFrame):
        film_of(picture(frames[0], save_all=True, append_images=frames[1:]))


# --- TIFF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("layout", [{}, {"tile": (64, 64)}, {"rowsperstrip": 7}])
def test_tiff_layouts_hold_the_same_film(byteorder: str, compression: str | None, layout: dict[str, Any]) -> None:
    for pixels in (GREY, DEEP):
        data = tiff(pixels, byteorder=byteorder, compression=compression, **layout)
        np.testing.assert_array_equal(film_of(data).pixels, pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_of_32_bits_is_stretched_over_its_own_range(dtype: Any, byteorder: str) -> None:
    values = (DEEP.astype(np.float64) * 1000 - 7e6).astype(dtype)
    data = tiff(values, byteorder=byteorder)
    expected = (values - values.min().astype(float)) / (values.max().astype(float) - values.min())
    np.testing.assert_allclose(shown(data), expected, atol=1 / 65535)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_tiff_with_values_that_are_no_numbers_is_refused(value: float) -> None:
    values = DEEP.astype(np.float32)
    values[3, 3] = value
    with pytest.raises(UnreadableImage):
        film_of(tiff(values))


def test_a_constant_float_tiff_has_no_contrast() -> None:
    assert stretch(film_of(tiff(np.full((9, 9), 0.5, np.float32))), (0.5, 99.5)).max() == 0


@pytest.mark.parametrize("pixels", [GREY, DEEP])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_white_is_zero_is_turned_round(pixels: Any, byteorder: str, compression: str | None) -> None:
    top = np.iinfo(pixels.dtype).max
    data = tiff(top - pixels, photometric="miniswhite", byteorder=byteorder, compression=compression)
    assert tensor_of(data).equal(tensor_of(tiff(pixels)))


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_white_is_zero_is_turned_round_in_floats_too(byteorder: str) -> None:
    pixels = GREY.astype(np.float32)
    inverted = film_of(tiff(255 - pixels, photometric="miniswhite", byteorder=byteorder))
    plain = film_of(tiff(pixels))
    np.testing.assert_allclose(inverted.tone[inverted.pixels], plain.tone[plain.pixels], atol=1e-4)


@pytest.mark.parametrize("count", [2, 5])
def test_a_tiff_of_several_pages_is_refused(count: int) -> None:
    pages = [Image.fromarray(GREY)] * count
    with pytest.raises(MultiFrame):
        film_of(picture(pages[0], "TIFF", save_all=True, append_images=pages[1:]))


def test_a_tiff_of_another_sample_format_is_unsupported_not_broken() -> None:
    with pytest.raises(UnsupportedEncoding):
        film_of(tiff(DEEP.astype(np.float64)))


def test_rgb_tiff_has_its_colour_measured() -> None:
    film = film_of(tiff(coloured(), photometric="rgb"))
    np.testing.assert_array_equal(film.pixels, np.asarray(Image.fromarray(coloured()).convert("L")))
    assert film.colour > 0.3


# --- JPEG ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_modes_hold_the_same_film(mode: str, progressive: bool) -> None:
    smooth = Image.fromarray(GREY).resize((28, 32)).resize((112, 128), Image.Resampling.BICUBIC)
    data = picture(smooth.convert("RGB").convert(mode), "JPEG", quality=95, progressive=progressive)
    np.testing.assert_allclose(shown(data) * 255, np.asarray(smooth), atol=8)


@pytest.mark.parametrize("transform", [0, 2])
def test_adobe_cmyk_and_ycck_are_stored_inverted(transform: int) -> None:
    rgb = coloured().astype(int)
    inks = np.dstack([rgb, np.full(rgb.shape[:2], 255)]).astype(np.uint8)  # inverted: 255 is no ink
    codec = films.imagecodecs.jpeg8_encode
    data = codec(inks, level=98, colorspace="CMYK", outcolorspace="YCCK" if transform else "CMYK", subsampling="444")
    data = (
        data
        if b"Adobe" in data
        else data[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([transform]) + data[2:]
    )
    film = film_of(data)
    np.testing.assert_allclose(film.pixels, np.asarray(Image.fromarray(coloured()).convert("L")), atol=8)
    assert film.colour > 0.3


def oriented(value: int, kind: str) -> bytes:
    """The upright film, stored turned away, with the tag that says how to turn it back."""
    stored = Image.fromarray(GREY)
    if value != 1:
        inverse = {6: UPRIGHT[8], 8: UPRIGHT[6]}.get(value, UPRIGHT[value])
        stored = stored.transpose(inverse)
    exif = Image.Exif()
    exif[274] = value
    return picture(stored, kind, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_orientation_is_brought_upright(value: int, kind: str) -> None:
    assert tensor_of(oriented(value, kind)).equal(tensor_of(picture(GREY)))


@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_of_a_phone_jpeg_is_brought_upright(value: int) -> None:
    film = film_of(oriented(value, "JPEG"))
    assert film.pixels.shape == GREY.shape
    np.testing.assert_allclose(film.pixels, GREY, atol=4)


def test_orientation_means_what_pillow_says_it_means() -> None:
    from PIL import ImageOps

    for value in range(1, 9):
        stored = Image.open(io.BytesIO(oriented(value, "PNG")))
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(stored)), GREY)


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", bytes(500), b"\xff" * 500]
)
def test_broken_exif_does_not_harm_the_film(exif: bytes) -> None:
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif
    data = picture(GREY, "JPEG")
    assert tensor_of(data[:2] + segment + data[2:]).equal(tensor_of(data))


def test_an_orientation_out_of_range_is_upright() -> None:
    exif = Image.Exif()
    exif[274] = 99
    assert tensor_of(picture(GREY, exif=exif)).equal(tensor_of(picture(GREY)))


def test_the_first_picture_of_an_mpo_is_the_film() -> None:
    main, preview = Image.fromarray(GREY), Image.fromarray(255 - GREY).resize((20, 20))
    data = picture(main, "MPO", save_all=True, append_images=[preview], quality=95)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert film_of(data).pixels.shape == GREY.shape
    assert tensor_of(data).equal(tensor_of(picture(main, "JPEG", quality=95)))


@pytest.mark.parametrize("options", [{"bitspersample": 12}, {"lossless": True, "predictor": 1}])
def test_jpeg_processes_for_dicom_only_are_named(options: dict[str, Any]) -> None:
    pixels = chest(bits=12) if "bitspersample" in options else GREY
    with pytest.raises(UnsupportedEncoding, match="only inside DICOM"):
        film_of(films.imagecodecs.jpeg8_encode(pixels, **options))


# --- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"<html></html>", b"%PDF-1.7", b"GIF89a" + bytes(50), b"BM" + bytes(60), b"\0", b"RIFF....WEBPVP8 "]
)
def test_other_bytes_are_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage) as refused:
        film_of(data)
    assert refused.value.status == 415


@pytest.mark.parametrize(
    "data",
    [
        picture(GREY), picture(DEEP), picture(GREY, "JPEG"), picture(GREY, "JPEG", progressive=True),
        tiff(GREY), tiff(DEEP, compression="lzw"), tiff(DEEP, compression="deflate", tile=(64, 64)),
    ],
    ids=["PNG", "PNG 16", "JPEG", "JPEG progressive", "TIFF", "TIFF LZW", "TIFF tiled"],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_picture_is_unreadable(data: bytes, share: float) -> None:
    with pytest.raises(UnreadableImage) as refused:
        film_of(data[: max(9, int(len(data) * share))])
    assert refused.value.status == 422


@pytest.mark.parametrize("size", [(60000, 60000), (2**31 - 1, 2**31 - 1), (5001, 5000)])
def test_more_pixels_than_the_limit_are_refused_by_the_header(size: tuple[int, int]) -> None:
    with pytest.raises(CxrError) as refused:
        film_of(films.png(*size))
    assert isinstance(refused.value, FilmTooLarge)


def test_pixels_up_to_the_limit_are_read() -> None:
    assert read_picture(picture(GREY), Limits(max_pixels=GREY.size)).pixels.shape == GREY.shape
    with pytest.raises(FilmTooLarge):
        read_picture(picture(GREY), Limits(max_pixels=GREY.size - 1))
