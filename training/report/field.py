"""Where the lungs are, and films without them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr import reading
from cxr.recipe import Recipe
from training.report.data_set import display_picture

ELLIPSE = (0.42, 0.40)
"""Half axes, across and down, as shares of the sides; centred a little above the middle."""
CENTRE = (0.5, 0.47)
FRAME = 0.1
"""Width of the border that is left, as a share of each side: markers, collimation, text."""

Variant = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]]


def mask_path(film: Path) -> Path | None:
    """`<class>/masks/<name>` beside Kaggle's `<class>/images/<name>`, where there is one."""
    if film.parent.name != "images":
        return None
    candidates = (film.parent.parent / "masks").glob(f"{film.stem}.*")
    return next(iter(sorted(candidates)), None)


def lung_field(film: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(rows, columns), True inside the lungs: the data set's mask, or a central ellipse."""
    path = mask_path(film)
    if path is None:
        return ellipse(shape)
    with Image.open(path) as mask:
        resized = mask.convert("L").resize(shape[::-1], Image.Resampling.NEAREST)
    return np.asarray(resized) > 127


@lru_cache(maxsize=64)
def ellipse(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(rows, columns), True inside the ellipse of ELLIPSE around CENTRE."""
    rows, columns = shape
    y = (np.arange(rows) + 0.5)[:, None] / rows - CENTRE[1]
    x = (np.arange(columns) + 0.5)[None, :] / columns - CENTRE[0]
    inside = (x / ELLIPSE[0]) ** 2 + (y / ELLIPSE[1]) ** 2 <= 1
    return np.asarray(inside, np.bool_)


def lungs_removed(picture: NDArray[np.uint8], field: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(rows, columns) uint8: `picture` with 0 where `field`, of the same shape, is True."""
    return np.asarray(np.where(field, 0, picture), np.uint8)


def border_only(picture: NDArray[np.uint8], field: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(rows, columns) uint8: `picture` with 0 everywhere but in the frame of FRAME; `field` does not count."""
    rows, columns = picture.shape
    y, x = round(rows * FRAME), round(columns * FRAME)
    kept: NDArray[np.uint8] = picture.copy()
    kept[y : rows - y, x : columns - x] = 0
    return kept


VARIANTS: dict[str, Variant] = {"lungs_removed": lungs_removed, "border_only": border_only}


def changed(film: Path, variant: str, recipe: Recipe) -> bytes:
    """The film as a sender would send it with a part blacked out: PNG bytes, in the film's own size."""
    picture = display_picture(film, recipe.stretch)
    buffer = io.BytesIO()
    field = lung_field(film, (picture.shape[0], picture.shape[1]))
    Image.fromarray(VARIANTS[variant](picture, field)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def field_seen(film: Path, recipe: Recipe) -> NDArray[np.float64]:
    """(size, size), 0..1: the lung field on the square that the network sees."""
    path = mask_path(film)
    if path is None:
        whole = ellipse((512, 512))
    else:
        with Image.open(path) as mask:
            whole = lung_field(film, (mask.height, mask.width))
    seen = reading.shrink(reading.crop(whole.astype(np.uint8) * 255, recipe.centre), recipe.size)
    return seen / 255
