"""The archive's network, and a reader around it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cxr import network
from cxr.network import LoadedNetwork
from cxr.reading import Reader


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
