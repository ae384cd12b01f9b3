"""All that the report is made from: a run, its films, and what the network answers for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import cxr.network
from cxr.network import LoadedNetwork
from training.data import Films
from training.export import MODEL_FILE
from training.recipe import TrainingRecipe, parse
from training.report import data_set
from training.report.field import VARIANTS, changed
from training.report.readings import Readings, RememberingReader
from training.split import Part

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Run:
    """A finished run folder."""

    folder: Path
    recipe: TrainingRecipe
    network: LoadedNetwork
    history: list[dict[str, float]]
    metrics: dict[str, Any]
    reader: RememberingReader


@dataclass(frozen=True)
class Material:
    """Films and answers by the name of their set: the three parts, `external`, and `<set>_<variant>`."""

    run: Run
    data: Path
    films: dict[str, Films]
    readings: dict[str, Readings]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.run.network.recipe.labels


def open_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        FileNotFoundError: no finished training there.
    """
    model = folder / MODEL_FILE
    if not model.is_file():
        raise FileNotFoundError(f"no {model}: train first (make train DATA=<folder>), or name the run (RUN=<folder>)")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = cxr.network.load(model, device)
    return Run(
        folder,
        parse((folder / "recipe.toml").read_text()),
        network,
        json.loads((folder / "history.json").read_text()),
        json.loads((folder / "metrics.json").read_text()),
        RememberingReader(network, folder),
    )


def gather(run: Run, data: Path, external: Path | None) -> Material:
    """Read every film that the report speaks of, or take its answer from the run folder.

    Raises:
        ValueError: the data set's classes are not the network's.
    """
    labels = run.network.recipe.labels
    films: dict[str, Films] = dict(data_set.parts_as_trained(data, run.recipe).items())
    if films["test"].labels != labels:
        raise ValueError(f"{data} holds {', '.join(films['test'].labels)}; the network knows {', '.join(labels)}")
    if external is not None:
        films["external"] = data_set.films_of(external, run.recipe, labels)
    readings = {}
    for name, part in films.items():
        whole = [path.read_bytes for path in part.paths]
        readings[name] = run.reader.read(name, whole, explain=name in ("test", "external"))
        for variant in VARIANTS if name != "validation" else ():
            blacked = [partial(changed, path, variant, run.network.recipe) for path in part.paths]
            readings[f"{name}_{variant}"] = run.reader.read(f"{name}_{variant}", blacked)
    return Material(run, data, films, readings)
