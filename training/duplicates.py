"""Nearly the same picture in two parts of a split: a test film that was trained on is no test.

A manifest's groups cannot be trusted to know every copy: public collections took the same film from several
places, cropped, scaled and tone-mapped differently. Two films are compared by their edges (a band of
frequencies, so neither exposure nor a hospital's framing counts), the middle of the one moved and scaled over the
other, by normalised cross-correlation (Lewis 1995, Fast Normalized Cross-Correlation). docs/training.md has the
measurements behind SIMILAR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data import Films
from training.split import Part

SIMILAR = 0.87
"""Correlation from which two films count as the same picture."""
BASE, SIDE, MIDDLE = 96, 64, 44
"""Pixels: of the band-passed picture, of the one it is compared at, of the template taken out of its middle."""
SIDES = (58, 60, 62, 66, 68, 70)
"""Of the other film, besides SIDE: it may have been scaled by a tenth either way."""
PROMISING = 0.5
"""Correlation without scaling from which a pair is tried at SIDES too: 19 of 20 copies scaled by 9 % have 0.55."""
STRONGEST = 2.0
"""Standard deviations at which edges are cut off: else a collimator's border or a tube outweighs the ribs."""
PERIOD = 72
"""Of the Fourier transforms: no smaller than any of SIDES, so nothing wraps around."""
COARSE = 24
NEIGHBOURS = 4
"""Films that are looked at closely for each film: the nearest at COARSE pixels."""
CHUNK = 512
"""Pairs at once, which bounds the memory."""
ORDER: tuple[Part, ...] = ("train", "validation", "test")
"""What is left out first."""


class NearDuplicates(ValueError):
    """Nearly the same film lies in two parts; the message names the pairs."""


@dataclass(frozen=True)
class Pair:
    """Two films of different parts; the first is of the part that comes first in ORDER."""

    first: tuple[Part, int]
    second: tuple[Part, int]
    similarity: float

    def describe(self, parts: dict[Part, Films]) -> str:
        """Part and name of both films and their similarity."""
        names = (f"{name} {parts[name].name(row)}" for name, row in (self.first, self.second))
        return f"{' = '.join(names)} ({self.similarity:.3f})"


def find(parts: dict[Part, Films], similar: float = SIMILAR) -> list[Pair]:
    """Pairs of films of different parts that are nearly the same picture, the most similar first."""
    places = [(part, index) for part in ORDER for index in range(len(parts[part]))]
    part_of_row = np.repeat(np.arange(len(ORDER)), [len(parts[part]) for part in ORDER])
    pictures = np.concatenate([parts[part].pictures for part in ORDER])
    edges = band(pictures)
    rows = candidates(edges, part_of_row)
    scores = similarity(edges, rows)
    found = [(float(score), int(a), int(b)) for score, (a, b) in zip(scores, rows, strict=True) if score >= similar]
    return [Pair(places[a], places[b], score) for score, a, b in sorted(found, key=lambda pair: (-pair[0], *pair[1:]))]


def resolve(
    parts: dict[Part, Films], rule: Literal["refuse", "drop", "allow"]
) -> tuple[dict[Part, Films], dict[str, object]]:
    """The parts to train and judge with, and what was found, for metrics.json.

    `drop` leaves out the film of each pair whose part comes first in ORDER: test films stay, and so does the
    rule of the split.

    Raises:
        NearDuplicates: there are some and `rule` is `refuse`.
        ValueError: what `drop` leaves lacks a class.
    """
    pairs = find(parts)
    if pairs and rule == "refuse":
        raise NearDuplicates(_refusal(pairs, parts))
    report: dict[str, object] = {
        "rule": rule,
        "pairs": len(pairs),
        "films": [pair.describe(parts) for pair in pairs],
        "dropped": 0,
    }
    if rule != "drop" or not pairs:
        return parts, report
    left_out = {pair.first for pair in pairs}
    kept = {
        part: films.select(np.array([i for i in range(len(films)) if (part, i) not in left_out], np.int64))
        for part, films in parts.items()
    }
    if any(0 in films.class_counts().values() for films in kept.values()):
        raise ValueError("without its near-duplicates a part has no film of a class left")
    return kept, {**report, "dropped": len(left_out)}


def _refusal(pairs: list[Pair], parts: dict[Part, Films], shown: int = 10) -> str:
    lines = "; ".join(pair.describe(parts) for pair in pairs[:shown])
    more = f"; and {len(pairs) - shown} more" if len(pairs) > shown else ""
    many = f"{len(pairs)} pairs of films in different parts are"
    found = many if len(pairs) > 1 else "1 pair of films in different parts is"
    return (
        f"{found} nearly the same picture: {lines}{more}. Give both one "
        "group in manifest.csv, or go on with duplicates = drop (the film that is not tested is left out) or allow"
    )


# --- the measure -----------------------------------------------------------------------------------


