"""Leaf: the first calls of a new worker, which are slow, made before any film comes."""

from __future__ import annotations

import numpy as np
import torch

from cxr import attribution
from cxr.network import LoadedNetwork
from cxr.reading import Reader, explain, predict
from cxr.request import Explain


def warm_up(reader: Reader) -> None:
    """Run every batch shape and the default explanation; where slow methods are run, their pass too."""
    side = reader.recipe.size
    for films in range(1, reader.batch + 1):
        blank = torch.zeros(films, 3, side, side)
        for _ in range(2):  # TorchScript profiles the first call and optimises at the second
            predictions = predict(reader.network, blank)
    explain(reader.network, Explain(), blank[0], predictions[0], np.zeros((side, side), np.uint8))
    if reader.methods - set(attribution.FAST_METHODS):
        _warm_up_slow(reader.network)


def _warm_up_slow(network: LoadedNetwork) -> None:
    """One pass forward and back, at the batch of the slow methods: their network is not the one of predictions.

    More would delay a worker that has to be ready on a busy machine too.
    """
    side = network.recipe.size
    x = torch.zeros(attribution.INNER_BATCH, 3, side, side, device=network.device, requires_grad=True)
    torch.autograd.grad(network.whole(x).sum(), x)
