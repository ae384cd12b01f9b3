"""Synthesised films, a tiny recipe, and one whole training that several tests look at."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from training.__main__ import main
from training.data import Films, load_parts
from training.recipe import TrainingRecipe, parse
from training.split import Part
from training.train import Run

ROOT = Path(__file__).parents[2]
Vary = Callable[..., TrainingRecipe]
LABELS = ("Hilum", "Left", "Right")
SIDE = 64

TINY = """
name = "tiny"
architecture = "squeezenet1_1"
weights = "none"
version = "3.1"
seed = 7

[film]
size = 64

[augment]
rotate = 5.0

[optimise]
learning_rate = 1e-3
batch = 16
epochs = 2
ema = 0.5
"""


def film(label: int, number: int, side: int = SIDE) -> NDArray[np.uint8]:
    """A noisy grey picture with a bright disc whose place tells the class."""
    noise = np.random.default_rng([label, number]).normal(60, 25, (side, side))
    y, x = np.mgrid[:side, :side] / side
    place = (0.5, 0.2, 0.8)[label]
    disc = 120 * np.exp(-((x - place) ** 2 + (y - 0.5) ** 2) / 0.02)
    return np.clip(noise + disc, 0, 255).astype(np.uint8)


def write_film(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_manifest(root: Path, groups: dict[str, str]) -> None:
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("file", "class", "group"), *((name, "", group) for name, group in groups.items())])


def random_films(counts: tuple[int, ...], side: int = SIDE) -> Films:
    """In memory: `counts` films of each class, every film its own group."""
    classes = np.repeat(np.arange(len(counts)), counts)
    pictures = np.stack([film(label % 3, number, side) for number, label in enumerate(classes)])
    names = tuple(f"film{number}" for number in range(len(classes)))
    return Films(pictures, classes, names, tuple(Path(name) for name in names), LABELS[: len(counts)])


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and counters."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """The same order of additions everywhere, and room for whoever shares the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> TrainingRecipe:
    return parse(TINY)


@pytest.fixture
def vary(tiny: TrainingRecipe) -> Callable[..., TrainingRecipe]:
    """The tiny recipe with other values: vary(seed=2, optimise={"epochs": 1})."""

    def make(**changes: object) -> TrainingRecipe:
        values = {
            name: replace(getattr(tiny, name), **value) if isinstance(value, dict) else value
            for name, value in changes.items()
        }
        return replace(tiny, **values)

    return make


@pytest.fixture
def new_run(parts: dict[Part, Films], tmp_path: Path) -> Callable[[TrainingRecipe], Run]:
    return lambda recipe: Run(recipe, f"# {recipe.seed}\n", parts, tmp_path / "run")


@pytest.fixture(scope="package")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="package")
def film_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`<class>/*.png`, 32 films each, two to a group; groups are named, so the split is the same everywhere."""
    root = tmp_path_factory.mktemp("films")
    groups = {}
    for label, name in enumerate(LABELS):
        for number in range(32):
            write_film(root / name / f"{number:02}.png", film(label, number))
            groups[f"{name}/{number:02}.png"] = f"{name}-patient-{number // 2}"
    write_manifest(root, groups)
    return root


@pytest.fixture(scope="package")
def parts(film_folder: Path) -> dict[Part, Films]:
    recipe = parse(TINY)
    return load_parts(film_folder, recipe.split, recipe.film)


def train(data: Path, recipe: Path, folder: Path) -> int:
    """`python -m training train` in this process."""
    return main(["train", "--data", str(data), "--recipe", str(recipe), "--run", str(folder)])


@pytest.fixture(scope="package")
def run_folder(film_folder: Path, recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one whole training left; tests read it and write nowhere in it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert train(film_folder, recipe_file, folder) == 0
    return folder
