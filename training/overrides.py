"""What the command line changes of a recipe, noted in the recipe itself so that no run hides it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from training.recipe import QUICK, DistilSettings, TrainingRecipe, from_values

QUICK_EPOCHS, QUICK_SIDE, QUICK_FILMS = 2, 96, 32
"""Epochs, pixels, and films of each class in each part."""


@dataclass(frozen=True)
class Overrides:
    """Options of `train` that make a run another one than its recipe; all of them are written into the run folder."""

    quick: bool = False
    epochs: int | None = None
    weights: str | None = None
    duplicates: Literal["refuse", "drop", "allow"] | None = None

    def apply(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """The recipe that is trained; its `overrides` say what differs from its file.

        Raises:
            ValueError: a value out of range.
        """
        if self.quick:
            recipe = _quick(recipe)
        if self.epochs is not None:
            recipe = _noted(_shortened(recipe, self.epochs), "epochs", recipe.optimise.epochs, self.epochs)
        if self.weights is not None:
            recipe = _noted(replace(recipe, weights=self.weights), "weights", recipe.weights, self.weights)
        if self.duplicates is not None:
            split = replace(recipe.split, duplicates=self.duplicates)
            recipe = _noted(replace(recipe, split=split), "duplicates", recipe.split.duplicates, self.duplicates)
        return from_values(asdict(recipe))


def _noted(recipe: TrainingRecipe, key: str, before: object, after: object) -> TrainingRecipe:
    note = f"{key} {before} -> {after}"
    return recipe if before == after else replace(recipe, overrides=(*recipe.overrides, note))


def _shortened(recipe: TrainingRecipe, epochs: int) -> TrainingRecipe:
    stop = replace(recipe.stop, first_epoch=max(1, min(recipe.stop.first_epoch, epochs)))
    return replace(recipe, optimise=replace(recipe.optimise, epochs=epochs), stop=stop)


def _quick(recipe: TrainingRecipe) -> TrainingRecipe:
    """Minutes on two cores, without a download or another run: it shows that a recipe runs, and nothing more."""
    packaged = recipe.architecture == "efficientnet_lite0"
    return replace(
        _shortened(recipe, min(QUICK_EPOCHS, recipe.optimise.epochs)),
        name=f"{recipe.name}-quick",
        weights="imagenet" if packaged and recipe.weights != "none" else "none",
        film=replace(recipe.film, size=min(QUICK_SIDE, recipe.film.size)),
        split=replace(recipe.split, most_per_class=QUICK_FILMS),
        distil=DistilSettings(),
        overrides=(*recipe.overrides, QUICK),
    )
