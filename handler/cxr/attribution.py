"""Leaf: Captum attribution -> heat map -> overlay picture.

Captum's hooks are refused by ScriptModules; they are put on an eager module around the scripted parts.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from captum.attr import GradientShap, IntegratedGradients, LayerGradCam, Occlusion
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor, nn

from cxr.network import LoadedNetwork

DEFAULT = "grad_cam"
OVERLAY_SIDE = 1024
"""Longest side of an overlay, pixels: a response over TorchServe's max_response_size kills its worker."""
MAP_SIDE = 28
"""Finer heat maps are reduced to this side: an answer without overlay stays under 10 KB."""
INTEGRATION_STEPS = (64, 128, 256, 512, 1024)
COMPLETENESS = 0.01
"""Integrated Gradients' error allowed, in logits or as a share of the logit difference."""
INCOMPLETE = "incomplete attribution: its sum misses the logit difference by more than 1 %"
OCCLUSION_WINDOW, OCCLUSION_STRIDE = 28, 14
SHAP_SAMPLES = 16
INNER_BATCH = 8
"""Inputs in one pass of the methods that need many."""


@dataclass(frozen=True)
class Attribution:
    """Where the evidence for one class lies."""

    heat_map: NDArray[np.float32]
    """(h, w), 0..1: nothing .. strongest. All 0 where nothing speaks for the class."""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the map has to know."""
        complete = self.details.get("completeness", {}).get("complete", True)
        return [] if complete else [INCOMPLETE]

    def as_json(self) -> dict[str, Any]:
        return {"map": np.round(self.heat_map.astype(float), 3).tolist(), **self.details}


# --- Grad-CAM on the cached feature map ------------------------------------------------------------


class FromFeatureMap(nn.Module):
    """feature map -> logits, with an eager layer between the two that Captum can hook."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.feature_map = nn.Identity()
        self.head = head

    def forward(self, feature_map: Tensor) -> Tensor:
        logits: Tensor = self.head(self.feature_map(feature_map))
        return logits


