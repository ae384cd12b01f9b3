"""A training recipe: every choice of one training, read from TOML, frozen, unknown keys refused."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from cxr.network import ARCHITECTURES

RECIPES = Path(__file__).parent / "recipes"
BELOW_ONE = ("translate", "aspect", "brightness", "contrast")
PROBABILITIES = ("flip", "equalise", "erase")
"""Keys of `[augment]` that are shares."""


@dataclass(frozen=True)
class FilmSettings:
    """How a film becomes a tensor; goes into the archive as it is."""

    size: int = 224
    stretch: tuple[float, float] = (0.5, 99.5)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    centre: float = 1.0
    """Share of each side that a crop around the centre keeps, before the shrinking to `size`."""


@dataclass(frozen=True)
class SplitSettings:
    """Shares of groups, or films of each class. The rule is a hash of salt and group: see `training.split`."""

    salt: str = "cxr-split-1"
    test: float = 0.2
    validation: float = 0.1
    test_per_class: int = 0
    """Films of each class in the test part, instead of the share; 0: the share counts."""
    validation_per_class: int = 0
    most_per_class: int = 0
    """Films of each class that a part keeps at most; 0: all."""
    duplicates: Literal["refuse", "drop", "allow"] = "refuse"
    """Nearly the same picture in two parts: end the run, leave out the film that is not tested, or count only."""


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes of the stretched picture, 0 leaves one out. Geometry in shares of the side."""

    flip: float = 0.5
    rotate: float = 10.0
    """Degrees either way."""
    translate: float = 0.06
    scale: tuple[float, float] = (0.9, 1.1)
    aspect: float = 0.0
    """Stretch of one axis against the other, either way."""
    brightness: float = 0.2
    contrast: float = 0.2
    gamma: float = 0.0
    """Exponent between 1 / (1 + gamma) and 1 + gamma."""
    blur: float = 0.0
    """Largest sigma, pixels."""
    noise: float = 0.0
    """Largest standard deviation, share of white."""
    equalise: float = 0.0
    """Probability of global histogram equalisation."""
    erase: float = 0.0
    """Probability of blanking a random rectangle."""


@dataclass(frozen=True)
class OptimiseSettings:
    """AdamW, Adam or SGD (momentum 0.9)."""

    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    batch: int = 32
    epochs: int = 10
    label_smoothing: float = 0.0
    dropout: float = 0.2
    ema: float = 0.0
    """Decay of an exponential moving average of the weights per step; 0 for none."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Learning rate over time: constant, cosine with linear warm-up, or a step every few epochs."""

    kind: Literal["constant", "cosine", "step"] = "cosine"
    warmup: float = 0.05
    """Share of all steps."""
    every: int = 3
    factor: float = 0.1


@dataclass(frozen=True)
class StopSettings:
    """Keep the epoch best on validation films, or the last; stop after `patience` epochs without a better one."""

    metric: Literal["loss", "macro_f1", "last"] = "loss"
    patience: int = 0
    """0: never stop early."""
    first_epoch: int = 1
    """Epochs before this one are not kept."""
    training_accuracy: float = 0.0
    """Stop after the epoch in which the augmented training films were told right this often; 0: never."""


@dataclass(frozen=True)
class DistilSettings:
    """Learn from a stronger network too (Hinton et al. 2015, arXiv:1503.02531)."""

    teacher: str = ""
    """Path of a TorchScript file of this project; empty for none."""
    weight: float = 0.8
    temperature: float = 3.0
    size: int = 0
    """Side in pixels at which the teacher is shown the films; 0: the one it was trained with."""


@dataclass(frozen=True)
class TrainingRecipe:
    """One TOML file."""

    name: str
    architecture: str
    weights: str = "imagenet"
    """`imagenet`, `none`, the path of a checkpoint of this project, or several joined by " + ": their mean."""
    hidden: tuple[int, ...] = ()
    """Widths of fully connected layers with ReLU between the pooled features and the logits."""
    classes: tuple[str, ...] = ()
    """Class folders to use; empty: all."""
    version: str = "1.0"
    seed: int = 1
    balance: Literal["none", "sampler", "loss"] = "sampler"
    """Draw rare classes more often, weigh their loss more, or neither."""
    report_share: float = 0.95
    """Share of validation films whose confidence lies above the abstain threshold."""
    overrides: tuple[str, ...] = ()
    """What the command line changed, written by it: such a run is not the recipe as it stands in its file."""
    film: FilmSettings = FilmSettings()
    split: SplitSettings = SplitSettings()
    augment: AugmentSettings = AugmentSettings()
    optimise: OptimiseSettings = OptimiseSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    stop: StopSettings = StopSettings()
    distil: DistilSettings = DistilSettings()

    @property
    def quick(self) -> bool:
        """Whether `--quick` cut it down: its figures say nothing about the recipe."""
        return QUICK in self.overrides


QUICK = "quick"
"""Among a recipe's `overrides`."""


def find(name_or_path: str) -> Path:
    """A recipe by its name in `training/recipes/`, or by path.

    Raises:
        FileNotFoundError: neither; the message lists the recipes there are.
    """
    for path in (RECIPES / f"{name_or_path}.toml", Path(name_or_path)):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
    raise FileNotFoundError(f"no recipe {name_or_path!r}; there are: {known}")


def parse(text: str) -> TrainingRecipe:
    """A recipe from TOML; `base` names a recipe of this project of which it states the differences.

    Raises:
        ValueError: an unknown key, a missing one or a value of the wrong kind or range, named.
        FileNotFoundError: no recipe is called as `base` says.
    """
    return from_values(_on_base(tomllib.loads(text)))


