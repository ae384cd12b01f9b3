from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from PIL import Image, ImageFont
from torch import nn

from cxr import attribution, network
from cxr.attribution import (
    LEGEND_WIDTH,
    MAP_SIDE,
    NOTICE_COLOUR,
    OVERLAY_SIDE,
    STRONG,
    WEAK,
    grad_cam,
    gradient_shap,
    integrated_gradients,
    occlusion,
    overlay,
)
from cxr.network import LoadedNetwork
from cxr.reading import NOTICE, Reader
from cxr.request import Explain, Request
from cxr.warm_up import warm_up
from tests.handler.films import RG1_PNG, tensor_of


@pytest.fixture(scope="module")
def plain(model_file: object) -> LoadedNetwork:
    """Loaded without optimisation."""
    return network.load(model_file, optimise=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def x(plain: LoadedNetwork) -> torch.Tensor:
    """RG1, (1, 3, S, S)."""
    return tensor_of(RG1_PNG.read_bytes(), plain.recipe).unsqueeze(0)


@pytest.fixture(scope="module")
def eager(plain: LoadedNetwork) -> nn.Module:
    """The same weights in the architecture's Python modules: no TorchScript."""
    rebuilt = network.build(plain.recipe.architecture, len(plain.recipe.labels))
    rebuilt.load_state_dict(plain.whole.state_dict())
    return rebuilt.eval()


# --- Grad-CAM --------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimised", [False, True])
def test_grad_cam_equals_captum_on_the_eager_network(
    optimised: bool, loaded: LoadedNetwork, plain: LoadedNetwork, eager: nn.Module, x: torch.Tensor
) -> None:
    served = loaded if optimised else plain
    with torch.no_grad():
        feature_map = served.features(x)
    for target in range(len(plain.recipe.labels)):
        expected = LayerGradCam(eager, eager.features).attribute(x, target, relu_attributions=True)[0, 0]
        torch.testing.assert_close(grad_cam(served.head, feature_map, target), expected, rtol=0, atol=1e-5)


def test_grad_cam_of_a_row_does_not_depend_on_its_batch(plain: LoadedNetwork, x: torch.Tensor) -> None:
    with torch.no_grad():
        alone, among = plain.features(x), plain.features(torch.cat([x, -x, x / 2]))
    torch.testing.assert_close(grad_cam(plain.head, alone, 0), grad_cam(plain.head, among[:1], 0), rtol=1e-4, atol=1e-5)


# --- methods at the input --------------------------------------------------------------------------


def is_complete(explained: nn.Module, x: torch.Tensor, target: int, attributed: torch.Tensor) -> bool:
    """To 1 % of the logit difference or 0.01."""
    with torch.no_grad():
        black = torch.ones_like(x) * x.amin(dim=(2, 3), keepdim=True)
        difference = float((explained(x) - explained(black))[0, target])
    return abs(float(attributed.sum()) - difference) <= max(0.01, 0.01 * abs(difference))


@pytest.fixture(scope="module")
def small(plain: LoadedNetwork) -> torch.Tensor:
    """RG1 at 64 pixels, (1, 3, 64, 64): a twelfth of the work, and harder to integrate."""
    return tensor_of(RG1_PNG.read_bytes(), replace(plain.recipe, size=64)).unsqueeze(0)


@pytest.fixture(scope="module")
def integrated(eager: nn.Module, small: torch.Tensor) -> list[tuple[torch.Tensor, dict[str, Any]]]:
    """Integrated Gradients of every class."""
    return [integrated_gradients(eager, small, target) for target in range(4)]


@pytest.mark.parametrize("target", range(4))
def test_integrated_gradients_is_complete_for_every_class(
    eager: nn.Module, small: torch.Tensor, integrated: list[tuple[torch.Tensor, dict[str, Any]]], target: int
) -> None:
    attributed, details = integrated[target]
    assert is_complete(eager, small, target, attributed)
    assert details["completeness"]["complete"] is True
    assert details["completeness"]["sum"] == pytest.approx(float(attributed.sum()))


def test_integrated_gradients_takes_more_steps_where_the_first_are_not_enough(
    eager: nn.Module, small: torch.Tensor, integrated: list[tuple[torch.Tensor, dict[str, Any]]]
) -> None:
    first, *_ = attribution.INTEGRATION_STEPS
    slow = [target for target, (_, details) in enumerate(integrated) if details["completeness"]["steps"] > first]
    assert slow
    few = IntegratedGradients(eager).attribute(
        small, small.amin(dim=(2, 3), keepdim=True).expand_as(small), target=slow[0], n_steps=first
    )
    assert not is_complete(eager, small, slow[0], few)


def test_an_incomplete_attribution_says_so(plain: LoadedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "INTEGRATION_STEPS", (1, 2))
    asked = Explain(method="integrated_gradients", target=plain.recipe.labels[0], overlay=False)
    [row] = Reader(plain).read([Request(RG1_PNG.read_bytes(), explain=asked)])
    found = row.answer["attribution"]["completeness"]
    assert abs(found["sum"] - found["logit_difference"]) > max(0.01, 0.01 * abs(found["logit_difference"]))
    assert (found["steps"], found["complete"]) == (2, False)
    assert attribution.INCOMPLETE in row.answer["warnings"]


def test_a_complete_attribution_of_a_whole_film_has_no_warning(plain: LoadedNetwork) -> None:
    asked = Explain(method="integrated_gradients", overlay=False)
    [row] = Reader(plain).read([Request(RG1_PNG.read_bytes(), explain=asked)])
    found = row.answer["attribution"]["completeness"]
    assert found["sum"] == pytest.approx(found["logit_difference"], rel=0.01, abs=0.01)
    assert found["complete"] is True
    assert attribution.INCOMPLETE not in row.answer["warnings"]


def test_gradient_shap_gives_the_same_film_the_same_answer_and_leaves_random_states_alone(
    plain: LoadedNetwork, x: torch.Tensor
) -> None:
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        torchs, numpys = torch.get_rng_state(), np.random.get_state()[1].tolist()
        answers.append(gradient_shap(plain.whole, x, 0)[0])
        assert torch.get_rng_state().equal(torchs)
        assert np.random.get_state()[1].tolist() == numpys
    assert answers[0].equal(answers[1])


class Brightness(nn.Module):
    """Its one logit is the light in one square."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 140:168, 56:84].mean(dim=(1, 2, 3)).unsqueeze(1)


@pytest.mark.parametrize("method", [occlusion, integrated_gradients, gradient_shap])
def test_the_evidence_lies_where_the_network_looks(method: attribution.InputMethod) -> None:
    x = torch.full((1, 3, 224, 224), -1.0)
    x[:, :, 100:200, 20:120] = 1
    heat, _ = method(Brightness(), x, 0)
    positive = heat.sum(dim=1)[0].clamp(min=0)
    assert positive[126:182, 42:98].sum() > 0.95 * positive.sum() > 0


@pytest.mark.parametrize("method", ["grad_cam", "gradient_shap"])
def test_heat_maps_are_shares_of_the_strongest_evidence(method: str, plain: LoadedNetwork, x: torch.Tensor) -> None:
    with torch.no_grad():
        feature_map = plain.features(x)
    result = attribution.attribute(method, plain, x[0], feature_map, 0)
    assert result.heat_map.dtype == np.float32
    assert result.heat_map.min() >= 0
    assert result.heat_map.max() in (0, 1)
    assert max(result.heat_map.shape) <= MAP_SIDE
    rows = result.as_json()["map"]
    assert np.shape(rows) == result.heat_map.shape
    np.testing.assert_allclose(rows, result.heat_map, atol=0.0005)


@pytest.mark.parametrize("method", attribution.METHODS)
def test_an_answer_without_overlay_is_small(method: str, plain: LoadedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "INTEGRATION_STEPS", (1,))
    [row] = Reader(plain).read([Request(RG1_PNG.read_bytes(), explain=Explain(method=method, overlay=False))])
    assert row.error is None
    assert len(json.dumps(row.answer)) < 10_000


def test_a_fine_feature_map_is_reduced_too() -> None:
    heat = attribution._to_heat_map(torch.rand(64, 40))
    assert heat.shape == (MAP_SIDE, MAP_SIDE)
    assert heat.max() == 1


class Watched(nn.Module):
    """Notes the batches that come by, and whether gradients are wanted of them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, bool]] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add((len(x), x.requires_grad))
        return x.mean(dim=(2, 3))


