from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cxr.network import Novelty, build
from cxr.reading import normalise
from tests.training.conftest import LABELS
from training.calibrate import calibrate, elsewhere, pooled_features, temperature
from training.data import Films
from training.recipe import TrainingRecipe
from training.split import Part
from training.train import logits_of, model_recipe


def calibrated(count: int = 20_000) -> tuple[Tensor, Tensor]:
    """Logits (N, 4), and classes that are drawn from the very probabilities these logits state."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 4, generator=generator)
    classes = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator).squeeze(1)
    return logits, classes


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 20.0])
def test_the_temperature_finds_the_scale_of_the_logits(scale: float) -> None:
    logits, classes = calibrated()
    assert temperature(logits * scale, classes) == pytest.approx(scale, rel=0.04)


def test_films_that_are_all_told_right_give_a_finite_temperature() -> None:
    logits = torch.eye(3).repeat(10, 1) * 8
    assert 0 < temperature(logits, torch.arange(3).repeat(10)) < 1


# --- distance to known films -----------------------------------------------------------------------


def clouds(centres: Tensor, each: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features (N, C) around class centres that point into different directions."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(len(centres)).repeat(each)
    return centres[classes] + 0.1 * torch.randn(len(classes), centres.shape[1], generator=generator), classes


def distances(novelty: Novelty, pooled: Tensor) -> Tensor:
    return novelty(pooled[:, :, None, None])


@pytest.fixture
def fitted() -> Novelty:
    novelty = Novelty(16, 3)
    novelty.fit(*clouds(torch.eye(16)[:3], 200, seed=1))
    return novelty


def test_unfitted_everything_is_known() -> None:
    assert distances(Novelty(16, 3), torch.randn(5, 16)).abs().max() == 0


def test_unknown_features_lie_farther_than_99_of_100_known_ones(fitted: Novelty) -> None:
    known, _ = clouds(torch.eye(16)[:3], 300, seed=2)
    unknown, _ = clouds(torch.eye(16)[8:11], 300, seed=3)
    threshold = torch.quantile(distances(fitted, known), 0.99)
    assert (distances(fitted, unknown) > threshold).float().mean() > 0.99


def test_contrast_alone_makes_no_film_unknown(fitted: Novelty) -> None:
    known, _ = clouds(torch.eye(16)[:3], 10, seed=4)
    assert torch.allclose(distances(fitted, known), distances(fitted, 7 * known), rtol=1e-4)


def test_the_distance_is_that_to_the_nearest_class(fitted: Novelty) -> None:
    between = (torch.eye(16)[0] + torch.eye(16)[1]).unsqueeze(0)
    at_a_centre = torch.eye(16)[:3]
    assert distances(fitted, at_a_centre).max() < distances(fitted, between).min()


def test_a_channel_that_never_changes_does_no_harm() -> None:
    pooled, classes = clouds(torch.eye(16)[:3], 50, seed=5)
    pooled[:, 7] = 0
    novelty = Novelty(16, 3)
    novelty.fit(pooled, classes)
    assert torch.isfinite(distances(novelty, pooled)).all()


# --- thresholds ------------------------------------------------------------------------------------


def test_thresholds_lie_at_their_quantiles(tiny: TrainingRecipe, parts: dict[Part, Films]) -> None:
    torch.manual_seed(0)
    network = build("squeezenet1_1", 3)
    train, films = parts["train"], parts["train"].select(np.arange(0, 50))
    recipe = calibrate(network, model_recipe(tiny, LABELS), train, films, report_share=0.8)

    logits = logits_of(network, films, recipe)
    confidence = torch.softmax(logits / recipe.temperature, 1).amax(1)
    assert (confidence >= recipe.abstain_below).float().mean().item() == pytest.approx(0.8, abs=0.02)
    pooled = [pooled_features(network, some, recipe) for some in (films, elsewhere(films))]
    distance = distances(network.novelty, torch.cat(pooled))
    assert distance.std() > 0
    assert (distance > recipe.gate.max_distance).sum() == 1  # of 100: the one beyond the 99 % quantile


def test_another_device_shows_the_same_films_a_little_otherwise(parts: dict[Part, Films]) -> None:
    films = parts["test"]
    before = torch.get_rng_state()
    changed = elsewhere(films)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(changed.pictures, elsewhere(films).pictures)
    assert changed.pictures.dtype == np.uint8
    assert (changed.classes.tolist(), changed.paths) == (films.classes.tolist(), films.paths)
    for old, new in zip(films.pictures, changed.pictures, strict=True):
        assert 0.3 < np.corrcoef(old.ravel(), new.ravel())[0, 1] < 0.99


def test_pooled_features_are_the_feature_maps_mean(tiny: TrainingRecipe, parts: dict[Part, Films]) -> None:
    network, films = build("squeezenet1_1", 3).eval(), parts["train"]  # several batches
    reading = model_recipe(tiny, LABELS)
    with torch.no_grad():
        expected = network.features(normalise(torch.from_numpy(films.pictures), reading)).mean((2, 3))
    assert torch.allclose(pooled_features(network, films, reading), expected, atol=1e-5)
