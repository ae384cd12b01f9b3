"""One recipe from films to figures: train, calibrate, evaluate, export. Read from top to bottom."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cxr.recipe
from cxr.network import Network, build
from training import plots
from training.calibrate import calibrate
from training.data import Films, Part, load_parts
from training.evaluate import figures
from training.export import export
from training.recipe import TrainingRecipe
from training.train import Run, logits_of


def train_recipe(recipe: TrainingRecipe, recipe_text: str, data: Path, folder: Path) -> dict[str, Any]:
    """Everything a run folder holds; returns metrics.json.

    recipe.toml, checkpoint.pt, best.pt, history.json, curves.png, model.pt, metrics.json,
    confusion_<part>.png. Called again on an unfinished folder, it goes on where it stopped.
    """
    parts = load_parts(data, recipe.split, recipe.film)
    run = Run(recipe, recipe_text, parts, folder)
    best = run.train()
    plots.curves(run.progress.history, run.progress.best_epoch, folder / "curves.png")
    network = best_network(recipe, best, len(run.films.labels))
    reading = calibrate(network, run.reading, parts["train"], parts["validation"], recipe.report_share)
    export(network, reading, recipe_text, parts["validation"], folder)
    metrics = evaluate_parts(network, reading, parts, folder)
    metrics |= {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "best_epoch": run.progress.best_epoch,
        "trained_with": reading.trained_with,
        "class_counts": {part: films.class_counts() for part, films in parts.items()},
        "reading": json.loads(reading.to_json()),
        "split": dataclasses.asdict(recipe.split),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def best_network(recipe: TrainingRecipe, path: Path, classes: int) -> Network:
    """The network with the weights of `path`; `novelty` is fitted later, whatever the file holds of it."""
    network = build(recipe.architecture, classes, dropout=recipe.optimise.dropout)
    network.load_weights(torch.load(path, map_location="cpu", weights_only=True)["network"])
    return network.eval()


def evaluate_parts(
    network: Network, reading: cxr.recipe.Recipe, parts: dict[Part, Films], folder: Path
) -> dict[str, Any]:
    """Figures and confusion matrices of the validation and the test part, temperature-scaled."""
    result: dict[str, Any] = {}
    for part in ("validation", "test"):
        films = parts[part]
        logits = logits_of(network, films, reading)
        probabilities = torch.softmax(logits / reading.temperature, dim=1).double().numpy()
        result[part] = figures(films.classes, probabilities, films.groups, films.labels)
        confident = probabilities.max(axis=1) >= reading.abstain_below
        result[part]["confident_share"] = float(np.mean(confident))
        plots.confusion(result[part]["confusion"], films.labels, part, folder / f"confusion_{part}.png")
    return result
