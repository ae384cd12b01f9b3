from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid

from tests.handler import films
from tests.handler.films import chest, coloured, film_of

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
