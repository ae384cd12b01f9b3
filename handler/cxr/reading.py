"""The way of one image.

    bytes -> decode -> quality gate -> contrast stretch -> centre crop -> tensor -> predict -> explain -> respond

Read from top to bottom: the functions stand in the order in which a film meets them, and `Reader.read`
at the end calls them in that order for a batch. Training calls the very same functions up to
`to_tensor`. Everything is deterministic: the same bytes give the same tensor, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cxr import attribution, isolation
from cxr.dicom import is_dicom, read_dicom
from cxr.errors import BadRequest, CxrError
from cxr.film import Film, Limits
from cxr.network import LoadedNetwork
from cxr.picture import read_picture
from cxr.recipe import Recipe
from cxr.request import Explain, Request, check_explanation, check_tensor

NOTICE = "Research use only. Not for diagnosis."
MAX_DECODERS = 4
"""Films decoded at the same time, whatever the machine has of cores: the largest ones take 900 MB each."""


# --- decode ----------------------------------------------------------------------------------------


def decode(data: bytes, limits: Limits) -> Film:
    """PNG, JPEG, TIFF or DICOM bytes, told apart by the bytes themselves, to a film at full bit depth.

    Raises:
        BadRequest: no bytes.
        FilmTooLarge: more bytes or pixels than `limits`.
        UnsupportedImage: no image this project reads.
        UnreadableImage: an image, but broken, of several frames, or without pixels.
    """
    if not data:
        raise BadRequest("the body is empty; send the bytes of one film")
    limits.check_bytes(len(data))
    return read_dicom(data, limits) if is_dicom(data) else read_picture(data, limits)


# --- quality gate, first half: what the pixels alone tell ------------------------------------------


REASONS = {
    "colour": "rejected: a colour picture, not an X-ray",
    "blank": "rejected: blank or nearly constant",
    "unfamiliar": "rejected: unlike the frontal chest X-rays the model was trained on",
}


@dataclass(frozen=True)
class Verdict:
    """The quality gate's view of one film; `reason`, a key of REASONS, is None where it may pass."""

    score: float
    threshold: float
    reason: str | None = None


def inspect_pixels(film: Film, recipe: Recipe) -> Verdict | None:
    """Reject colour photographs and blank films; None where the pixels raise no objection."""
    gate = recipe.gate
    if film.colour > gate.max_colour:
        return Verdict(film.colour, gate.max_colour, "colour")
    low, high = film.percentiles(*recipe.stretch)
    # A 10-bit film in a 16-bit file spans little of the range too, but in many levels.
    if high - low < gate.min_contrast and film.levels_between(low, high) < gate.min_levels:
        return Verdict(high - low, gate.min_contrast, "blank")
    return None


# --- contrast stretch ------------------------------------------------------------------------------


def stretch(film: Film, percentiles: tuple[float, float]) -> NDArray[np.uint8]:
    """The film between two percentiles of its own grey values, (rows, columns) uint8, 0 black.

    The percentiles are taken at full bit depth; padding counts for nothing and becomes black. A film
    whose percentiles coincide, a constant one, becomes all 0.
    """
    low, high = film.percentiles(*percentiles)
    if high <= low:
        return np.zeros(film.pixels.shape, np.uint8)
    grey = np.clip((film.tone - low) / (high - low), 0, 1) * 255  # (levels,)
    lut = np.rint(np.nan_to_num(grey, nan=0.0)).astype(np.uint8)
    return lut[film.pixels]  # (rows, columns)


# --- centre crop -----------------------------------------------------------------------------------


def crop(picture: NDArray[np.uint8], centre: float) -> NDArray[np.uint8]:
    """The middle of the picture, `centre` (0..1] of each side: (rows, columns) -> (rows', columns') uint8.

    At 1 it is the picture itself. A side keeps one pixel at least.
    """
    rows, columns = (max(1, round(side * centre)) for side in picture.shape)
    top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    return picture[top : top + rows, left : left + columns]


# --- tensor ----------------------------------------------------------------------------------------


