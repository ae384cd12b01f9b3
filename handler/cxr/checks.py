"""Leaf: what may be asked of a reader besides reading a film."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, float32

from cxr import attribution
from cxr.errors import BadRequest, WrongModel
from cxr.recipe import Recipe

MAX_TENSOR_VALUE = 1000
"""Of a prepared tensor; normalised grey values lie near -3..3. Far larger ones overflow inside a network to NaN."""


def check_explanation(method: str, target: str | None, recipe: Recipe, methods: Collection[str]) -> None:
    """Of one explanation; `methods`: those that are run here.

    Raises:
        WrongModel: a method that is not run here.
        BadRequest: an unknown method, or a target that is no label of the recipe.
    """
    if method not in attribution.METHODS:
        raise BadRequest(f"unknown attribution method; known: {', '.join(attribution.METHODS)}")
    if method not in methods:
        raise WrongModel(f"{method} is slow and is served by the model cxr-attribution")
    if target is not None and target not in recipe.labels:
        raise BadRequest(f"unknown target; the labels are: {', '.join(recipe.labels)}")


def check_tensor(tensor: Tensor, recipe: Recipe) -> Tensor:
    """A prepared tensor (3, S, S) as float32.

    Raises:
        BadRequest: another shape, values no film has, or NaN.
    """
    shape = (3, recipe.size, recipe.size)
    if tuple(tensor.shape) != shape:
        raise BadRequest(f"a prepared tensor has the shape {list(shape)}")
    if not (tensor.abs() <= MAX_TENSOR_VALUE).all():  # NaN compares false
        raise BadRequest(f"a prepared tensor holds normalised grey values, none beyond {MAX_TENSOR_VALUE}")
    return tensor.to(float32)
