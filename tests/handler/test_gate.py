from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.reading import Reader, inspect_pixels
from tests.handler import films
from tests.handler.asking import answer
from tests.handler.films import RECIPE, RG1_PNG, chest, coloured, film_of, picture
from tests.parts import shared

RG1 = RG1_PNG.read_bytes()
GREY = chest(bits=8)


# --- gate, first half ------------------------------------------------------------------------------


def pixel_verdict(pixels: Any) -> str | None:
    verdict = inspect_pixels(film_of(picture(pixels)), RECIPE)
    return verdict and verdict.reason


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_film_is_blank(level: int) -> None:
    assert pixel_verdict(np.full((99, 99), level, np.uint8)) == "blank"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_nearly_constant_film_is_blank(dtype: type) -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (200, 200))
    assert pixel_verdict((np.iinfo(dtype).max // 3 + noise).astype(dtype)) == "blank"


def test_a_constant_film_with_a_mark_is_blank() -> None:
    pixels = np.full((500, 500), 20, np.uint8)
    pixels[:20, :20] = 255  # 0.16 % of the film
    assert pixel_verdict(pixels) == "blank"


def test_a_colour_picture_is_no_film_whatever_its_contrast() -> None:
    assert pixel_verdict(coloured()) == "colour"


def test_ten_bits_in_sixteen_are_not_blank() -> None:
    assert pixel_verdict(chest(bits=10).astype(np.uint16)) is None


def test_a_faint_tint_is_not_colour() -> None:
    tinted = np.dstack([GREY, GREY, np.clip(GREY * 0.9, 0, 255).astype(np.uint8)])
    assert pixel_verdict(tinted) is None


# --- gate, on the archive's model ------------------------------------------------------------------


def photographs() -> dict[str, Path]:
    """Those that scikit-image and scikit-learn carry; nothing is downloaded."""
    import skimage
    import sklearn.datasets

    folders = Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images"
    return {
        path.stem: path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in (".png", ".jpg")
    }


PHOTOGRAPHS = photographs()


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_rejected(name: str, reader: Reader) -> None:
    assert answer(reader, PHOTOGRAPHS[name].read_bytes())["decision"] == "reject"


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_in_grey_are_rejected(name: str, reader: Reader) -> None:
    grey = Image.open(PHOTOGRAPHS[name]).convert("RGB").convert("L")
    assert answer(reader, picture(grey))["decision"] == "reject"


def test_noise_is_rejected(reader: Reader) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    smooth = Image.fromarray(noise[:16, :16]).resize((512, 512), Image.Resampling.BICUBIC)
    assert [answer(reader, picture(film))["decision"] for film in (noise, smooth)] == ["reject"] * 2


@pytest.mark.parametrize("name", ["highdicom_dx_dog_thorax_mono1.dcm", "RG3_J2KI.dcm", "nhsx_OT_sample.dcm"])
def test_the_dog_the_extremity_and_the_scout_are_rejected(name: str, reader: Reader) -> None:
    assert answer(reader, shared(f"dicom/{name}").read_bytes())["decision"] == "reject"


def test_the_packaged_extremity_is_rejected(reader: Reader) -> None:
    assert answer(reader, films.packaged("RG3_UNCR.dcm"))["decision"] == "reject"


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG1_J2KI.dcm"])
def test_rg1_is_accepted(name: str, reader: Reader) -> None:
    assert answer(reader, films.packaged(name))["decision"] != "reject"


def test_the_repositorys_own_film_is_accepted(reader: Reader) -> None:
    assert answer(reader, RG1)["decision"] != "reject"


def test_nih_dx_is_accepted(reader: Reader) -> None:
    assert answer(reader, shared("dicom/NIH_DX_nofinding.dcm").read_bytes())["decision"] != "reject"


def test_films_of_other_origin_are_accepted(reader: Reader) -> None:
    paths = sorted(shared("external").rglob("*.png"))
    rejected = [path.name for path in paths if answer(reader, path.read_bytes())["decision"] == "reject"]
    assert len(rejected) <= 0.05 * len(paths), rejected
