"""Leaf: what may be asked of a reader."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor, float32

from cxr import attribution
from cxr.errors import BadRequest, WrongModel
from cxr.recipe import Recipe

MAX_TENSOR_VALUE = 1000
"""Of a prepared tensor; normalised grey values lie near -3..3. Far larger ones overflow inside a network to NaN."""


@dataclass(frozen=True)
class Explain:
    """That an explanation is wanted, and which."""

    method: str = attribution.DEFAULT
    target: str | None = None
    """A label of the recipe; None for the predicted one."""
    overlay: bool = True


@dataclass(frozen=True)
class Request:
    """One row of a batch: encoded bytes, or a prepared tensor (3, S, S) float32."""

    film: bytes | Tensor
    request_id: str = ""
    explain: Explain | None = None
    shared_by: int = 1
    """Films that were sent together and share the limit of pixels: all of a batch have to be done in time."""


def check_explanation(asked: Explain, recipe: Recipe, methods: Collection[str]) -> None:
    """Refuse an explanation that is not run here; `methods` are those that are.

    Raises:
        WrongModel: a method that is not run here.
        BadRequest: an unknown method, or a target that is no label of the recipe.
    """
    if asked.method not in attribution.METHODS:
        raise BadRequest(f"unknown attribution method; known: {', '.join(attribution.METHODS)}")
    if asked.method not in methods:
        raise WrongModel(f"{asked.method} is slow and is served by the model cxr-attribution")
    if asked.target is not None and asked.target not in recipe.labels:
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
