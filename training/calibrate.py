"""What is fitted after training, on validation films: temperature, thresholds, distance to known films."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from cxr.network import Network
from cxr.recipe import Recipe
from training.augment import Augment
from training.data import Films, in_batches
from training.recipe import AugmentSettings
from training.train import logits_of

ACCEPTED = 0.99
"""Share of validation films that the feature gate lets pass, as they are and as another device might show them."""
ANOTHER_DEVICE = AugmentSettings(
    flip=0.0, rotate=5.0, translate=0.04, scale=(0.93, 1.08), aspect=0.08,
    brightness=0.1, contrast=0.2, gamma=0.4, blur=1.0, noise=0.02,
)  # fmt: skip
"""Without such copies the threshold would be that of two particular copies of one data set."""


def temperature(logits: Tensor, classes: Tensor) -> float:
    """Guo et al. 2017: the T that minimises the cross entropy of logits (N, classes) / T."""
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.cross_entropy(logits.double() / log_t.exp(), classes)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return float(log_t.detach().exp())


def pooled_features(network: Network, films: Films, recipe: Recipe) -> Tensor:
    """(N, C): the feature map's mean over the picture."""
    network.eval()
    device = next(network.parameters()).device
    return in_batches(films, recipe, lambda x: network.features(x).mean(dim=(2, 3)), device)


def elsewhere(films: Films) -> Films:
    """The same films with small changes of tone and geometry, always the same ones."""
    change = Augment(ANOTHER_DEVICE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        changed = [change(torch.from_numpy(picture)).round().to(torch.uint8).numpy() for picture in films.pictures]
    return replace(films, pictures=np.stack(changed))


def calibrate(network: Network, recipe: Recipe, train: Films, validation: Films, report_share: float) -> Recipe:
    """Fit `network.novelty` in place; returns the recipe with temperature and thresholds."""
    logits = logits_of(network, validation, recipe)
    t = temperature(logits, torch.from_numpy(validation.classes))
    confidence = torch.softmax(logits / t, dim=1).amax(dim=1).numpy()
    network.novelty.fit(pooled_features(network, train, recipe), torch.from_numpy(train.classes))
    pooled = torch.cat([pooled_features(network, films, recipe) for films in (validation, elsewhere(validation))])
    distance = network.novelty(pooled[:, :, None, None]).numpy()
    return replace(
        recipe,
        temperature=round(t, 4),
        abstain_below=round(float(np.quantile(confidence, 1 - report_share)), 4),
        gate=replace(recipe.gate, max_distance=round(float(np.quantile(distance, ACCEPTED)), 4)),
    )
