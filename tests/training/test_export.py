from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from cxr import attribution, network
from cxr.network import ARCHITECTURES, Network, build
from cxr.reading import normalise
from cxr.recipe import GateThresholds, Recipe
from tests.training.conftest import LABELS, ROOT, TINY
from training.data import Films
from training.export import MODEL_FILE, TRAINING_RECIPE_FILE, ExportMismatch, check, examples, export
from training.split import Part

SHAPES = {
    "resnet18": (512, 2, 2),
    "resnet50": (2048, 2, 2),
    "densenet121": (1024, 2, 2),
    "squeezenet1_1": (512, 3, 3),
    "efficientnet_lite0": (1280, 2, 2),
}
Exported = Callable[[str], tuple[Network, Path]]
RECIPE = Recipe("cxr", "", "3.1", LABELS, size=64, temperature=1.7, gate=GateThresholds(max_distance=12.5))


@pytest.fixture(scope="module")
def exported(
    parts: dict[Part, Films], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Network, Path]]:
    """The eager network and its file, one of each architecture."""
    made: dict[str, tuple[Network, Path]] = {}

    def make(architecture: str) -> tuple[Network, Path]:
        if architecture not in made:
            torch.manual_seed(5)
            weights = "imagenet" if architecture == "efficientnet_lite0" else None
            eager = build(architecture, len(LABELS), weights=weights)
            recipe = replace(RECIPE, architecture=architecture)
            made[architecture] = eager, export(eager, recipe, TINY, parts["test"], tmp_path_factory.mktemp("export"))
        return made[architecture]

    return make


@pytest.fixture(scope="module")
def x(parts: dict[Part, Films]) -> Tensor:
    return examples(parts["train"], RECIPE)


def test_every_architecture_is_tried_here() -> None:
    assert SHAPES.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", SHAPES)
def test_the_answer_is_the_head_of_the_feature_map(exported: Exported, x: Tensor, architecture: str) -> None:
    eager, _ = exported(architecture)
    with torch.no_grad():
        feature_map = eager.features(x)
        assert feature_map.shape == (8, *SHAPES[architecture])
        assert eager.head(feature_map).shape == (8, 3)
        assert torch.equal(eager(x), eager.head(feature_map))


@pytest.mark.parametrize("architecture", SHAPES)
def test_the_file_answers_like_the_network_at_every_batch_size(
    exported: Exported, x: Tensor, architecture: str
) -> None:
    eager, path = exported(architecture)
    loaded = network.load(path)
    for count in (1, 3, 8):
        with torch.no_grad():
            expected = eager(x[:count])
            optimised = loaded.head(loaded.features(x[:count]))
            assert torch.allclose(loaded.whole(x[:count]), expected, rtol=0, atol=1e-5), count
            assert torch.allclose(optimised, expected, rtol=1e-4, atol=1e-4), count
    assert (expected[0] - expected[1]).abs().max() > 1e-4  # films are told apart at all


@pytest.mark.parametrize("architecture", SHAPES)
def test_grad_cam_on_the_files_head_is_that_of_the_network(exported: Exported, x: Tensor, architecture: str) -> None:
    eager, path = exported(architecture)
    loaded = network.load(path)
    film = x[:1]
    with torch.no_grad():
        feature_map = loaded.features(film)
    for target in range(3):
        expected = LayerGradCam(eager, eager.features).attribute(film, target=target, relu_attributions=True)
        heat_map = attribution.grad_cam(loaded.head, feature_map, target)
        assert heat_map.shape == SHAPES[architecture][1:]
        assert torch.allclose(heat_map, expected[0, 0], rtol=1e-4, atol=1e-5)


# --- the file --------------------------------------------------------------------------------------


def test_the_file_tells_all_about_itself(exported: Exported) -> None:
    _, path = exported("squeezenet1_1")
    assert path.name == MODEL_FILE
    assert network.load(path).recipe == replace(RECIPE, architecture="squeezenet1_1")
    documents = {TRAINING_RECIPE_FILE: ""}
    torch.jit.load(path, _extra_files=documents)
    assert documents[TRAINING_RECIPE_FILE] == TINY.encode()


@pytest.mark.parametrize("architecture", SHAPES)
def test_no_path_of_this_machine_is_in_the_file(exported: Exported, architecture: str) -> None:
    _, path = exported(architecture)
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    places = [str(place).encode() for place in (ROOT, sys.prefix, Path(torch.__file__).parent)]
    assert any(name.endswith("data.pkl") for name in content)
    assert not [name for name, data in content.items() for place in places if place in data]
    assert sorted(file.name for file in path.parent.iterdir()) == [MODEL_FILE]


def test_the_same_weights_give_the_same_bytes(exported: Exported, parts: dict[Part, Films], tmp_path: Path) -> None:
    eager, path = exported("squeezenet1_1")
    recipe = replace(RECIPE, architecture="squeezenet1_1")
    again = export(eager, recipe, TINY, parts["test"], tmp_path)
    assert again.read_bytes() == path.read_bytes()


def test_a_file_that_fails_the_comparison_is_not_kept(
    exported: Exported, parts: dict[Part, Films], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager, _ = exported("squeezenet1_1")
    monkeypatch.setattr("training.export.TOLERANCE", -1.0)
    with pytest.raises(ExportMismatch):
        export(eager, replace(RECIPE, architecture="squeezenet1_1"), TINY, parts["test"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    with pytest.raises(ValueError, match=r"foreign\.pt holds no recipe\.json: .* not written by this project"):
        network.load(path)


def test_a_file_that_answers_otherwise_is_refused(exported: Exported, x: Tensor) -> None:
    eager, path = exported("squeezenet1_1")
    torch.manual_seed(5)
    changed = build("squeezenet1_1", 3).eval()
    changed.load_weights(eager.state_dict())
    assert check(changed, path, x) < 1e-5
    with torch.no_grad():
        changed.head[1].bias += 1e-3
    with pytest.raises(ExportMismatch, match=r"differ by \d\.\d\de-0[34]; allowed is 1e-05"):
        check(changed, path, x)


def test_examples_are_spread_over_the_classes(parts: dict[Part, Films]) -> None:
    films = parts["train"]
    chosen = examples(films, RECIPE, count=6)
    assert chosen.shape == (6, 3, 64, 64)
    step = len(films) // 6
    assert torch.equal(chosen, normalise(torch.from_numpy(films.pictures[::step][:6]), RECIPE))
    assert set(films.classes[::step][:6]) == {0, 1, 2}
