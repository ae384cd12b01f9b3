from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from training.__main__ import main
from training.data import load_parts
from training.recipe import parse
from training.report.build import _retrained
from training.report.field import ellipse


def test_a_recipe_is_trained_anew_without_lungs(run_folder: Path, film_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    assert main(["evaluate", "--run", str(run), "--data", str(film_folder), "--retrain", "lungs_removed"]) == 0
    copies = run / "audit" / "lungs_removed" / "films"
    recipe = parse((run / "recipe.toml").read_text())
    before, after = (load_parts(root, recipe.split, recipe.film) for root in (film_folder, copies))
    for part, films in before.items():
        assert sorted(films.groups) == sorted(after[part].groups)
        assert np.all(after[part].pictures[:, ellipse((64, 64))] == 0)
    metrics = json.loads((run / "audit" / "lungs_removed" / "metrics.json").read_text())
    shown = _retrained(run)["lungs_removed"]["accuracy"]["value"]
    assert shown == metrics["test"]["accuracy"]["value"]
    assert "trained anew" in (run / "report.html").read_text()
