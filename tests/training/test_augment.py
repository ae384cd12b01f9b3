from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.training.conftest import film
from training.augment import Augment
from training.recipe import RECIPES, AugmentSettings, parse

NOTHING = AugmentSettings(flip=0, rotate=0, translate=0, scale=(1, 1), brightness=0, contrast=0)
ROBUST = parse((RECIPES / "robust.toml").read_text()).augment
EACH = {
    "flip": 1.0,
    "rotate": 20.0,
    "translate": 0.2,
    "scale": (0.7, 0.8),
    "aspect": 0.2,
    "brightness": 0.3,
    "contrast": 0.3,
    "gamma": 0.5,
    "blur": 2.0,
    "noise": 0.1,
    "equalise": 1.0,
    "erase": 1.0,
}


def picture(side: int = 64) -> Tensor:
    return torch.from_numpy(film(1, 1, side))


def some(settings: AugmentSettings, count: int = 12) -> Tensor:
    """(count, 64, 64): the same picture, augmented again and again."""
    torch.manual_seed(3)
    augment = Augment(settings)
    return torch.stack([augment(picture()) for _ in range(count)])


@pytest.mark.parametrize("side", [64, 65, 224])
def test_without_settings_nothing_changes_bit_for_bit(side: int) -> None:
    assert torch.equal(Augment(NOTHING)(picture(side)), picture(side).to(torch.float32))


@pytest.mark.parametrize("name", EACH)
def test_every_setting_changes_the_picture(name: str) -> None:
    augmented = some(replace(NOTHING, **{name: EACH[name]}))
    assert (augmented - picture()).abs().amax() > 2


def test_every_setting_is_tried_here() -> None:
    assert EACH.keys() == vars(NOTHING).keys()


@pytest.mark.parametrize("settings", [AugmentSettings(), ROBUST])
def test_the_same_seed_gives_the_same_pictures(settings: AugmentSettings) -> None:
    first = some(settings)
    assert torch.equal(first, some(settings))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("settings", [AugmentSettings(), ROBUST])
def test_shape_type_and_range_stay(settings: AugmentSettings) -> None:
    augmented = some(settings, 40)
    assert augmented.shape == (40, 64, 64)
    assert augmented.dtype == torch.float32
    assert augmented.min() >= 0
    assert 200 < augmented.max() <= 255


def test_the_picture_given_stays_as_it_is() -> None:
    given = picture()
    Augment(ROBUST)(given)
    assert torch.equal(given, picture())
