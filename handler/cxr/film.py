"""A decoded film and the limits it was decoded under."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cxr.errors import FilmTooLarge

HISTOGRAM_BLOCK = 1 << 18
"""Pixels counted at a time: bincount widens its input to 64 bits, and a block stays in the cache."""


@dataclass(frozen=True)
class Limits:
    """What a client may ask of a worker's memory. Checked on headers, before memory is taken."""

    max_bytes: int = 40_000_000
    """Of one encoded film; a 4000x4000 16-bit film has 32,000,000."""
    max_pixels: int = 25_000_000
    """Rows times columns of one decoded film."""

    def shared(self, films: int) -> Limits:
        """Of each of so many films sent together: an even share of the pixels."""
        return Limits(self.max_bytes, self.max_pixels // films)

    def check_bytes(self, count: int, what: str = "the film") -> None:
        if count > self.max_bytes:
            raise FilmTooLarge(f"{what} has {count:,} bytes; the limit is {self.max_bytes:,}")

    def check_pixels(self, rows: int, columns: int) -> None:
        if rows * columns > self.max_pixels:
            raise FilmTooLarge(
                f"the film decodes to {columns} x {rows} pixels; the limit is {self.max_pixels:,} pixels"
            )


@dataclass(frozen=True)
class Film:
    """One decoded film at full bit depth.

    The display value of a pixel is `tone[pixel]`. Keeping the two apart makes everything that depends
    on grey values alone (modality and VOI LUT, inversion, percentiles, contrast stretch) work on at
    most 65,536 numbers instead of millions of pixels.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    """(rows, columns), stored values: indices into `tone`."""
    tone: NDArray[np.float64]
    """(levels,) display value of each stored value, 0 black .. 1 white; NaN for pixel padding."""
    colour: float = 0.0
    """Mean chroma of a colour picture, 0..1; 0 for a grey one."""
    warnings: tuple[str, ...] = ()

    @cached_property
    def histogram(self) -> NDArray[np.int64]:
        """(levels,) number of pixels of each stored value, padding not counted."""
        counts = np.zeros(len(self.tone), np.int64)
        flat = self.pixels.reshape(-1)
        for start in range(0, len(flat), HISTOGRAM_BLOCK):
            counts += np.bincount(flat[start : start + HISTOGRAM_BLOCK], minlength=len(counts))
        counts[np.isnan(self.tone)] = 0
        return counts

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        """(occurring,) the levels that occur, darkest to brightest."""
        order = np.argsort(self.tone, kind="stable")
        return order[self.histogram[order] > 0]

    def percentiles(self, low: float, high: float) -> tuple[float, float]:
        """Display values under and over which at most `low` and `100 - high` percent of pixels lie.

        Both are values that occur in the film, found from its two ends in the same way, so a film and
        its inverse give mirrored answers. A film without a single valid pixel gives (0, 0).
        """
        order = self._order
        if len(order) == 0:
            return 0.0, 0.0
        counts = self.histogram[order]
        total = counts.sum()
        darkest = int(np.searchsorted(np.cumsum(counts), total * low / 100, side="right"))
        brightest = int(np.searchsorted(np.cumsum(counts[::-1]), total * (100 - high) / 100, side="right"))
        last = len(order) - 1
        return float(self.tone[order[min(darkest, last)]]), float(self.tone[order[max(last - brightest, 0)]])

    def levels_between(self, low: float, high: float) -> int:
        """Number of different display values from `low` to `high` that occur in the film."""
        occurring = self.tone[self.histogram > 0]
        return len(np.unique(occurring[(occurring >= low) & (occurring <= high)]))
