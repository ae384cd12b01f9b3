"""From a trained network to one TorchScript file, checked right after it is written."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor

import cxr.network
from cxr.network import Network
from cxr.reading import normalise
from cxr.recipe import Recipe
from training.data import Films

MODEL_FILE = "model.pt"
TRAINING_RECIPE_FILE = "training.toml"
TOLERANCE = 1e-5


class ExportMismatch(RuntimeError):
    """The written file and the network in memory do not answer alike."""


def export(network: Network, recipe: Recipe, training_recipe: str, films: Films, folder: Path) -> Path:
    """Write `folder`/model.pt with the recipe inside and compare it with `network` on real films.

    Raises:
        ExportMismatch: logits differ by more than TOLERANCE.
    """
    network = network.cpu().eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    path = folder / MODEL_FILE
    script = cxr.network.to_torchscript(network, recipe.size)
    partial = folder / "model.partial"
    cxr.network.save(script, partial, recipe, **{TRAINING_RECIPE_FILE: training_recipe})
    without_source_paths(partial, path)
    partial.unlink()
    difference = check(network, path, examples(films, recipe))
    print(f"{path}: scripted and eager logits differ by at most {difference:.1e}")
    return path


def without_source_paths(source: Path, target: Path) -> None:
    """Copy a TorchScript file without its debug records: they hold the paths of this machine's source files."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if not name.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(name), old.read(name))


def examples(films: Films, recipe: Recipe, count: int = 8) -> Tensor:
    """(count, 3, S, S): films spread over the data set."""
    step = max(1, len(films) // count)
    return normalise(torch.from_numpy(films.pictures[::step][:count]), recipe)


@torch.no_grad()
def check(network: Network, path: Path, x: Tensor) -> float:
    """Largest difference of logits between `network` and the file, one film at a time and as a batch."""
    whole = cxr.network.load(path).whole
    batches = [x, *x.unsqueeze(1)]
    difference = max(float((whole(batch) - network(batch)).abs().max()) for batch in batches)
    if not difference <= TOLERANCE:
        raise ExportMismatch(f"scripted and eager logits differ by {difference:.2e}; allowed is {TOLERANCE}")
    return difference
