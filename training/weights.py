"""Where a training starts: ImageNet's weights, random ones, or those of another run."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from cxr.network import Network, build
from training.recipe import TrainingRecipe


class WeightsUnavailable(RuntimeError):
    """Pretrained weights could not be had; the message says what can be used instead."""


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
    load_weights(network, Path(recipe.weights))
    return network


def load_weights(network: Network, path: Path) -> None:
    """A checkpoint of this project; its head is left out where the number of classes is another.

    Raises:
        WeightsUnavailable: no such file, or one of another kind or architecture.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsUnavailable(f"no checkpoint at {str(path)!r}") from error
    except (RuntimeError, UnpicklingError) as error:
        raise WeightsUnavailable(
            f"{path} is no checkpoint of this project (best.pt or checkpoint.pt of a run)"
        ) from error
    weights = state.get("network", state)
    ours, theirs = _head(network.state_dict()), _head(weights)
    if theirs and _shapes(ours) != _shapes(theirs):
        print(f"{path} has another head (classes or hidden layers): its features are used, the head is new")
        weights = {**{name: value for name, value in weights.items() if name not in theirs}, **ours}
    try:
        network.load_weights(weights)
    except RuntimeError as error:
        raise WeightsUnavailable(f"{path} holds the weights of another architecture") from error


def _head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name.startswith("head.")}


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}
