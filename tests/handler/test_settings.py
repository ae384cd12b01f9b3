from __future__ import annotations

import os

import pytest
import yaml

from cxr.attribution import FAST_METHODS, METHODS
from cxr.film import Limits
from cxr.settings import Settings
from tests.handler.films import ROOT


def test_nothing_set_gives_the_defaults() -> None:
    assert Settings.from_yaml(None) == Settings.from_yaml({}) == Settings()
    assert Settings().limits == Limits()
    assert Settings().methods == FAST_METHODS


def test_an_unknown_key_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="max_byte"):
        Settings.from_yaml({"max_byte": 5})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_bytes", "40e6"), ("max_bytes", 40e6), ("max_bytes", 0), ("max_pixels", True), ("max_pixels", None),
        ("threads", "four"), ("threads", 0), ("threads", 2.5), ("nice", "10"), ("nice", -5), ("nice", 20),
        ("methods", "grad_cam"), ("methods", []), ("methods", ["grad_cam", "magic"]), ("methods", [["grad_cam"]]),
        ("methods", None),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_an_error_that_names_the_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{key} in model-config.yaml, section handler is "):
        Settings.from_yaml({key: value})


def test_what_is_set_is_kept() -> None:
    settings = Settings.from_yaml({"max_bytes": 5, "max_pixels": 6, "methods": ["occlusion"], "nice": 3, "threads": 2})
    assert settings.limits == Limits(5, 6)
    assert settings.methods == ("occlusion",)
    assert settings.thread_count(workers=8) == 2


def test_auto_shares_the_cores_among_workers_and_leaves_one_at_least() -> None:
    cores = len(os.sched_getaffinity(0))
    assert Settings().thread_count(1) == cores
    assert Settings().thread_count(10 * cores) == 1
    assert Settings().thread_count(0) == cores


@pytest.mark.parametrize("name", ["model-config.yaml", "model-config-attribution.yaml"])
def test_the_shipped_configurations_are_understood(name: str) -> None:
    section = yaml.safe_load((ROOT / "handler" / name).read_text()).get("handler")
    assert set(Settings.from_yaml(section).methods) <= set(METHODS)
