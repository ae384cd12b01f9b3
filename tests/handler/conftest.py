"""The archive's network, and a reader around it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from cxr import network
from cxr.film import Limits
from cxr.network import LoadedNetwork
from cxr.reading import Reader, decode, stretch, to_tensor

from cxr.recipe import Recipe

RECIPE = Recipe(name="test", architecture="resnet18", version="1", labels=("a", "b"), size=64)


def tensor_of(data: bytes, recipe: Recipe = RECIPE) -> torch.Tensor:
    """What the network sees of a film."""
    return to_tensor(stretch(decode(data, Limits()), recipe.stretch), recipe)


@pytest.fixture(scope="session")
def model_file(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TorchScript file, out of the archive."""
    with zipfile.ZipFile(archive) as opened:
        return Path(opened.extract("model.pt", tmp_path_factory.mktemp("archive")))


@pytest.fixture(scope="session")
def loaded(model_file: Path) -> LoadedNetwork:
    """As a worker has it."""
    return network.load(model_file)


@pytest.fixture(scope="session")
def reader(loaded: LoadedNetwork) -> Reader:
    return Reader(loaded)