def shrink(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """To the network's square input, antialiased; (rows, columns) -> (size, size) uint8."""
    if picture.shape == (size, size):
        return picture
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def normalise(picture: Tensor, recipe: Recipe) -> Tensor:
    """The recipe's normalisation; uint8 or 0..255 float (..., S, S) -> float32 (..., 3, S, S)."""
    grey = picture.to(torch.float32).div(255).unsqueeze(-3)  # (..., 1, S, S)
    mean = torch.tensor(recipe.mean, device=picture.device).view(3, 1, 1)
    std = torch.tensor(recipe.std, device=picture.device).view(3, 1, 1)
    return (grey - mean) / std  # (..., 3, S, S)


def to_tensor(picture: NDArray[np.uint8], recipe: Recipe) -> Tensor:
    """What the network sees of a stretched film: (rows, columns) uint8 -> (3, S, S) float32."""
    return normalise(torch.from_numpy(shrink(picture, recipe.size).copy()), recipe)


# --- predict ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """What one forward pass says of one film."""

    feature_map: Tensor
    """(1, C, h, w) float32, kept for the explanation."""
    probabilities: tuple[float, ...]
    """One for each label, temperature-scaled."""
    distance: float
    """From the training films, in feature space."""

    @property
    def best(self) -> int:
        """Index of the likeliest class."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)


@torch.no_grad()
def predict(network: LoadedNetwork, batch: Tensor) -> list[Prediction]:
    """(B, 3, S, S) float32 -> B predictions, from one forward pass."""
    feature_map = network.features(batch.to(network.device))  # (B, C, h, w)
    logits = network.head(feature_map)  # (B, classes)
    probabilities = torch.softmax(logits / network.recipe.temperature, dim=1)
    distances = network.novelty(feature_map)  # (B,)
    rows = zip(feature_map.split(1), probabilities.tolist(), distances.tolist(), strict=True)
    return [Prediction(features, tuple(p), distance) for features, p, distance in rows]


# --- quality gate, second half: is it like the films the network was trained on? -------------------


def inspect_features(distance: float, recipe: Recipe) -> Verdict:
    """Reject what lies farther from the training films than 99 % of validation films and their altered copies."""
    threshold = recipe.gate.max_distance
    return Verdict(distance, threshold, "unfamiliar" if distance > threshold else None)


# --- explain ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explanation:
    """Where the evidence for one class lies in one film."""

    method: str
    target: str
    attributed: attribution.Attribution
    overlay_png: bytes | None


def explain(
    network: LoadedNetwork,
    asked: Explain,
    tensor: Tensor,
    prediction: Prediction,
    picture: NDArray[np.uint8] | None,
) -> Explanation:
    """The heat map for one class, and its overlay on `picture` (rows, columns) where there is one.

    Args:
        tensor: (3, S, S), what the network saw.
    """
    labels = network.recipe.labels
    target = prediction.best if asked.target is None else labels.index(asked.target)
    attributed = attribution.attribute(asked.method, network, tensor, prediction.feature_map, target)
    overlay = None
    if asked.overlay and picture is not None:
        caption = f"{labels[target]} {prediction.probabilities[target]:.2f}  {asked.method}"
        overlay = attribution.overlay(picture, attributed.heat_map, caption, NOTICE)
    return Explanation(asked.method, labels[target], attributed, overlay)


# --- respond ---------------------------------------------------------------------------------------


def decide(verdict: Verdict, confidence: float, recipe: Recipe) -> str:
    """`reject` (not a film we know), `abstain` (not sure enough) or `report`."""
    if verdict.reason is not None:
        return "reject"
    return "abstain" if confidence < recipe.abstain_below else "report"


def respond(row: Row, network: LoadedNetwork) -> dict[str, Any]:
    """The JSON of the contract for a row that has a prediction."""
    recipe, prediction, verdict = network.recipe, row.prediction, row.verdict
    assert prediction is not None and verdict is not None
    answer: dict[str, Any] = {
        "model": {"name": recipe.name, "version": recipe.version, "sha256": network.sha256},
        "request_id": row.request.request_id,
        "prediction": recipe.labels[prediction.best],
        "probabilities": {label: round(p, 6) for label, p in zip(recipe.labels, prediction.probabilities, strict=True)},
        "decision": decide(verdict, max(prediction.probabilities), recipe),
        "gate": {"score": round(verdict.score, 4), "threshold": round(verdict.threshold, 4), "reason": verdict.reason},
        "warnings": [*row.warnings, *([REASONS[verdict.reason]] if verdict.reason else [])],
        "notice": NOTICE,
    }
    if (found := row.explanation) is not None:
        answer["attribution"] = {"method": found.method, "target": found.target, **found.attributed.as_json()}
    return answer


# --- the whole way, for a batch --------------------------------------------------------------------


@dataclass
class Row:
    """What is known of one request so far. Once `error` is set, no further step touches the row."""

    request: Request
    picture: NDArray[np.uint8] | None = None
    tensor: Tensor | None = None
    verdict: Verdict | None = None
    prediction: Prediction | None = None
    explanation: Explanation | None = None
    warnings: list[str] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)
    error: CxrError | None = None


class Reader:
    """Reads batches of films with one network.

    Args:
        network: what `cxr.network.load` returned.
        limits: of one film.
        methods: attribution methods this reader may run; others are answered with `WrongModel`.
        threads: films decoded at the same time, MAX_DECODERS at most.
        batch: films in one forward pass at most, which bounds its memory.
        observe: called with (step, seconds) after every step, per row or per batch.
    """

    def __init__(
        self,
        network: LoadedNetwork,
        limits: Limits | None = None,
        methods: Iterable[str] = tuple(attribution.METHODS),
        threads: int = 1,
        batch: int = 8,
        observe: isolation.Observer = lambda step, seconds: None,
    ) -> None:
        self.network = network
        self.recipe = network.recipe
        self.limits = limits or Limits()
        self.methods = frozenset(methods)
        self.observe = observe
        self.batch = batch
        decoders = min(threads, MAX_DECODERS)
        self._pool = ThreadPoolExecutor(decoders, "decode") if decoders > 1 else None

    def read(self, requests: Sequence[Request]) -> list[Row]:
        """One row for each request, in order; a row that fails never harms its neighbours."""
        rows = [Row(request) for request in requests]
        isolation.each(self._prepare, rows, self._pool)
        isolation.batches(self._predict, rows, self.batch)
        isolation.each(self._explain, rows)
        isolation.each(self._respond, rows)
        return rows

    def _prepare(self, row: Row) -> None:
        """bytes -> decode -> quality gate -> contrast stretch -> centre crop -> tensor"""
        if row.request.explain is not None:
            check_explanation(row.request.explain, self.recipe, self.methods)
        if isinstance(row.request.film, Tensor):
            row.tensor = check_tensor(row.request.film, self.recipe)
            row.warnings.append("prepared tensor: contrast stretch and pixel checks were the sender's")
            return
        with isolation.timed("decode", self.observe):
            film = decode(row.request.film, self.limits.shared(row.request.shared_by))
        with isolation.timed("stretch", self.observe):
            row.verdict = inspect_pixels(film, self.recipe)
            picture = crop(stretch(film, self.recipe.stretch), self.recipe.centre)
            row.tensor = to_tensor(picture, self.recipe)
        if row.request.explain is not None:  # else let go: a batch of large films would hold on to gigabytes
            row.picture = picture
        row.warnings.extend(film.warnings)

    def _predict(self, rows: list[Row]) -> None:
        """tensor -> predict -> quality gate, all rows in one forward pass"""
        with isolation.timed("predict", self.observe):
            tensors = [row.tensor for row in rows if row.tensor is not None]
            for row, prediction in zip(rows, predict(self.network, torch.stack(tensors)), strict=True):
                row.prediction = prediction
                row.verdict = row.verdict or inspect_features(prediction.distance, self.recipe)

    def _explain(self, row: Row) -> None:
        """predict -> explain, if asked"""
        asked, tensor, prediction = row.request.explain, row.tensor, row.prediction
        if asked is None or tensor is None or prediction is None:
            return
        with isolation.timed("explain", self.observe):
            row.explanation = explain(self.network, asked, tensor, prediction, row.picture)
        row.warnings.extend(row.explanation.attributed.warnings)

    def _respond(self, row: Row) -> None:
        row.answer = respond(row, self.network)
