from __future__ import annotations

from dataclasses import replace

import pytest

from training.overrides import Overrides
from training.recipe import RECIPES, TrainingRecipe, find, parse

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_of(name: str) -> TrainingRecipe:
    return parse(find(name).read_text())


def test_without_options_the_recipe_stays_as_it_is() -> None:
    assert Overrides().apply(recipe_of("chan2020")) == recipe_of("chan2020")


@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run_is_small_needs_nothing_and_is_called_quick(name: str) -> None:
    full, quick = recipe_of(name), Overrides(quick=True).apply(recipe_of(name))
    assert quick.quick and not full.quick
    assert quick.name == f"{name}-quick"
    assert quick.optimise.epochs <= 2 and quick.film.size <= 96 and quick.split.most_per_class <= 32
    assert quick.weights == "none" or (quick.weights, quick.architecture) == ("imagenet", "efficientnet_lite0")
    assert quick.distil.teacher == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run_keeps_every_other_choice(name: str) -> None:
    full, quick = recipe_of(name), Overrides(quick=True).apply(recipe_of(name))
    same = ("architecture", "hidden", "classes", "balance", "augment", "schedule", "seed")
    assert [getattr(quick, key) for key in same] == [getattr(full, key) for key in same]
    assert replace(quick.optimise, epochs=full.optimise.epochs) == full.optimise
    assert quick.film.centre == full.film.centre


def test_every_change_is_noted() -> None:
    changed = Overrides(epochs=3, weights="none", duplicates="drop").apply(recipe_of("chan2020"))
    assert changed.overrides == ("epochs 20 -> 3", "weights imagenet -> none", "duplicates refuse -> drop")
    assert (changed.optimise.epochs, changed.weights, changed.split.duplicates) == (3, "none", "drop")
    assert changed.name == "chan2020"


def test_what_is_as_the_recipe_says_is_no_change() -> None:
    assert Overrides(epochs=20, weights="imagenet").apply(recipe_of("chan2020")) == recipe_of("chan2020")


def test_a_shortened_run_keeps_its_best_epoch_from_those_it_has() -> None:
    assert Overrides(epochs=3).apply(recipe_of("chan2020")).stop.first_epoch == 3


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epochs_are_refused(epochs: int) -> None:
    with pytest.raises(ValueError, match=r"optimise\.epochs"):
        Overrides(epochs=epochs).apply(recipe_of("conchari2021"))