def test_gradients_are_wanted_of_batches_that_were_warmed_up(plain: LoadedNetwork) -> None:
    warm, used = Watched(), Watched()
    warm_up(Reader(replace(plain, whole=warm), methods=attribution.METHODS, batch=1))
    for method in (integrated_gradients, gradient_shap):
        method(used, torch.rand(1, 3, 64, 64), 0)
    assert {(size, True) for size, gradients in used.seen if gradients} <= warm.seen


def test_predictions_alone_warm_no_slow_method_up(plain: LoadedNetwork) -> None:
    watched = Watched()
    warm_up(Reader(replace(plain, whole=watched), methods=["grad_cam"], batch=1))
    assert not watched.seen


def test_no_evidence_is_a_map_of_zeros() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(4, 2))
    nn.init.zeros_(head[2].weight)
    heat = attribution._to_heat_map(grad_cam(head, torch.rand(1, 4, 7, 7), 0))
    assert heat.shape == (7, 7) and not heat.any()


# --- overlay ---------------------------------------------------------------------------------------

HEAT = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)


def overlaid(
    rows: int, columns: int, heat: np.ndarray = HEAT, light: int | None = None, caption: str = "COVID 0.91  grad_cam"
) -> np.ndarray:
    film = np.tile(np.arange(columns) % 256, (rows, 1)).astype(np.uint8) if light is None else None
    film = np.full((rows, columns), light, np.uint8) if film is None else film
    return np.asarray(Image.open(io.BytesIO(overlay(film, heat, caption, NOTICE))))


