"""The recipe: everything besides weights that turns a film into an answer.

It travels as JSON inside the checkpoint, the TorchScript file and so the archive: weights and the
preprocessing they were trained with cannot part.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GateThresholds:
    """Where the quality gate closes. All are compared with `>` (reject above) or `<` (reject below)."""

    max_colour: float = 0.12
    """Mean chroma (max - min of R, G, B) over pixels, 0..1; above it the picture is a colour photograph."""
    min_contrast: float = 0.02
    """Width between the stretch percentiles as a share of the display range; below it, and with fewer
    different levels than `min_levels`, the film is blank."""
    min_levels: int = 64
    max_distance: float = 1e9
    """Distance to the training films in feature space, fitted at 99 % acceptance of validation films and altered
    copies of them (docs/adr/0005-novelty-gate.md). The default is never reached."""


@dataclass(frozen=True)
class Recipe:
    """Immutable description of one trained model's preprocessing, labels and thresholds."""

    name: str
    architecture: str
    """A key of `cxr.network.ARCHITECTURES`."""
    version: str
    labels: tuple[str, ...]
    """Class names, in the order of the logits."""
    size: int = 224
    """Side of the square network input, pixels."""
    stretch: tuple[float, float] = (0.5, 99.5)
    """Percentiles of the film that become black and white."""
    centre: float = 1.0
    """Share of each side that a crop around the centre keeps; 1 keeps the whole film."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Per-channel normalisation of the 0..1 picture; the defaults are ImageNet's (torchvision)."""
    temperature: float = 1.0
    """Divides the logits before softmax (Guo et al. 2017, arXiv:1706.04599)."""
    abstain_below: float = 0.0
    """Calibrated confidence under which `decision` is `abstain`."""
    gate: GateThresholds = GateThresholds()
    trained_with: tuple[str, ...] = ()
    """Versions that matter for repeating the training, e.g. `torch==2.11.0`."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Raises ValueError on an unknown or missing key: an old reader must not guess a new recipe."""
        values: dict[str, Any] = json.loads(text)
        try:
            gate = GateThresholds(**values.pop("gate", {}))
            return cls(gate=gate, **{key: _tuples(value) for key, value in values.items()})
        except TypeError as error:
            raise ValueError(f"recipe does not fit this reader: {error}") from error


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
