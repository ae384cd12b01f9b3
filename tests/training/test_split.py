from __future__ import annotations

import csv
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.parts import shared
from tests.training.conftest import film, write_film
from training.data import Films, scan
from training.recipe import SplitSettings
from training.split import Part, Sample, divide, part_of, parts_of_groups

SPLIT = SplitSettings()


def test_the_rule_is_fixed() -> None:
    parts = [part_of(f"patient-{number}", SPLIT) for number in range(8)]
    assert parts == ["train", "train", "test", "train", "validation", "train", "train", "train"]


def test_the_shares_are_near_those_asked_for() -> None:
    counts = Counter(part_of(f"patient-{number}", SPLIT) for number in range(20_000))
    assert counts["test"] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert counts["validation"] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_another_salt_is_another_split() -> None:
    groups = [f"patient-{number}" for number in range(100)]
    other = SplitSettings(salt="other")
    assert [part_of(group, SPLIT) for group in groups] != [part_of(group, other) for group in groups]


def test_films_keep_their_part_when_others_come_and_go(tmp_path: Path) -> None:
    def split() -> dict[str, Part]:
        return {sample.path.name: part_of(sample.group, SPLIT) for sample in scan(tmp_path)}

    for number in range(12):
        write_film(tmp_path / "A" / f"{number}.png", film(0, number))
    before = split()
    (tmp_path / "A" / "3.png").unlink()
    for number in range(12, 20):
        write_film(tmp_path / "A" / f"0{number}.png", film(0, number))
    after = split()
    assert "3.png" not in after
    assert all(after[name] == part for name, part in before.items() if name != "3.png")


def test_no_group_lies_on_two_sides(parts: dict[Part, Films]) -> None:
    train, validation, test = (set(parts[part].groups) for part in ("train", "validation", "test"))
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert sum(len(films) for films in parts.values()) == 96


def test_the_shared_films_are_split_as_they_were_before_the_first_training() -> None:
    with (shared("cxr4") / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    counts: dict[Part, Counter[str]] = {"train": Counter(), "validation": Counter(), "test": Counter()}
    for row in rows:
        counts[part_of(row["group"], SPLIT)][row["class"]] += 1
    assert counts == {
        "train": {"COVID": 682, "Lung_Opacity": 660, "Normal": 694, "Viral Pneumonia": 608},
        "validation": {"COVID": 92, "Lung_Opacity": 92, "Normal": 81, "Viral Pneumonia": 90},
        "test": {"COVID": 178, "Lung_Opacity": 217, "Normal": 197, "Viral Pneumonia": 167},
    }


# --- the split by films of each class --------------------------------------------------------------


def samples_of(groups: dict[str, str]) -> list[Sample]:
    """From {group: "AAB"}: a film of each letter's class."""
    return [
        Sample(Path(f"{label}/{group}-{number}.png"), label, group)
        for group, labels in groups.items()
        for number, label in enumerate(labels)
    ]


def counts_in(samples: list[Sample], split: SplitSettings) -> dict[Part, Counter[str]]:
    parts = parts_of_groups(samples, split)
    counts: dict[Part, Counter[str]] = {"train": Counter(), "validation": Counter(), "test": Counter()}
    for sample in samples:
        counts[parts[sample.group]][sample.label] += 1
    return counts


SINGLES = samples_of({f"{label}{number}": label for label in "ABC" for number in range(40)})
COUNTED = SplitSettings(test_per_class=7, validation_per_class=5)


def test_a_counted_split_has_the_films_asked_for() -> None:
    counts = counts_in(SINGLES, COUNTED)
    assert counts["test"] == dict.fromkeys("ABC", 7)
    assert counts["validation"] == dict.fromkeys("ABC", 5)
    assert counts["train"] == dict.fromkeys("ABC", 28)


def test_a_counted_split_takes_the_groups_of_a_class_in_the_order_of_their_hash() -> None:
    def key(group: str) -> bytes:
        return hashlib.sha256(f"cxr-split-1:{group}".encode()).digest()

    order = sorted((f"B{number}" for number in range(40)), key=key)
    parts = parts_of_groups(SINGLES, COUNTED)
    assert [parts[group] for group in order] == ["test"] * 7 + ["validation"] * 5 + ["train"] * 28


def test_a_counted_split_does_not_depend_on_the_order_of_the_films() -> None:
    assert parts_of_groups(SINGLES[::-1], COUNTED) == parts_of_groups(SINGLES, COUNTED)


def test_a_counted_split_keeps_groups_whole_whatever_their_films() -> None:
    mixed = samples_of({f"p{number}": ("A", "AB", "BBB", "CAB", "CC")[number % 5] for number in range(60)})
    counts = counts_in(mixed, COUNTED)
    for part, wanted in (("test", 7), ("validation", 5)):
        # each class's walk may overshoot by a group (3 films), and another class's groups bring films along
        assert all(counts[part][label] >= wanted for label in "ABC")
        assert sum(counts[part].values()) < sum(Counter(sample.label for sample in mixed).values()) / 2
    assert sum(sum(count.values()) for count in counts.values()) == len(mixed)


def test_a_share_of_validation_beside_a_counted_test_part_is_a_share_of_groups() -> None:
    many = samples_of({f"{label}{number}": label for label in "AB" for number in range(1000)})
    counts = counts_in(many, SplitSettings(test_per_class=30, validation=0.1))
    assert counts["test"] == dict.fromkeys("AB", 30)
    assert sum(counts["validation"].values()) == pytest.approx(200, abs=45)


def test_a_counted_test_part_leaves_the_validation_share_where_it_is() -> None:
    thirty, ten = (parts_of_groups(SINGLES, SplitSettings(test_per_class=count)) for count in (12, 4))
    validation = {group for group, part in ten.items() if part == "validation"}
    assert validation and all(thirty[group] == "validation" for group in validation)


def test_shares_stay_the_rule_where_nothing_is_counted() -> None:
    assert parts_of_groups(SINGLES, SPLIT) == {sample.group: part_of(sample.group, SPLIT) for sample in SINGLES}


def test_a_limit_keeps_films_of_each_class_in_the_part_they_had() -> None:
    whole, few = divide(SINGLES, COUNTED), divide(SINGLES, replace(COUNTED, most_per_class=6))
    for part, members in few.items():
        assert Counter(sample.label for sample in members) == dict.fromkeys("ABC", 5 if part == "validation" else 6)
        assert [sample for sample in whole[part] if sample in members] == members