def from_values(values: dict[str, Any]) -> TrainingRecipe:
    """A recipe from what `dataclasses.asdict` made of one, by this version or an older one with fewer keys.

    Raises:
        ValueError: as `parse`.
    """
    recipe: TrainingRecipe = _build(TrainingRecipe, values, "")
    check(recipe)
    return recipe


def to_toml(recipe: TrainingRecipe) -> str:
    """Every key of the recipe, as TOML that `parse` reads: what was trained where no file says all of it."""
    return tomli_w.dumps(asdict(recipe))


def stands_alone(text: str, recipe: TrainingRecipe) -> str:
    """The recipe's own text where that says everything, else all its keys written out."""
    return text if not recipe.overrides and "base" not in tomllib.loads(text) else to_toml(recipe)


def _on_base(values: dict[str, Any]) -> dict[str, Any]:
    if "base" not in values:
        return values
    own = {key: value for key, value in values.items() if key != "base"}
    base = _on_base(tomllib.loads(find(values["base"]).read_text()))
    sections = {key: {**base[key], **value} for key, value in own.items() if isinstance(base.get(key), dict)}
    return {**base, **own, **sections}


# --- from values to dataclasses --------------------------------------------------------------------


def _build(cls: type, values: dict[str, Any], where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in values.keys() - fields.keys():
        raise ValueError(f"unknown key {where}{key}; known: {', '.join(fields)}")
    for name, entry in fields.items():
        if entry.default is dataclasses.MISSING and name not in values:
            raise ValueError(f"missing key {where}{name}")
    return cls(**{key: _convert(hints[key], value, where + key) for key, value in values.items()})


def _convert(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast(type, hint), value, f"{key}.")
    origin = typing.get_origin(hint)
    if origin is Literal and value in typing.get_args(hint):
        return value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = typing.get_args(hint)
        if kinds[-1] is Ellipsis:
            return tuple(_convert(kinds[0], entry, key) for entry in value)
        if len(value) == len(kinds):
            return tuple(_convert(float, number, key) for number in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(hint, types.GenericAlias) and isinstance(hint, type) and type(value) is hint:
        return value
    wanted = hint.__name__ if type(hint) is type else str(hint).replace("typing.", "")
    raise ValueError(f"{key} = {value!r} is not what the recipe needs there ({wanted})")


def check(recipe: TrainingRecipe) -> None:
    """Raises ValueError for values that no training can work with; the rest is the author's choice."""
    if recipe.architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {recipe.architecture!r}; known: {', '.join(ARCHITECTURES)}")
    refused = {
        "hidden": any(width < 1 for width in recipe.hidden),
        "classes": len(recipe.classes) == 1 or len(set(recipe.classes)) < len(recipe.classes),
        "report_share": not 0 < recipe.report_share <= 1,
        **_refused_films(recipe.film, recipe.split, recipe.augment),
        **_refused_training(recipe),
    }
    for key, wrong in refused.items():
        if wrong:
            raise ValueError(f"{key}: out of range")


def _refused_films(film: FilmSettings, split: SplitSettings, augment: AugmentSettings) -> dict[str, bool]:
    return {
        "split.test": split.test <= 0,
        "split.validation": split.validation <= 0,
        "split.test + split.validation": split.test + split.validation >= 1,
        "split.test_per_class": split.test_per_class < 0,
        "split.validation_per_class": split.validation_per_class < 0,
        "split.most_per_class": split.most_per_class < 0,
        "film.size": film.size < 32,
        "film.stretch": not 0 <= film.stretch[0] < film.stretch[1] <= 100,
        "film.centre": not 0 < film.centre <= 1,
        "film.std": min(film.std) <= 0,
        "augment.scale": not 0 < augment.scale[0] <= augment.scale[1],
        **{f"augment.{name}": not 0 <= getattr(augment, name) < 1 for name in ("aspect", "brightness", "translate")},
        **{
            f"augment.{name}": not 0 <= getattr(augment, name) <= 1
            for name in ("flip", "equalise", "erase", "contrast")
        },
        **{f"augment.{name}": getattr(augment, name) < 0 for name in ("rotate", "gamma", "blur", "noise")},
    }


def _refused_training(recipe: TrainingRecipe) -> dict[str, bool]:
    optimise, schedule, stop, distil = recipe.optimise, recipe.schedule, recipe.stop, recipe.distil
    return {
        "optimise.batch": optimise.batch < 1,
        "optimise.epochs": optimise.epochs < 1,
        "optimise.learning_rate": optimise.learning_rate <= 0,
        "optimise.weight_decay": optimise.weight_decay < 0,
        "optimise.label_smoothing": not 0 <= optimise.label_smoothing < 1,
        "optimise.dropout": not 0 <= optimise.dropout < 1,
        "optimise.ema": not 0 <= optimise.ema < 1,
        "schedule.every": schedule.every < 1,
        "schedule.warmup": not 0 <= schedule.warmup < 1,
        "schedule.factor": not 0 < schedule.factor <= 1,
        "stop.first_epoch": not 1 <= stop.first_epoch <= optimise.epochs,
        "stop.training_accuracy": not 0 <= stop.training_accuracy <= 1,
        "stop.patience": stop.patience < 0,
        "distil.weight": not 0 <= distil.weight <= 1,
        "distil.temperature": distil.temperature <= 0,
        "distil.size": distil.size != 0 and distil.size < 32,
    }
