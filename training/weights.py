"""Where a training starts: ImageNet's weights, random ones, or those of another run."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from cxr.network import Network, build
from training.recipe import RECIPES, TrainingRecipe, find, parse

MEAN_OF = " + "
"""Between the paths of checkpoints whose mean is taken."""


class WeightsUnavailable(RuntimeError):
    """Pretrained weights could not be had; the message says what can be used instead."""


def stages_before(recipe: TrainingRecipe) -> list[str]:
    """Names of the recipes whose runs this one goes on from or learns from and that are not finished, first ones first.

    A run in runs/<name> is that of the recipe <name>, and finished when it holds metrics.json.
    """
    found: list[str] = []
    for path in [*_checkpoints(recipe), *_teacher(recipe)]:
        folder = path.parent
        if folder.parent == Path("runs") and _is_ours(folder.name) and not (folder / "metrics.json").is_file():
            found += [*stages_before(parse(find(folder.name).read_text())), folder.name]
    return list(dict.fromkeys(found))


def require_files(recipe: TrainingRecipe) -> None:
    """For before the films are read, which takes minutes: are the files of other runs there?

    Raises:
        WeightsUnavailable: a checkpoint or the teacher is missing; the message names the recipe to train first.
    """
    for path in _checkpoints(recipe):
        if not path.is_file():
            raise WeightsUnavailable(_missing("checkpoint", path))
    for path in _teacher(recipe):
        if not path.is_file():
            raise WeightsUnavailable(_missing("teacher", path))


def _checkpoints(recipe: TrainingRecipe) -> list[Path]:
    named = recipe.weights not in ("imagenet", "none")
    return [Path(path) for path in recipe.weights.split(MEAN_OF)] if named else []


def _teacher(recipe: TrainingRecipe) -> list[Path]:
    return [Path(recipe.distil.teacher)] if recipe.distil.teacher else []


def _is_ours(name: str) -> bool:
    return (RECIPES / f"{name}.toml").is_file()


def _missing(what: str, path: Path) -> str:
    """A run folder is called as its recipe, unless somebody chose otherwise."""
    name = path.parent.name
    first = f"{name} first (make train DATA=<folder> RECIPE={name})" if _is_ours(name) else "that makes it first"
    return f"no {what} at {str(path)!r}: train the recipe {first}"


def new_network(recipe: TrainingRecipe, classes: int) -> Network:
    """With the recipe's weights.

    Raises:
        WeightsUnavailable: they could not be downloaded or found.
    """
    head: dict[str, Any] = {"dropout": recipe.optimise.dropout, "hidden": recipe.hidden}
    if recipe.weights in ("imagenet", "none"):
        wanted = None if recipe.weights == "none" else recipe.weights
        try:
            return build(recipe.architecture, classes, weights=wanted, **head)
        except (OSError, RuntimeError) as error:  # RuntimeError: a download that ended too early
            raise WeightsUnavailable(
                f"the ImageNet weights of {recipe.architecture} could not be downloaded ({error}); set "
                'weights = "none" (make train ... WEIGHTS=none), weights = "<checkpoint file>", or use '
                "efficientnet_lite0, whose weights are an installed package"
            ) from error
    network = build(recipe.architecture, classes, **head)
    load_weights(network, _checkpoints(recipe))
    return network


def load_weights(network: Network, paths: list[Path]) -> None:
    """A checkpoint of this project, or the mean of several; a head of another number of classes is left out.

    The mean of networks that were trained on from the same weights is often better than each (model soups,
    Wortsman et al. 2022, arXiv:2203.05482).

    Raises:
        WeightsUnavailable: no such file, or one of another kind or architecture.
    """
    path, weights = paths[0], _mean([_checkpoint(path) for path in paths])
    ours, theirs = _head(network.state_dict()), _head(weights)
    if theirs and _shapes(ours) != _shapes(theirs):
        print(f"{path} has another head (classes or hidden layers): its features are used, the head is new")
        weights = {**{name: value for name, value in weights.items() if name not in theirs}, **ours}
    try:
        network.load_weights(weights)
    except RuntimeError as error:
        raise WeightsUnavailable(f"{path} holds the weights of another architecture") from error


def _checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights: dict[str, Tensor] = state.get("network", state)
    except OSError as error:
        raise WeightsUnavailable(_missing("checkpoint", path)) from error
    except (RuntimeError, UnpicklingError, EOFError, AttributeError) as error:
        raise WeightsUnavailable(
            f"{path} is no checkpoint of this project (best.pt or checkpoint.pt of a run)"
        ) from error
    return weights


def _mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of floating-point entries; counters are the first one's."""
    first, *others = states
    if any(_shapes(first) != _shapes(other) for other in others):
        raise WeightsUnavailable("networks of different architectures or heads have no mean")
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def _head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name.startswith("head.")}


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}
