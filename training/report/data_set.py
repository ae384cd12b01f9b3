"""Everything the report asks of the data set, in one place."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr import reading
from cxr.film import Limits
from training.data import MANIFEST, Films, load, load_parts, scan
from training.duplicates import resolve
from training.recipe import TrainingRecipe
from training.split import Part


def parts_as_trained(data: Path, recipe: TrainingRecipe) -> dict[Part, Films]:
    """The three parts, split as they were for the training.

    Films that are nearly one of another part are left out where the recipe does not allow them: a report says
    what there is, where a training would refuse to begin.
    """
    parts = load_parts(data, recipe.split, recipe.film, classes=recipe.classes)
    kept, _ = resolve(parts, "allow" if recipe.split.duplicates == "allow" else "drop")
    return kept


def films_of(folder: Path, recipe: TrainingRecipe, labels: tuple[str, ...]) -> Films:
    """All films of a folder that was not trained on.

    Raises:
        ValueError: a class that the network does not know.
    """
    samples = scan(folder)
    unknown = sorted({sample.label for sample in samples} - set(labels))
    if unknown:
        raise ValueError(f"{folder} holds {', '.join(unknown)}; the network knows {', '.join(labels)}")
    return load(samples, labels, recipe.film, folder.name)


def column(data: Path, name: str, films: Films) -> list[str]:
    """One value of `manifest.csv` for each film, "" where it is silent."""
    path = data / MANIFEST
    if not path.is_file():
        return [""] * len(films)
    with path.open(newline="", encoding="utf-8-sig") as file:
        values = {row["file"]: row.get(name) or "" for row in csv.DictReader(file)}
    return [values.get(film.relative_to(data).as_posix(), "") for film in films.paths]


def display_picture(path: Path, stretch: tuple[float, float]) -> NDArray[np.uint8]:
    """A film in its own size, (rows, columns) uint8, as serving stretches it."""
    return reading.stretch(reading.decode(path.read_bytes(), Limits()), stretch)
