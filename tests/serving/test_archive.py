from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from serving.archive import fill_model_store
from serving.errors import CannotStart


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def config_of(archive: Path) -> dict[str, object]:
    with zipfile.ZipFile(archive) as source:
        return dict(yaml.safe_load(source.read("model-config.yaml")))


def test_predictions_are_served_from_the_very_archive(stand_in: Callable[..., Path], store: Path) -> None:
    archive = stand_in()
    fill_model_store(store, archive, {})

    assert (store / "cxr.mar").samefile(archive)


def test_attribution_differs_in_its_configuration_alone(stand_in: Callable[..., Path], store: Path) -> None:
    archive = stand_in()
    fill_model_store(store, archive, {})

    with zipfile.ZipFile(archive) as first, zipfile.ZipFile(store / "cxr-attribution.mar") as second:
        assert sorted(first.namelist()) == sorted(second.namelist())
        same = {name for name in first.namelist() if first.read(name) == second.read(name)}
        assert set(first.namelist()) - same == {"model-config.yaml"}
        assert yaml.safe_load(second.read("model-config.yaml")) == yaml.safe_load(
            first.read("model-config-attribution.yaml")
        )


def test_a_run_may_set_single_keys(stand_in: Callable[..., Path], store: Path) -> None:
    before = config_of(stand_in())
    fill_model_store(store, stand_in(), {"cxr": {"minWorkers": 7}})

    assert config_of(store / "cxr.mar") == before | {"minWorkers": 7}


def test_an_unknown_registration_is_an_error(stand_in: Callable[..., Path], store: Path) -> None:
    with pytest.raises(ValueError, match="cxr-typo"):
        fill_model_store(store, stand_in(), {"cxr-typo": {}})


def test_an_archive_from_before_attribution_is_named(tmp_path: Path, store: Path) -> None:
    old = tmp_path / "old.mar"
    with zipfile.ZipFile(old, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({}))
        archive.writestr("model-config.yaml", "minWorkers: 1")

    with pytest.raises(CannotStart, match=r"carries no model-config-attribution.yaml.*make archive"):
        fill_model_store(store, old, {})
