"""The split: a fixed rule, made before the first training. Groups stay whole, so no patient is on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.recipe import SplitSettings

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Sample:
    """One film of the data set."""

    path: Path
    label: str
    group: str
    """Patient or near-duplicate cluster: all films of a group stay on one side of every split."""


def position(group: str, salt: str) -> float:
    """0..1, from nothing but the group's name."""
    digest = hashlib.sha256(f"{salt}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def part_of(group: str, split: SplitSettings) -> Part:
    """Where a group belongs by shares: stable when films are added or removed."""
    place = position(group, split.salt)
    if place < split.test:
        return "test"
    return "validation" if place < split.test + split.validation else "train"


def parts_of_groups(samples: Sequence[Sample], split: SplitSettings) -> dict[str, Part]:
    """The part of every group: by shares, or by films of each class where the split counts them.

    A counted part takes each class's groups in the order of their position until it has the films asked
    for; groups stay whole, so it may get a few more. A share of validation beside a counted test part
    lies at the far end of the positions, out of the counting's way.
    """
    groups = sorted({sample.group for sample in samples}, key=lambda group: (position(group, split.salt), group))
    parts = {group: part_of(group, split) for group in groups}
    if split.test_per_class:
        test = _counted(groups, samples, split.test_per_class)
        far = 1 - split.validation
        parts = {group: "validation" if position(group, split.salt) >= far else "train" for group in groups}
        parts |= dict.fromkeys(test, "test")
    if split.validation_per_class:
        rest = [group for group in groups if parts[group] != "test"]
        parts |= dict.fromkeys(rest, "train")
        parts |= dict.fromkeys(_counted(rest, samples, split.validation_per_class), "validation")
    return parts


def _counted(groups: Iterable[str], samples: Sequence[Sample], wanted: int) -> list[str]:
    """Of `groups`, in their order, those that bring every class to `wanted` films."""
    films: dict[str, Counter[str]] = {group: Counter() for group in groups}
    for sample in samples:
        if sample.group in films:
            films[sample.group][sample.label] += 1
    taken: list[str] = []
    have: Counter[str] = Counter()
    for label in sorted({sample.label for sample in samples}):
        for group in films:
            if have[label] < wanted and films[group][label] and group not in taken:
                taken.append(group)
                have += films[group]
    return taken


def divide(samples: Sequence[Sample], split: SplitSettings) -> dict[Part, list[Sample]]:
    """The samples of each part, in their order; at most `split.most_per_class` of a class, in whole groups."""
    parts = parts_of_groups(samples, split)
    divided: dict[Part, list[Sample]] = {"train": [], "validation": [], "test": []}
    for sample in samples:
        divided[parts[sample.group]].append(sample)
    if split.most_per_class:
        for part, members in divided.items():
            kept = set(_counted((group for group in parts if parts[group] == part), members, split.most_per_class))
            divided[part] = [sample for sample in members if sample.group in kept]
    return divided
