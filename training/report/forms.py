"""Exported forms of one network: size, speed, and how far each answers like the first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cxr.network
from training.data import Films, in_batches
from training.figures import FIGURES, interval, resamples
from training.report.material import Material

ROUNDS = 15
"""Timed passes of each form and batch size; the forms take turns, so that a busy machine slows all alike."""
BATCHES = (1, 8)

Run = Callable[[Tensor], Tensor]
"""(B, 3, S, S) float32 -> logits (B, classes)."""


@dataclass(frozen=True)
class Form:
    """One kind of exported file."""

    file: str
    title: str
    load: Callable[[Path], Run] | None
    """None: it runs elsewhere, only its size is told here."""


def _torchscript(path: Path) -> Run:
    network = cxr.network.load(path)
    return lambda x: network.head(network.features(x))


FORMS = (
    Form("model.pt", "TorchScript, float32", _torchscript),
    Form("model-int8.pt", "TorchScript, int8", _torchscript),
    Form("model.pte", "ExecuTorch", None),
)


def forms(material: Material) -> list[dict[str, Any]]:
    """Each of FORMS that the run folder holds; the first is what the others are compared with."""
    here = [form for form in FORMS if (material.run.folder / form.file).is_file()]
    runs = {form.file: form.load(material.run.folder / form.file) for form in here if form.load}
    speeds = _speeds(runs, material.run.network.recipe.size)
    rows = []
    for form in here:
        row = {"file": form.file, "title": form.title, "bytes": (material.run.folder / form.file).stat().st_size}
        rows.append(row | {"milliseconds_per_film": speeds.get(form.file)})
        if form.file in runs and form.file != FORMS[0].file:
            rows[-1] |= _compared(runs[form.file], material)
    return rows


@torch.no_grad()
def _speeds(runs: dict[str, Run], size: int) -> dict[str, dict[str, dict[str, float]]]:
    """Median and quartiles of milliseconds per film for each batch size."""
    times: dict[str, dict[str, list[float]]] = {name: {str(batch): [] for batch in BATCHES} for name in runs}
    for turn in range(-2, ROUNDS):  # TorchScript profiles the first call and optimises at the second
        for name, run in runs.items():
            for batch in BATCHES:
                x = torch.zeros(batch, 3, size, size)
                started = time.perf_counter()
                run(x)
                if turn >= 0:
                    times[name][str(batch)].append((time.perf_counter() - started) * 1000 / batch)
    return {
        name: {batch: _quartiles(measured) for batch, measured in by_batch.items()} for name, by_batch in times.items()
    }


def _quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "low": low, "high": high}


def _compared(run: Run, material: Material) -> dict[str, Any]:
    films: Films = material.films["test"]
    recipe = material.run.network.recipe
    logits = in_batches(films, recipe, run)
    probabilities = torch.softmax(logits.double() / recipe.temperature, dim=1).numpy()
    first = material.readings["test"].logits.argmax(axis=1)
    samples = resamples(films.groups)
    return {
        "macro_f1": interval(FIGURES["macro_f1"], samples, films.classes, probabilities),
        "ece": interval(FIGURES["ece"], samples, films.classes, probabilities),
        "agreement": interval(lambda s, f: float((s == f).mean()), samples, probabilities.argmax(axis=1), first),
    }
