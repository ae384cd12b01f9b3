"""From a trained network to one TorchScript file, checked before it gets its name.

The file is written by a process of its own: TorchScript numbers its types as they come and orders constants by
hash, so that only a fresh process with a fixed hash seed writes the same bytes for the same weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
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
TOLERANCE, OPTIMISED_TOLERANCE = 1e-5, 1e-3


class ExportMismatch(RuntimeError):
    """The written file and the network in memory do not answer alike."""


def export(network: Network, recipe: Recipe, training_recipe: str, films: Films, folder: Path) -> Path:
    """Write `folder`/model.pt with the recipe inside and compare it with `network` on real films.

    The same weights and recipes give the same bytes. A file that fails the comparison is not kept.

    Raises:
        ExportMismatch: logits differ by more than TOLERANCE.
    """
    network = network.cpu().eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    path = folder / MODEL_FILE
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
        pickled, written = Path(name) / "network.pickle", Path(name) / MODEL_FILE
        torch.save((network, recipe, training_recipe), pickled)
        _write_alone(pickled, written)
        difference = check(network, written, examples(films, recipe))
        os.replace(written, path)
    print(f"{path}: scripted and eager logits differ by at most {difference:.1e}")
    return path


def _write_alone(pickled: Path, written: Path) -> None:
    """`_write` in a fresh process."""
    project = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join((str(project / "handler"), str(project))),
    }
    command = [sys.executable, "-m", "training.export", str(pickled), str(written)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"writing the TorchScript file failed: {done.stderr.strip()[-500:]}")


def _write(pickled: Path, written: Path) -> None:
    network, recipe, training_recipe = torch.load(pickled, weights_only=False)
    script = cxr.network.to_torchscript(network, recipe.size)
    with_paths = written.with_suffix(".debug")
    cxr.network.save(script, with_paths, recipe, **{TRAINING_RECIPE_FILE: training_recipe})
    without_source_paths(with_paths, written)


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
    """Largest difference of logits between `network` and the file, one film at a time and as a batch.

    Of the module as it was written; folding batch norms into convolutions, as `cxr.network.load` does for serving,
    rounds anew, and is held to OPTIMISED_TOLERANCE.
    """
    loaded = cxr.network.load(path)
    batches = [x, *x.unsqueeze(1)]
    difference = max(float((loaded.whole(batch) - network(batch)).abs().max()) for batch in batches)
    served = max(float((loaded.head(loaded.features(batch)) - network(batch)).abs().max()) for batch in batches)
    if not difference <= TOLERANCE:
        raise ExportMismatch(f"scripted and eager logits differ by {difference:.2e}; allowed is {TOLERANCE}")
    if not served <= OPTIMISED_TOLERANCE:
        raise ExportMismatch(f"served and eager logits differ by {served:.2e}; allowed is {OPTIMISED_TOLERANCE}")
    return difference


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Path(sys.argv[2]))