STRIP = 64
"""Height of a legend of two lines."""


@pytest.mark.parametrize(
    ("shape", "film", "whole"),
    [
        ((2048, 2500), (839, 1024), (903, 1024)), ((2500, 2048), (960, 786), (1024, 786)),
        ((224, 224), (960, 960), (1024, 960)), ((1, 1), (960, 960), (1024, 960)),
        ((200, 3000), (68, 1024), (132, 1024)), ((1, 5000), (1, 1024), (65, 1024)),
    ],
)  # fmt: skip
def test_the_film_keeps_its_aspect_ratio_and_the_legend_lies_below_it(
    shape: tuple[int, int], film: tuple[int, int], whole: tuple[int, int]
) -> None:
    image = overlaid(*shape, light=200)
    assert image.shape == (*whole, 3)
    assert max(whole) == OVERLAY_SIDE
    assert image[: film[0]].min() > 90  # the film, to its lowest line
    assert image[film[0], :, :].max() == 0
    assert whole[0] - film[0] == STRIP


@pytest.mark.parametrize(("shape", "columns"), [((5000, 1), 1), ((3000, 200), 61), ((1000, 300), 273)])
def test_a_narrow_film_stands_in_the_middle_over_a_legend_that_has_room(shape: tuple[int, int], columns: int) -> None:
    image = overlaid(*shape, light=200)
    bright = np.flatnonzero(image[0].max(axis=1) > 90)
    assert len(bright) == pytest.approx(columns, abs=1)
    assert bright[0] == pytest.approx(image.shape[1] - 1 - bright[-1], abs=1)
    assert image.shape[0] == OVERLAY_SIDE
    assert 280 < image.shape[1] <= LEGEND_WIDTH


LONG = "a class of a name far longer than anybody would think of, of many words"


@pytest.mark.parametrize("shape", [(1000, 800), (1000, 1000), (64, 64), (400, 1000), (100, 5000), (2000, 100)])
@pytest.mark.parametrize("caption", ["COVID 0.91", "Viral Pneumonia 0.99  integrated_gradients", LONG, "W" * 150])
def test_a_legend_always_shows_the_colours_and_the_whole_of_both_texts(shape: tuple[int, int], caption: str) -> None:
    image = overlaid(*shape, caption=caption).astype(int)
    lit = np.flatnonzero(image.max(axis=(1, 2)) > 0)
    last = lit[np.flatnonzero(np.diff(lit) > 1)[0]]  # of the film: below it lie lines of black
    legend = image[last + 1 :]
    np.testing.assert_allclose(legend[20, 12:172][[2, -3]], [WEAK, STRONG], atol=12)
    assert legend[:, -4:].max() == 0  # nothing is cut off at the right
    assert legend[-3:].max() == 0  # nor below
    yellow = (np.abs(legend[30:] - NOTICE_COLOUR).max(axis=2) < 60).sum()
    assert yellow > 0.9 * drawn(NOTICE)


def drawn(text: str) -> int:
    """Pixels of a text that are mostly covered."""
    mask = np.asarray(ImageFont.load_default(16).getmask(text))
    return int((mask > 200).sum())


def test_a_heat_map_of_zeros_leaves_the_film_as_it_is() -> None:
    image = overlaid(960, 960, np.zeros((7, 7), np.float32))[:960]
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    np.testing.assert_array_equal(image[0, :, 0], np.arange(960) % 256)


def test_strong_evidence_is_coloured_and_weak_is_not() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[2, 2] = 1
    image = overlaid(1024, 1024, heat)[:960].astype(int)
    chroma = image.max(axis=2) - image.min(axis=2)
    assert chroma[320, 320] > 60
    assert chroma[700, 700] == 0


def test_an_overlay_fits_an_answer() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024), dtype=np.uint8)
    heat = np.random.default_rng(1).random((56, 56), dtype=np.float32)
    assert len(overlay(noise, heat, "x", NOTICE)) * 4 / 3 < 6_500_000
