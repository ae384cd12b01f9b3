"""The `handler:` section of model-config.yaml: typed, frozen, an unknown key is an error."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

from cxr.attribution import FAST_METHODS
from cxr.film import Limits


@dataclass(frozen=True)
class Settings:
    """What an operator may set for one registration."""

    max_bytes: int = Limits.max_bytes
    max_pixels: int = Limits.max_pixels
    threads: int | str = "auto"
    """Threads of one worker's forward pass and decoding; `auto`: cores / workers."""
    methods: tuple[str, ...] = FAST_METHODS
    """Attribution methods this registration runs."""
    nice: int = 0
    """Added to the worker's niceness, so that slow explanations give way to predictions."""

    @classmethod
    def from_yaml(cls, values: dict[str, Any] | None) -> Settings:
        """Raises ValueError for an unknown key."""
        values = dict(values or {})
        unknown = values.keys() - {entry.name for entry in fields(cls)}
        if unknown:
            raise ValueError(f"unknown key in model-config.yaml, section handler: {', '.join(sorted(unknown))}")
        if "methods" in values:
            values["methods"] = tuple(values["methods"])
        return cls(**values)

    @property
    def limits(self) -> Limits:
        return Limits(self.max_bytes, self.max_pixels)

    def thread_count(self, workers: int) -> int:
        if self.threads == "auto":
            return max(1, len(os.sched_getaffinity(0)) // max(1, workers))
        return max(1, int(self.threads))
