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
from training.data import Films, load_parts
from training.duplicates import resolve
from training.export import MODEL_FILE, export
from training.figures import figures
from training.recipe import TrainingRecipe
from training.split import Part
from training.train import Run, logits_of
from training.weights import require_files


def train_recipe(
    recipe: TrainingRecipe, recipe_text: str, data: Path, folder: Path, *, workers: int = 0, skip_broken: bool = False
) -> dict[str, Any]:
    """Everything a run folder holds; returns metrics.json.

    recipe.toml, checkpoint.pt, best.pt, history.json, curves.png, classes.png, augmented.png, model.pt,
    metrics.json, confusion_<part>.png. Called again on an unfinished folder, it goes on where it stopped.

    Raises:
        WeightsUnavailable: what it starts or learns from is missing.
        UnreadableFilm, NearDuplicates: the films are not fit for it.
    """
    require_files(recipe)
    parts = load_parts(data, recipe.split, recipe.film, classes=recipe.classes, skip_broken=skip_broken)
    parts, duplicates = resolve(parts, recipe.split.duplicates)
    run = Run(recipe, recipe_text, parts, folder, workers)
    run.begin()
    plots.before(parts, recipe, folder)
    best = run.train()
    plots.after(run.progress.history, run.progress.best_epoch, folder)
    network = best_network(recipe, best, len(run.films.labels))
    reading = calibrate(network, run.reading, parts["train"], parts["validation"], recipe.report_share)
    export(network, reading, recipe_text, parts["validation"], folder)
    metrics = evaluate_parts(network, reading, parts, folder)
    metrics |= {
        "recipe": recipe.name,
        "quick": recipe.quick,
        "overrides": recipe.overrides,
        "seed": recipe.seed,
        "epochs": run.progress.epoch,
        "best_epoch": run.progress.best_epoch,
        "trained_with": reading.trained_with,
        "class_counts": {part: films.class_counts() for part, films in parts.items()},
        "near_duplicates": duplicates,
        "broken": [reason for films in parts.values() for reason in films.broken],
        "data": {"folder": data.resolve().name, "films": sum(len(films) for films in parts.values())},
        "weights": recipe.weights,
        "lowest_validation_loss": min(entry["loss"] for entry in run.progress.history),
        "model_megabytes": round((folder / MODEL_FILE).stat().st_size / 1e6, 2),
        "reading": json.loads(reading.to_json()),
        "split": dataclasses.asdict(recipe.split),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def best_network(recipe: TrainingRecipe, path: Path, classes: int) -> Network:
    """The network with the weights of `path`; `novelty` is fitted later, whatever the file holds of it."""
    network = build(recipe.architecture, classes, dropout=recipe.optimise.dropout, hidden=recipe.hidden)
    network.load_weights(torch.load(path, map_location="cpu", weights_only=True)["network"])
    return network.eval()


def evaluate_parts(
    network: Network, reading: cxr.recipe.Recipe, parts: dict[Part, Films], folder: Path
) -> dict[str, Any]:
    """Figures and confusion matrices of every part, temperature-scaled; the training films without augmentation."""
    result: dict[str, Any] = {}
    for part, films in parts.items():
        logits = logits_of(network, films, reading)
        probabilities = torch.softmax(logits / reading.temperature, dim=1).double().numpy()
        result[part] = figures(films.classes, probabilities, films.groups, films.labels)
        confident = probabilities.max(axis=1) >= reading.abstain_below
        result[part]["confident_share"] = float(np.mean(confident))
        plots.judged(part, result[part]["confusion"], films.labels, folder)
    return result
