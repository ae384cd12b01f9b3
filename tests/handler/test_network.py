from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from cxr import network
from cxr.attribution import grad_cam
from cxr.network import LoadedNetwork, Network, Novelty
from cxr.recipe import Recipe
from tests.handler.films import RG1_PNG, chest, picture, tensor_of

SIDE = {"resnet18": 7, "resnet50": 7, "densenet121": 7, "squeezenet1_1": 13, "efficientnet_lite0": 7}
RECIPE = Recipe("test", "resnet18", "1", ("a", "b", "c"))


@pytest.mark.parametrize("architecture", network.ARCHITECTURES)
def test_every_architecture_is_features_and_head(architecture: str) -> None:
    built = network.build(architecture, 3).eval()
    with torch.no_grad():
        feature_map = built.features(torch.zeros(2, 3, 224, 224))
        logits = built.head(feature_map)
    assert feature_map.shape[2:] == (SIDE[architecture],) * 2
    assert logits.shape == (2, 3)
    assert built.novelty(feature_map).tolist() == [0, 0]
    assert logits.equal(built(torch.zeros(2, 3, 224, 224)))


@pytest.mark.parametrize("architecture", ["resnet18", "squeezenet1_1", "efficientnet_lite0"])
@pytest.mark.parametrize("optimise", [False, True])
def test_a_saved_network_answers_as_it_did(architecture: str, optimise: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    built = network.build(architecture, 3).eval()
    x = torch.randn(2, 3, 96, 96)
    network.save(network.to_torchscript(built, 96), tmp_path / "m.pt", RECIPE)
    loaded = network.load(tmp_path / "m.pt", optimise=optimise)
    with torch.no_grad():
        torch.testing.assert_close(loaded.head(loaded.features(x)), built(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loaded.whole(x), built(x), rtol=1e-4, atol=1e-5)
    assert loaded.recipe == RECIPE
    assert loaded.sha256 == hashlib.sha256((tmp_path / "m.pt").read_bytes()).hexdigest()


@pytest.mark.parametrize("architecture", network.ARCHITECTURES)
def test_hidden_layers_lie_between_the_pooled_features_and_the_logits(architecture: str) -> None:
    built = network.build(architecture, 3, hidden=(16, 8)).eval()
    layers = [layer for layer in built.head if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [16, 8, 3]
    assert sum(isinstance(layer, torch.nn.ReLU) for layer in built.head) == 2
    with torch.no_grad():
        assert built(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_hidden_layers_are_saved_and_explained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    built = network.build("resnet18", 3, hidden=(16,)).eval()
    network.save(network.to_torchscript(built, 96), tmp_path / "m.pt", RECIPE)
    loaded = network.load(tmp_path / "m.pt")
    x = torch.randn(1, 3, 96, 96)
    feature_map = built.features(x).detach().requires_grad_()
    gradient = torch.autograd.grad(built.head(feature_map)[0, 1], feature_map)[0]
    expected = (gradient.mean((2, 3), keepdim=True) * feature_map).sum(1)[0].relu()  # Grad-CAM by its definition
    cam = grad_cam(loaded.head, loaded.features(x), 1)
    torch.testing.assert_close(cam, expected.detach(), rtol=1e-3, atol=1e-6)
    assert cam.max() > 0


def test_documents_travel_inside_the_file(tmp_path: Path) -> None:
    script = network.to_torchscript(network.build("squeezenet1_1", 3), 224)
    network.save(script, tmp_path / "m.pt", RECIPE, **{"metrics.json": "{}"})
    extra = {"metrics.json": "", network.RECIPE_FILE: ""}
    torch.jit.load(tmp_path / "m.pt", _extra_files=extra)
    assert extra["metrics.json"] == b"{}"
    assert Recipe.from_json(extra[network.RECIPE_FILE]) == RECIPE


def test_a_file_without_recipe_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Identity()), tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"m\.pt holds no recipe\.json"):
        network.load(tmp_path / "m.pt")


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="vgg.*known: resnet18"):
        network.build("vgg", 3)


def test_gradients_reach_the_input_of_the_whole_network_only(loaded: LoadedNetwork) -> None:
    x = tensor_of(RG1_PNG.read_bytes(), loaded.recipe).unsqueeze(0).requires_grad_()
    loaded.whole(x)[0, 0].backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loaded.whole.parameters())


def test_the_archives_optimised_network_answers_as_the_unoptimised_one(loaded: LoadedNetwork) -> None:
    x = torch.stack([tensor_of(data, loaded.recipe) for data in (RG1_PNG.read_bytes(), picture(chest(bits=8)))])
    with torch.no_grad():
        torch.testing.assert_close(loaded.head(loaded.features(x)), loaded.whole(x), rtol=1e-3, atol=1e-4)


# --- novelty ---------------------------------------------------------------------------------------


@pytest.fixture
def fitted() -> tuple[Novelty, torch.Tensor]:
    """Two classes of unit vectors near two axes of eight dimensions."""
    torch.manual_seed(0)
    classes = torch.arange(400) % 2
    pooled = torch.nn.functional.one_hot(classes, 8) * 3 + torch.rand(400, 8)
    novelty = Novelty(8, 2)
    novelty.fit(pooled, classes)
    return novelty, pooled


def distances(novelty: Novelty, pooled: torch.Tensor) -> torch.Tensor:
    return novelty(pooled[:, :, None, None].expand(-1, -1, 2, 3))


def test_training_films_are_near_and_others_far(fitted: tuple[Novelty, torch.Tensor]) -> None:
    novelty, pooled = fitted
    far = torch.nn.functional.one_hot(torch.tensor([5, 6, 7]), 8).float()
    assert distances(novelty, far).min() > distances(novelty, pooled).max()


def test_distance_is_mahalanobis_to_the_nearest_class(fitted: tuple[Novelty, torch.Tensor]) -> None:
    novelty, pooled = fitted
    unit = torch.nn.functional.normalize(pooled.double().sqrt())
    centre, scale = unit.mean(0), unit.std(0) + 1e-6
    z = (unit - centre) / scale
    classes = torch.arange(400) % 2
    means = torch.stack([z[classes == c].mean(0) for c in (0, 1)])
    residual = z - means[classes]
    covariance = residual.T @ residual / len(z)
    inverse = torch.linalg.inv(covariance + 0.2 * covariance.diagonal().mean() * torch.eye(8))
    gap = z[:, None] - means
    expected = torch.einsum("ncd,de,nce->nc", gap, inverse, gap).sqrt().amin(1)
    torch.testing.assert_close(distances(novelty, pooled).double(), expected, rtol=1e-4, atol=1e-4)


def test_contrast_does_not_change_the_distance(fitted: tuple[Novelty, torch.Tensor]) -> None:
    novelty, pooled = fitted
    torch.testing.assert_close(distances(novelty, pooled * 5), distances(novelty, pooled), rtol=1e-4, atol=1e-4)


def test_what_was_fitted_is_saved(fitted: tuple[Novelty, torch.Tensor], tmp_path: Path) -> None:
    novelty, pooled = fitted
    built = Network(torch.nn.Identity(), torch.nn.Flatten(1), 8, 2)
    built.novelty.load_state_dict(novelty.state_dict())
    torch.jit.save(torch.jit.script(built), tmp_path / "m.pt")
    again = torch.jit.load(tmp_path / "m.pt").novelty
    torch.testing.assert_close(distances(again, pooled), distances(novelty, pooled))
