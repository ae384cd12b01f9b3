"""TorchServe's Prometheus page as numbers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests

from serving.torchserve import TorchServe

SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? ([0-9.eE+-]+|NaN)")
LABEL = re.compile(r'(\w+)="([^"]*)"')
PATIENCE_S = 60.0
"""Workers hand metrics over through their standard output: they are seen a little later."""
QUIET_S = 2.0


@dataclass(frozen=True)
class Scrape:
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples that carry these labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.samples.items() if found == name and wanted <= has)

    def values(self, name: str, label: str) -> set[str]:
        return {dict(has)[label] for (found, has) in self.samples if found == name}


def scrape(server: TorchServe) -> Scrape:
    text = requests.get(f"{server.metrics_url}/metrics", timeout=30).text
    lines = [SAMPLE.fullmatch(line) for line in text.splitlines() if not line.startswith("#")]
    return Scrape({(m[1], frozenset(LABEL.findall(m[2] or ""))): float(m[3]) for m in lines if m})


def settled(server: TorchServe) -> Scrape:
    """The first scrape with the handler's counts of QUIET_S before: rows of earlier requests are in it."""
    deadline, quiet_since, seen = time.monotonic() + PATIENCE_S, time.monotonic(), scrape(server)
    while time.monotonic() - quiet_since < QUIET_S:
        assert time.monotonic() < deadline, "rows are counted though nothing is asked"
        time.sleep(0.2)
        before, seen = seen, scrape(server)
        if seen.total("cxr_rows_total") != before.total("cxr_rows_total"):
            quiet_since = time.monotonic()
    return seen


def eventually(server: TorchServe, holds: Callable[[Scrape], bool]) -> Scrape:
    """The first scrape for which this holds; the last one where none does in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds(seen := scrape(server)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return seen