def candidates(edges: Tensor, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P, 2) rows a < b of different kind worth a closer look: nearest neighbours at low resolution.

    Args:
        edges: (N, 1, BASE, BASE), from `band`.
        kinds: (N,), pairs within one are left out.
    """
    coarse = nn.functional.interpolate(edges, size=(COARSE, COARSE), mode="area")[:, 0, 2:-2, 2:-2]
    flat = _unit(coarse.flatten(1))  # (N, pixels)
    kind = torch.from_numpy(kinds)
    rows: set[tuple[int, int]] = set()
    for start in range(0, len(flat), CHUNK):
        nearness = flat[start : start + CHUNK] @ flat.T  # (CHUNK, N)
        nearness[kind[start : start + CHUNK, None] == kind] = -2
        best = nearness.topk(min(NEIGHBOURS, len(flat)), dim=1)
        for row, (values, others) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True), start):
            rows |= {(min(row, b), max(row, b)) for value, b in zip(values, others, strict=True) if value > -2}
    return np.array(sorted(rows), np.int64).reshape(-1, 2)


def similarity(edges: Tensor, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(P,) -1..1: the best correlation of each pair over shifts and scales; 1 for a copy."""
    best = _at_side(edges, rows, SIDE)
    for side in SIDES:
        promising = np.flatnonzero(best >= PROMISING)
        best[promising] = np.maximum(best[promising], _at_side(edges, rows[promising], side))
    return best


def _at_side(edges: Tensor, rows: NDArray[np.int64], side: int) -> NDArray[np.float32]:
    """The best correlation over shifts, the second film of each pair at `side` pixels."""
    if not len(rows):
        return np.empty(0, np.float32)
    used, places = np.unique(rows, return_inverse=True)
    first, second = torch.from_numpy(places.reshape(-1, 2)).T
    sharp = edges[torch.from_numpy(used)]  # (U, 1, BASE, BASE)
    template = _unit(_middle(_resized(sharp, SIDE)).flatten(1)).view(-1, MIDDLE, MIDDLE)
    other = _resized(sharp, side)  # (U, side, side)
    sought, spectrum, length = _spectrum(template).conj(), _spectrum(other), _window_length(other)
    best = []
    for a, b in zip(torch.split(first, CHUNK), torch.split(second, CHUNK), strict=True):
        moved = torch.fft.irfft2(spectrum[b] * sought[a], s=(PERIOD, PERIOD))
        inside = moved[:, : length.shape[1], : length.shape[2]]  # (CHUNK, side - MIDDLE + 1, the same)
        best.append((inside / length[b]).flatten(1).amax(1))
    return torch.cat(best).numpy()


def band(pictures: NDArray[np.uint8]) -> Tensor:
    """(N, S, S) uint8 -> (N, 1, BASE, BASE) float32: edges of the size of ribs and lung borders."""
    x = torch.from_numpy(pictures).unsqueeze(1)
    x = torch.cat(
        [nn.functional.interpolate(part.float(), size=(BASE, BASE), mode="area") for part in torch.split(x, CHUNK)]
    )
    edges = _blurred(x - _blurred(x, 13), 3)
    strongest = STRONGEST * edges.std(dim=(2, 3), keepdim=True)
    return edges.clamp(-strongest, strongest)


def _blurred(x: Tensor, side: int) -> Tensor:
    """Mean over a square, along one axis and then the other."""
    for size in ((side, 1), (1, side)):
        margin = (size[0] // 2, size[1] // 2)
        x = nn.functional.avg_pool2d(x, size, 1, margin, count_include_pad=False)
    return x


def _resized(sharp: Tensor, side: int) -> Tensor:
    size = (side, side)
    moved: Tensor = nn.functional.interpolate(sharp, size=size, mode="bilinear", antialias=True, align_corners=False)
    return moved[:, 0]


def _middle(x: Tensor) -> Tensor:
    margin = (x.shape[-1] - MIDDLE) // 2
    return x[:, margin : margin + MIDDLE, margin : margin + MIDDLE]


def _unit(flat: Tensor) -> Tensor:
    centred = flat - flat.mean(1, keepdim=True)
    length: Tensor = centred.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return centred / length


def _spectrum(x: Tensor) -> Tensor:
    padding = PERIOD - x.shape[-1]
    padded: Tensor = nn.functional.pad(x, (0, padding, 0, padding))
    spectrum: Tensor = torch.fft.rfft2(padded)
    return spectrum


def _window_length(x: Tensor) -> Tensor:
    """Norm of each window of MIDDLE pixels less its mean: (N, side - MIDDLE + 1, side - MIDDLE + 1)."""
    total, square = (_window_sums(y.double()) for y in (x, x * x))
    lengths: Tensor = (square - total * total / (MIDDLE * MIDDLE)).clamp_min(1e-6).sqrt().float()
    return lengths


def _window_sums(x: Tensor) -> Tensor:
    """By an integral image (Crow 1984): a window's sum is four look-ups."""
    area: Tensor = nn.functional.pad(x.cumsum(1).cumsum(2), (1, 0, 1, 0))
    right = area[:, :, MIDDLE:] - area[:, :, :-MIDDLE]
    sums: Tensor = right[:, MIDDLE:] - right[:, :-MIDDLE]
    return sums
