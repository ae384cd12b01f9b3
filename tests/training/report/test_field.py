from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.recipe import Recipe
from tests.training.conftest import film, write_film
from training.report import field

RECIPE = Recipe(name="cxr", architecture="resnet18", version="1", labels=("A", "B"), size=32)
HALF = np.zeros((128, 128), np.uint8)
HALF[:, :64] = 255


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """A film in Kaggle's layout whose mask, of another size, is the left half."""
    write_film(tmp_path / "COVID" / "masks" / "1.png", HALF)
    return write_film(tmp_path / "COVID" / "images" / "1.png", film(0, 1, side=64))


def test_the_mask_of_the_data_set_is_the_lung_field(masked: Path) -> None:
    inside = field.lung_field(masked, (64, 64))
    assert inside[:, :32].all() and not inside[:, 32:].any()


def test_without_a_mask_it_is_a_central_ellipse(tmp_path: Path) -> None:
    inside = field.lung_field(tmp_path / "COVID" / "1.png", (200, 100))
    assert inside.shape == (200, 100)
    assert inside.mean() == pytest.approx(np.pi * 0.42 * 0.40, abs=0.01)
    assert inside[94, 50] and not inside[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_removing_the_lungs_leaves_the_rest(masked: Path) -> None:
    picture = np.full((64, 64), 200, np.uint8)
    inside = field.lung_field(masked, (64, 64))
    left = field.lungs_removed(picture, inside)
    assert (left[inside] == 0).all() and (left[~inside] == 200).all()


def test_the_border_is_a_frame_of_a_tenth() -> None:
    left = field.border_only(np.full((100, 50), 200, np.uint8), np.zeros((100, 50), bool))
    assert (left[10:90, 5:45] == 0).all()
    assert (left == 200).sum() == 100 * 50 - 80 * 40


@pytest.mark.parametrize("variant", field.VARIANTS)
def test_a_changed_film_is_sent_in_its_own_size(masked: Path, variant: str) -> None:
    with Image.open(io.BytesIO(field.changed(masked, variant, RECIPE))) as image:
        sent = np.asarray(image)
    whole = field.display_picture(masked, RECIPE.stretch)
    expected = field.VARIANTS[variant](whole, field.lung_field(masked, (64, 64)))
    assert (sent == expected).all() and (sent != whole).any()


def test_the_field_lies_on_the_networks_square(masked: Path, tmp_path: Path) -> None:
    seen = field.field_seen(masked, RECIPE)
    assert seen.shape == (32, 32)
    assert seen[:, :14].min() == 1 and seen[:, 18:].max() == 0
    assert field.field_seen(tmp_path / "1.png", RECIPE).mean() == pytest.approx(np.pi * 0.42 * 0.40, abs=0.01)
