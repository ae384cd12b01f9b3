"""The `handler:` section of model-config.yaml: typed, frozen, an unknown key is an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from cxr.attribution import FAST_METHODS, METHODS
from cxr.film import Limits

PLACE = "model-config.yaml, section handler"


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0  # bool is an int too


def _are_methods(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(entry in tuple(METHODS) for entry in value)


VALID: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_bytes": (_is_count, "a whole number above 0"),
    "max_pixels": (_is_count, "a whole number above 0"),
    "threads": (lambda value: value == "auto" or _is_count(value), "a whole number above 0, or auto"),
    "methods": (_are_methods, f"a list of some of: {', '.join(METHODS)}"),
    "nice": (lambda value: type(value) is int and 0 <= value <= 19, "a whole number from 0 to 19"),
}
"""What each key may be, and how an operator is told."""


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
        """Raises ValueError, with a sentence for the operator, for an unknown key or a value of another type."""
        values = dict(values or {})
        unknown = values.keys() - {entry.name for entry in fields(cls)}
        if unknown:
            raise ValueError(f"unknown key in {PLACE}: {', '.join(sorted(unknown))}")
        for name in values:
            fits, wanted = VALID[name]
            if not fits(values[name]):
                raise ValueError(f"{name} in {PLACE} is {wanted}, not {values[name]!r}")
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
