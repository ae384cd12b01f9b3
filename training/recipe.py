"""A training recipe: every choice of one training, read from TOML, frozen, unknown keys refused."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from cxr.network import ARCHITECTURES

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Bounds:
    """Of a number in a recipe, beside its field; both ends allowed unless said otherwise."""

    low: float
    high: float = math.inf
    above_low: bool = False
    below_high: bool = False

    def hold(self, value: float) -> bool:
        """False for nan and inf too."""
        above = self.low < value if self.above_low else self.low <= value
        return above and math.isfinite(value) and (value < self.high if self.below_high else value <= self.high)


Amount = Annotated[float, Bounds(0)]
Above0 = Annotated[float, Bounds(0, above_low=True)]
Share = Annotated[float, Bounds(0, 1)]
ShareAbove0 = Annotated[float, Bounds(0, 1, above_low=True)]
ShareBelow1 = Annotated[float, Bounds(0, 1, below_high=True)]
Count = Annotated[int, Bounds(0)]
CountFrom1 = Annotated[int, Bounds(1)]
Side = Annotated[int, Bounds(32, 4096)]
"""Pixels."""


@dataclass(frozen=True)
class FilmSettings:
    """How a film becomes a tensor; goes into the archive as it is."""

    size: Side = 224
    stretch: tuple[float, float] = (0.5, 99.5)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    centre: ShareAbove0 = 1.0
    """Share of each side that a crop around the centre keeps, before the shrinking to `size`."""


@dataclass(frozen=True)
class SplitSettings:
    """Shares of groups, or films of each class. The rule is a hash of salt and group: see `training.split`."""

    salt: str = "cxr-split-1"
    test: Above0 = 0.2
    validation: Above0 = 0.1
    test_per_class: Count = 0
    """Films of each class in the test part, instead of the share; 0: the share counts."""
    validation_per_class: Count = 0
    most_per_class: Count = 0
    """Films of each class that a part keeps at most; 0: all."""
    duplicates: Literal["refuse", "drop", "allow"] = "refuse"
    """Nearly the same picture in two parts: end the run, leave out the film that is not tested, or count only."""


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes of the stretched picture, 0 leaves one out. Geometry in shares of the side."""

    flip: Share = 0.5
    rotate: Amount = 10.0
    """Degrees either way."""
    translate: ShareBelow1 = 0.06
    scale: tuple[float, float] = (0.9, 1.1)
    aspect: ShareBelow1 = 0.0
    """Stretch of one axis against the other, either way."""
    brightness: ShareBelow1 = 0.2
    contrast: Share = 0.2
    gamma: Amount = 0.0
    """Exponent between 1 / (1 + gamma) and 1 + gamma."""
    blur: Amount = 0.0
    """Largest sigma, pixels."""
    noise: Amount = 0.0
    """Largest standard deviation, share of white."""
    equalise: Share = 0.0
    """Probability of global histogram equalisation."""
    erase: Share = 0.0
    """Probability of blanking a random rectangle."""


@dataclass(frozen=True)
class OptimiseSettings:
    """AdamW, Adam or SGD (momentum 0.9)."""

    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Above0 = 3e-4
    weight_decay: Amount = 1e-2
    batch: CountFrom1 = 32
    epochs: CountFrom1 = 10
    label_smoothing: ShareBelow1 = 0.0
    dropout: ShareBelow1 = 0.2
    ema: ShareBelow1 = 0.0
    """Decay of an exponential moving average of the weights per step; 0 for none."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Learning rate over time: constant, cosine with linear warm-up, or a step every few epochs."""

    kind: Literal["constant", "cosine", "step"] = "cosine"
    warmup: ShareBelow1 = 0.05
    """Share of all steps."""
    every: CountFrom1 = 3
    factor: ShareAbove0 = 0.1


@dataclass(frozen=True)
class StopSettings:
    """Keep the epoch best on validation films, or the last; stop after `patience` epochs without a better one."""

    metric: Literal["loss", "macro_f1", "last"] = "loss"
    patience: Count = 0
    """0: never stop early."""
    first_epoch: CountFrom1 = 1
    """Epochs before this one are not kept."""
    training_accuracy: Share = 0.0
    """Stop after the epoch in which the augmented training films were told right this often; 0: never."""


@dataclass(frozen=True)
class DistilSettings:
    """Learn from a stronger network too (Hinton et al. 2015, arXiv:1503.02531)."""

    teacher: str = ""
    """Path of a TorchScript file of this project; empty for none."""
    weight: Share = 0.8
    temperature: Above0 = 3.0
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
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 1
    balance: Literal["none", "sampler", "loss"] = "sampler"
    """Draw rare classes more often, weigh their loss more, or neither."""
    report_share: ShareAbove0 = 0.95
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
    hints = typing.get_type_hints(cls, include_extras=True)
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
    if origin is Annotated:
        kind, bounds = typing.get_args(hint)
        if not bounds.hold(number := _convert(kind, value, key)):
            raise ValueError(f"{key}: out of range")
        return number
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
    """What is no matter of one number's bounds.

    Raises:
        ValueError: values that no training can work with; the rest is the author's choice.
    """
    if recipe.architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {recipe.architecture!r}; known: {', '.join(ARCHITECTURES)}")
    film, split, scale = recipe.film, recipe.split, recipe.augment.scale
    refused = {
        "hidden": any(width < 1 for width in recipe.hidden),
        "classes": len(recipe.classes) == 1 or len(set(recipe.classes)) < len(recipe.classes),
        "split.test + split.validation": split.test + split.validation >= 1,
        "film.stretch": not 0 <= film.stretch[0] < film.stretch[1] <= 100,
        "film.mean": not all(map(math.isfinite, film.mean)),
        "film.std": not all(0 < value < math.inf for value in film.std),
        "augment.scale": not 0 < scale[0] <= scale[1] < math.inf,
        "stop.first_epoch": recipe.stop.first_epoch > recipe.optimise.epochs,
        "distil.size": recipe.distil.size and not 32 <= recipe.distil.size <= 4096,
    }
    for key, wrong in refused.items():
        if wrong:
            raise ValueError(f"{key}: out of range")