def grad_cam(head: nn.Module, feature_map: Tensor, target: int) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), from a feature map (1, C, h, w) to (h, w) >= 0."""
    explained = FromFeatureMap(head)
    cam = LayerGradCam(explained, explained.feature_map)
    inputs = feature_map.detach().requires_grad_()
    evidence: Tensor = cam.attribute(inputs, target=target, relu_attributions=True)  # (1, 1, h, w)
    return evidence[0, 0].detach()  # (h, w)


# --- methods that need gradients at, or many passes from, the input --------------------------------


def _black(x: Tensor) -> Tensor:
    """The baseline: a film without any light in it, as the network sees it."""
    return x.amin(dim=(2, 3), keepdim=True).expand_as(x)


def integrated_gradients(network: nn.Module, x: Tensor, target: int) -> tuple[Tensor, dict[str, Any]]:
    """Sundararajan et al. 2017, arXiv:1703.01365, with as many steps as completeness takes.

    Args:
        x: (1, 3, S, S).

    Returns:
        (1, 3, S, S), and the sum of attributions, the logit difference, the number of steps and whether that was
        complete: False where the last of INTEGRATION_STEPS was not enough.
    """
    baseline = _black(x)
    with torch.no_grad():
        difference = float((network(x) - network(baseline))[0, target])
    for steps in INTEGRATION_STEPS:
        attributed = IntegratedGradients(network).attribute(
            x, baseline, target=target, n_steps=steps, internal_batch_size=INNER_BATCH
        )
        total = float(attributed.sum())
        complete = abs(total - difference) <= max(COMPLETENESS, COMPLETENESS * abs(difference))
        if complete:
            break
    found = {"sum": total, "logit_difference": difference, "steps": steps, "complete": complete}
    return attributed, {"completeness": found}


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """So that the same film gets the same explanation: Captum draws from both torch and numpy."""
    numpys = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(numpys)


def gradient_shap(network: nn.Module, x: Tensor, target: int) -> tuple[Tensor, dict[str, Any]]:
    """Lundberg and Lee 2017, arXiv:1705.07874, as expected gradients between the film and black or mean grey.

    Args:
        x: (1, 3, S, S).

    Returns:
        (1, 3, S, S), and the number of samples.
    """
    with _same_random_numbers():
        baselines = torch.cat([_black(x), torch.zeros_like(x)])
        method, passes = GradientShap(network), SHAP_SAMPLES // INNER_BATCH
        attributed = sum(
            method.attribute(x, baselines, target=target, n_samples=INNER_BATCH, stdevs=0.1) for _ in range(passes)
        )
    return attributed / passes, {"samples": SHAP_SAMPLES}


def occlusion(network: nn.Module, x: Tensor, target: int) -> tuple[Tensor, dict[str, Any]]:
    """Zeiler and Fergus 2014, arXiv:1311.2901: the fall of the logit when a window is blacked out.

    Args:
        x: (1, 3, S, S).

    Returns:
        (1, 3, S, S), and window and stride in pixels.
    """
    window, stride = (3, OCCLUSION_WINDOW, OCCLUSION_WINDOW), (3, OCCLUSION_STRIDE, OCCLUSION_STRIDE)
    with torch.no_grad():
        attributed = Occlusion(network).attribute(
            x, window, strides=stride, baselines=_black(x), target=target, perturbations_per_eval=INNER_BATCH
        )
    return attributed, {"window": OCCLUSION_WINDOW, "stride": OCCLUSION_STRIDE}


InputMethod = Callable[[nn.Module, Tensor, int], tuple[Tensor, dict[str, Any]]]
INPUT_METHODS: dict[str, InputMethod] = {
    "integrated_gradients": integrated_gradients,
    "gradient_shap": gradient_shap,
    "occlusion": occlusion,
}
METHODS = (DEFAULT, *INPUT_METHODS)
FAST_METHODS = (DEFAULT,)


def attribute(method: str, network: LoadedNetwork, tensor: Tensor, feature_map: Tensor, target: int) -> Attribution:
    """Explain one row.

    Args:
        method: one of METHODS.
        tensor: (3, S, S), what the network saw.
        feature_map: (1, C, h, w), cached from the forward pass.
        target: index of the class to explain.
    """
    if method == DEFAULT:
        return Attribution(_to_heat_map(grad_cam(network.head, feature_map, target)))
    attributed, details = INPUT_METHODS[method](network.whole, tensor.unsqueeze(0).to(network.device), target)
    return Attribution(_to_heat_map(_summed(attributed.detach())), details)


def _summed(attributed: Tensor) -> Tensor:
    """(1, 3, S, S) -> (S, S): what speaks for the class, summed over channels."""
    return attributed.sum(dim=1)[0].clamp(min=0)


def _to_heat_map(evidence: Tensor) -> NDArray[np.float32]:
    """(h, w) -> the same, or where it is finer (MAP_SIDE, MAP_SIDE), 0..1."""
    rows, columns = (min(side, MAP_SIDE) for side in evidence.shape)
    evidence = nn.functional.adaptive_avg_pool2d(evidence.unsqueeze(0), (rows, columns))[0]
    peak = evidence.max()
    scaled = evidence / peak if peak > 0 else torch.zeros_like(evidence)
    return scaled.cpu().numpy().astype(np.float32)


# --- overlay ---------------------------------------------------------------------------------------


WEAK, MIDDLE, STRONG = (0, 0, 90), (220, 30, 60), (255, 240, 80)
WHITE, NOTICE_COLOUR = (255, 255, 255), (255, 220, 120)
STRENGTH = 0.55
"""Opacity of the strongest evidence."""


def overlay(picture: NDArray[np.uint8], heat_map: NDArray[np.float32], caption: str, notice: str) -> bytes:
    """The heat map over the film, and a legend below it, as PNG bytes.

    Args:
        picture: (rows, columns) uint8, stretched. It keeps its aspect ratio; longest side of the whole: 1024.
        heat_map: (h, w), 0..1, over the whole film.
        caption: what is shown: class, probability, method. notice: the line below it.
    """
    width, height, strip = _layout(picture.shape, caption, notice)
    film = Image.fromarray(picture).resize((width, height), reducing_gap=2.0)
    heat = Image.fromarray(np.rint(heat_map * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    mask = heat.point([round(level * STRENGTH) for level in range(256)])
    whole = Image.new("RGB", (max(width, strip.width), height + strip.height))
    whole.paste(Image.composite(_coloured(heat), film.convert("RGB"), mask), ((whole.width - width) // 2, 0))
    whole.paste(strip, (0, height))
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _coloured(grey: Image.Image) -> Image.Image:
    return ImageOps.colorize(grey, black=WEAK, white=STRONG, mid=MIDDLE)


# --- legend: below the film, so that it hides nothing of it -----------------------------------------


LEGEND_WIDTH = 360
"""Narrower films get black margins beside them."""
MARGIN, LINE = 12, 26
RAMP = (160, 16)


def _layout(shape: tuple[int, ...], caption: str, notice: str) -> tuple[int, int, Image.Image]:
    """Width and height of the film, and the legend: beside its colour bar, or below it where that has no room."""
    for columns in ((MARGIN + RAMP[0] + 2 * MARGIN, 0), (MARGIN, 2 * LINE)):
        strip = _legend(caption, notice, *columns)
        scale = min(OVERLAY_SIDE / shape[1], max(1, OVERLAY_SIDE - strip.height) / shape[0])
        width, height = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
        if strip.width <= max(width, LEGEND_WIDTH):
            break
    return width, height, strip


def _legend(caption: str, notice: str, left: int, top: int) -> Image.Image:
    """Colour bar from 0 to 1, and the two texts from (`left`, `top`) on, wrapped where they are long."""
    font = ImageFont.load_default(16)
    room = (OVERLAY_SIDE if left > MARGIN else LEGEND_WIDTH) - left - MARGIN
    lines = [(line, WHITE) for line in _wrapped(caption, font, room)]
    lines += [(line, NOTICE_COLOUR) for line in _wrapped(notice, font, room)]
    width = left + math.ceil(max(font.getlength(line) for line, _ in lines)) + MARGIN
    strip = Image.new("RGB", (max(width, MARGIN + RAMP[0] + MARGIN), top + max(2, len(lines)) * LINE + MARGIN))
    strip.paste(_coloured(Image.linear_gradient("L").rotate(90).resize(RAMP)), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(strip)
    draw.text((MARGIN, MARGIN // 2 + LINE), "0  evidence  1", fill=WHITE, font=font)
    for number, (line, colour) in enumerate(lines):
        draw.text((left, MARGIN // 2 + top + number * LINE), line, fill=colour, font=font)
    return strip


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """`text` in as few lines as fit `width` pixels."""
    for characters in range(len(text), 1, -1):
        lines = textwrap.wrap(text, characters)
        if all(font.getlength(line) <= width for line in lines):
            return lines
    return [text]
