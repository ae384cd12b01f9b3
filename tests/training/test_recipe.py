from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest

from cxr.network import ARCHITECTURES
from tests.training.conftest import ROOT
from training.recipe import RECIPES, TrainingRecipe, find, from_values, parse, stands_alone, to_toml

SMALLEST = 'name = "x"\narchitecture = "resnet18"\n'


def test_every_recipe_of_the_project_parses_and_is_called_as_its_file() -> None:
    recipes = {path.stem: parse(path.read_text()) for path in RECIPES.glob("*.toml")}
    assert "default" in recipes
    assert all(recipe.name == name for name, recipe in recipes.items())


def test_every_recipe_of_the_project_hashes_with_the_same_salt() -> None:
    assert {parse(path.read_text()).split.salt for path in RECIPES.glob("*.toml")} == {"cxr-split-1"}


@pytest.mark.parametrize("architecture", ["densenet121", "resnet18", "squeezenet", "resnet50"])
def test_the_scheduled_recipes_differ_in_the_schedule_alone(architecture: str) -> None:
    plain, step = (parse(find(f"gyiernahfu2021-{architecture}{end}").read_text()) for end in ("", "-step"))
    assert replace(step, name=plain.name, schedule=plain.schedule) == plain
    assert (step.schedule.kind, step.schedule.every, step.schedule.factor) == ("step", 3, 0.1)


def test_a_recipe_states_only_what_differs_from_its_base() -> None:
    text = 'base = "gyiernahfu2021-resnet18"\nname = "mine"\n[optimise]\nbatch = 7\n'
    mine, base = parse(text), parse(find("gyiernahfu2021-resnet18").read_text())
    assert mine == replace(base, name="mine", optimise=replace(base.optimise, batch=7))


def test_a_base_that_is_not_there_lists_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match="no recipe 'typo'; there are: "):
        parse('base = "typo"\nname = "x"\n')


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_a_recipe_written_out_in_full_is_the_same_recipe(name: str) -> None:
    recipe = parse(find(name).read_text())
    assert parse(to_toml(recipe)) == recipe
    assert from_values(asdict(recipe)) == recipe


def test_a_recipe_that_says_everything_is_kept_word_for_word() -> None:
    recipe = parse(SMALLEST)
    assert stands_alone(SMALLEST, recipe) == SMALLEST
    changed = replace(recipe, overrides=("epochs 10 -> 1",))
    assert parse(stands_alone(SMALLEST, changed)) == changed


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
        ("[film]\ncentre = 0.0", r"film\.centre"),
        ("[film]\ncentre = 1.5", r"film\.centre"),
        ("[split]\ntest_per_class = -1", r"split\.test_per_class"),
        ("[split]\nvalidation_per_class = -1", r"split\.validation_per_class"),
        ("[split]\nmost_per_class = -1", r"split\.most_per_class"),
        ('[split]\nduplicates = "ignore"', r"split\.duplicates = 'ignore'"),
        ("[stop]\nfirst_epoch = 11", r"stop\.first_epoch"),
        ("[stop]\nfirst_epoch = 0", r"stop\.first_epoch"),
        ("[stop]\ntraining_accuracy = 95", r"stop\.training_accuracy"),
        ("[stop]\npatience = -3", r"stop\.patience"),
        ("[schedule]\nwarmup = 2.0", r"schedule\.warmup"),
        ("[schedule]\nfactor = 0.0", r"schedule\.factor"),
        ("[distil]\ntemperature = 0.0", r"distil\.temperature"),
        ("[distil]\nweight = 5.0", r"distil\.weight"),
        ("[optimise]\ndropout = 1.5", r"optimise\.dropout"),
        ("[optimise]\nlabel_smoothing = 1.0", r"optimise\.label_smoothing"),
        ("[optimise]\nweight_decay = -1.0", r"optimise\.weight_decay"),
        ("[augment]\nscale = [0.0, 1.0]", r"augment\.scale"),
        ("[augment]\nscale = [1.0, inf]", r"augment\.scale"),
        ("[augment]\nrotate = inf", r"augment\.rotate"),
        ("[film]\nstd = [nan, 1.0, 1.0]", r"film\.std"),
        ("[film]\nmean = [nan, 0.0, 0.0]", r"film\.mean"),
        ("[film]\nsize = 100000", r"film\.size"),
        ("seed = -1", "seed"),
        ("[augment]\nscale = [1.2, 1.0]", r"augment\.scale"),
        ("[augment]\nbrightness = -1.0", r"augment\.brightness"),
        ("[augment]\nflip = 1.5", r"augment\.flip"),
        ("[augment]\nnoise = -0.1", r"augment\.noise"),
        ("hidden = [0]", "hidden: out of range"),
        ('hidden = ["wide"]', "hidden = 'wide'"),
        ('classes = ["COVID"]', "classes: out of range"),
        ('classes = "COVID"', "classes = 'COVID'"),
    ],
)
def test_a_wrong_key_or_value_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse(SMALLEST + text)


@pytest.mark.parametrize(("text", "named"), [('name = "x"', "architecture"), ('architecture = "x"', "name")])
def test_a_missing_key_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"missing key {named}"):
        parse(text)


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'resnet19'; known: resnet18, "):
        parse('name = "x"\narchitecture = "resnet19"')


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
