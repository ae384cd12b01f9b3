from __future__ import annotations

import dataclasses
import json

import pytest

from cxr.recipe import GateThresholds, Recipe

RECIPE = Recipe("cxr", "resnet18", "1.0", ("a", "b"), gate=GateThresholds(max_distance=3.5), temperature=1.25)


def test_a_recipe_survives_json() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


def test_an_unset_gate_survives_json_that_others_read() -> None:
    text = Recipe("cxr", "resnet18", "1.0", ("a",)).to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize("change", [{"colour": 1}, {"gate": {"max_colour": 1, "moon": 2}}])
def test_an_unknown_key_is_an_error(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="does not fit this reader"):
        Recipe.from_json(json.dumps(json.loads(RECIPE.to_json()) | change))


def test_a_recipe_written_before_the_crop_existed_keeps_the_whole_film() -> None:
    values = json.loads(RECIPE.to_json())
    del values["centre"]
    assert Recipe.from_json(json.dumps(values)) == RECIPE
    assert RECIPE.centre == 1.0


@pytest.mark.parametrize("key", ["name", "architecture", "version", "labels"])
def test_a_missing_key_is_an_error(key: str) -> None:
    values = json.loads(RECIPE.to_json())
    del values[key]
    with pytest.raises(ValueError, match="does not fit this reader"):
        Recipe.from_json(json.dumps(values))


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.size = 3  # type: ignore[misc]
