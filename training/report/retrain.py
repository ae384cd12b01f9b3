"""The expensive form of the shortcut audit: the recipe trained anew on films with a part blacked out."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

from training.data import MANIFEST, Films
from training.report import data_set
from training.report.field import changed
from training.report.material import open_run
from training.run import train_recipe

AUDIT = "audit"


def retrain(folder: Path, data: Path, variant: str) -> dict[str, Any]:
    """Train in `folder`/audit/`variant`; returns its metrics. An unfinished training goes on.

    The films have their groups by name, so that they are split as before.
    """
    run = open_run(folder)
    target = folder / AUDIT / variant
    copies = target / "films"
    _write_copies(run.network.recipe, data_set.parts_as_trained(data, run.recipe), copies, variant)
    split = dataclasses.replace(run.recipe.split, duplicates="allow")  # what is black is alike
    recipe = dataclasses.replace(run.recipe, name=f"{run.recipe.name}-{variant}", split=split)
    return train_recipe(recipe, (folder / "recipe.toml").read_text(), copies, target)


def _write_copies(recipe: Any, films: dict[Any, Films], root: Path, variant: str) -> None:
    rows = []
    for part in films.values():
        for path, group, index in zip(part.paths, part.groups, part.classes, strict=True):
            copy = root / part.labels[index] / f"{path.stem}.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.is_file():
                copy.write_bytes(changed(path, variant, recipe))
            rows.append((copy.relative_to(root).as_posix(), group))
    with (root / MANIFEST).open("w", newline="") as file:
        csv.writer(file).writerows([("file", "group"), *rows])
