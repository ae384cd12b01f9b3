from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from cxr.network import ARCHITECTURES
from tests.training.conftest import ROOT
from training.recipe import RECIPES, TrainingRecipe, find, parse

SMALLEST = 'name = "x"\narchitecture = "resnet18"\n'


def test_every_recipe_of_the_project_parses_and_is_called_as_its_file() -> None:
    recipes = {path.stem: parse(path.read_text()) for path in RECIPES.glob("*.toml")}
    assert "default" in recipes
    assert all(recipe.name == name for name, recipe in recipes.items())


def test_every_recipe_of_the_project_splits_by_the_same_rule() -> None:
    assert {parse(path.read_text()).split for path in RECIPES.glob("*.toml")} == {TrainingRecipe("", "").split}


def test_what_a_recipe_leaves_out_has_its_default() -> None:
    assert parse(SMALLEST) == TrainingRecipe("x", "resnet18")


def test_numbers_and_lists_get_the_type_of_their_field() -> None:
    recipe = parse(SMALLEST + "[film]\nmean = [0, 0, 0]\n[optimise]\nlearning_rate = 1\n")
    assert recipe.film.mean == (0.0, 0.0, 0.0)
    assert isinstance(recipe.optimise.learning_rate, float)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sedd = 3", "unknown key sedd; known: name, architecture, weights"),
        ("[optimise]\nlr = 3.0", r"unknown key optimise\.lr; known: optimiser, learning_rate"),
        ("seed = 1.5", r"seed = 1\.5 .*\(int\)"),
        ("seed = true", "seed = True"),
        ("weights = 3", "weights = 3"),
        ('[optimise]\nepochs = "9"', r"optimise\.epochs = '9'"),
        ("[optimise]\nlearning_rate = true", r"optimise\.learning_rate = True .*\(float\)"),
        ('balance = "both"', "balance = 'both' .*'none', 'sampler', 'loss'"),
        ("[film]\nstretch = [1.0]", r"film\.stretch = \[1\.0\]"),
        ('[film]\nstd = [1, "x", 1]', r"film\.std = 'x'"),
        ("film = 3", "film = 3"),
        ("[optimise]\nbatch = 0", r"optimise\.batch"),
        ("[optimise]\nepochs = 0", r"optimise\.epochs"),
        ("[optimise]\nema = 1.0", r"optimise\.ema"),
        ("[split]\ntest = 0.0", r"split\.test"),
        ("[split]\ntest = 0.6\nvalidation = 0.4", r"split\.test \+ split\.validation"),
        ("[film]\nstretch = [99.0, 1.0]", r"film\.stretch"),
    ],
)
def test_a_wrong_key_or_value_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse(SMALLEST + text)


@pytest.mark.parametrize(("text", "named"), [('name = "x"', "architecture"), ('architecture = "x"', "name")])
def test_a_missing_key_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"missing key {named}"):
        parse(text)


def test_a_recipe_is_found_by_name_and_by_path(recipe_file: Path) -> None:
    assert find("default") == RECIPES / "default.toml"
    assert find(str(recipe_file)) == recipe_file


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"'typo'; there are: .*default"):
        find("typo")


def test_every_key_and_architecture_is_documented() -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    sections = [entry.default for entry in fields(TrainingRecipe) if is_dataclass(entry.default)]
    keys = {entry.name for section in (TrainingRecipe, *sections) for entry in fields(section)}
    names = {f"[{name}]" if is_dataclass(getattr(TrainingRecipe, name, None)) else name for name in keys}
    assert not [name for name in names | set(ARCHITECTURES) if f"`{name}`" not in page]
