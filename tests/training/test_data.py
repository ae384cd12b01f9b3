from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import LABELS, film, random_films, shared, write_film, write_manifest
from training.augment import Augment
from training.data import (
    Films,
    Part,
    Sample,
    TrainingSet,
    UnreadableFilm,
    class_weights,
    divide,
    load,
    load_parts,
    part_of,
    parts_of,
    picture,
    scan,
)
from training.recipe import AugmentSettings, FilmSettings, SplitSettings

SPLIT = SplitSettings()
SMALL = FilmSettings(size=64)


def names(root: Path) -> list[tuple[str, str]]:
    return [(sample.label, sample.path.relative_to(root).as_posix()) for sample in scan(root)]


# --- finding films ---------------------------------------------------------------------------------


def test_plain_class_folders_are_read(tmp_path: Path) -> None:
    for label in ("Normal", "Viral Pneumonia"):
        write_film(tmp_path / label / "1.png", film(0, 1))
    assert names(tmp_path) == [("Normal", "Normal/1.png"), ("Viral Pneumonia", "Viral Pneumonia/1.png")]


def test_kaggles_folders_are_read_without_their_masks(tmp_path: Path) -> None:
    for folder in ("COVID/images", "COVID/masks", "Normal/images", "Normal/masks"):
        write_film(tmp_path / folder / "1.png", film(0, 1))
    (tmp_path / "COVID.metadata.xlsx").touch()
    assert names(tmp_path) == [("COVID", "COVID/images/1.png"), ("Normal", "Normal/images/1.png")]


def test_what_is_no_film_is_left_out(tmp_path: Path) -> None:
    write_film(tmp_path / "A" / "film.PNG", film(0, 1))
    write_film(tmp_path / "A" / "._film.png", film(0, 1))
    write_film(tmp_path / ".ipynb_checkpoints" / "film.png", film(0, 1))
    (tmp_path / "A" / "notes.txt").touch()
    assert names(tmp_path) == [("A", "A/film.PNG")]


@pytest.mark.parametrize("folder", ["", "A", "A/masks"])
def test_a_folder_without_films_says_what_was_expected(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(FileNotFoundError, match=r"no films under .*<class>/\*\.png or <class>/images/\*\.png"):
        scan(tmp_path)


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    write_film(tmp_path / "A" / "1.png", film(0, 1))
    (tmp_path / "COVID" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match="no film in .*/COVID: fill the folder, remove it, or name the others"):
        scan(tmp_path)
    assert [sample.label for sample in scan(tmp_path, ["A"])] == ["A"]


def test_only_the_classes_asked_for_are_read(film_folder: Path) -> None:
    samples = scan(film_folder, ("Right", "Hilum"))
    assert {sample.label for sample in samples} == {"Hilum", "Right"}
    parts = load_parts(film_folder, SPLIT, SMALL, classes=("Right", "Hilum"))
    assert all(films.labels == ("Hilum", "Right") for films in parts.values())
    everything = load_parts(film_folder, SPLIT, SMALL)
    for part, films in parts.items():
        assert set(films.paths) == {path for path in everything[part].paths if path.parent.name != "Left"}


def test_a_class_that_is_not_there_is_named_with_those_there_are(film_folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no class 'Middle' under .*; there are: Hilum, Left, Right"):
        scan(film_folder, ("Left", "Middle"))


# --- groups ----------------------------------------------------------------------------------------


def test_groups_come_from_the_manifest_in_both_layouts(tmp_path: Path) -> None:
    write_film(tmp_path / "A" / "1.png", film(0, 1))
    write_film(tmp_path / "B" / "images" / "1.png", film(1, 1))
    write_manifest(tmp_path, {"A/1.png": "patient-1", "B/images/1.png": "patient-2"})
    assert [sample.group for sample in scan(tmp_path)] == ["patient-1", "patient-2"]


def test_films_no_manifest_names_are_grouped_by_content(tmp_path: Path) -> None:
    for name, number in {"a": 1, "copy of a": 1, "b": 2, "empty group": 3}.items():
        write_film(tmp_path / "A" / f"{name}.png", film(0, number))
    write_manifest(tmp_path, {"A/empty group.png": ""})
    a, b, copy, empty = (sample.group for sample in scan(tmp_path))
    assert a == copy
    assert len({a, b, empty}) == 3
    assert all(group.startswith("sha256_") for group in (a, b, empty))


@pytest.mark.parametrize(("header", "missing"), [("file,class", "group"), ("name,group", "file"), ("", "file, group")])
def test_a_manifest_without_its_columns_is_refused(tmp_path: Path, header: str, missing: str) -> None:
    write_film(tmp_path / "A" / "1.png", film(0, 1))
    (tmp_path / "manifest.csv").write_text(f"{header}\nA/1.png,x\n" if header else "")
    with pytest.raises(ValueError, match=f"manifest.csv has no column {missing}"):
        scan(tmp_path)


def test_a_manifest_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    write_film(tmp_path / "A" / "1.png", film(0, 1))
    (tmp_path / "manifest.csv").write_text("\ufefffile,group\r\nA/1.png,p1\r\n", encoding="utf-8")
    assert [sample.group for sample in scan(tmp_path)] == ["p1"]


# --- the split -------------------------------------------------------------------------------------


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
    parts = parts_of(samples, split)
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
    parts = parts_of(SINGLES, COUNTED)
    assert [parts[group] for group in order] == ["test"] * 7 + ["validation"] * 5 + ["train"] * 28


def test_a_counted_split_does_not_depend_on_the_order_of_the_films() -> None:
    assert parts_of(SINGLES[::-1], COUNTED) == parts_of(SINGLES, COUNTED)


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
    thirty, ten = (parts_of(SINGLES, SplitSettings(test_per_class=count)) for count in (12, 4))
    validation = {group for group, part in ten.items() if part == "validation"}
    assert validation and all(thirty[group] == "validation" for group in validation)


def test_shares_stay_the_rule_where_nothing_is_counted() -> None:
    assert parts_of(SINGLES, SPLIT) == {sample.group: part_of(sample.group, SPLIT) for sample in SINGLES}


def test_a_limit_keeps_films_of_each_class_in_the_part_they_had() -> None:
    whole, few = divide(SINGLES, COUNTED), divide(SINGLES, replace(COUNTED, most_per_class=6))
    for part, members in few.items():
        assert Counter(sample.label for sample in members) == dict.fromkeys("ABC", 5 if part == "validation" else 6)
        assert [sample for sample in whole[part] if sample in members] == members


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_class_missing_from_a_part_is_named(tmp_path: Path, part: Part) -> None:
    by_part: dict[Part, list[str]] = {"train": [], "validation": [], "test": []}
    for number in range(200):
        by_part[part_of(f"g{number}", SPLIT)].append(f"g{number}")
    groups = {}
    for label in ("Full", "Partial"):
        for other, members in by_part.items():
            if label == "Full" or other != part:
                groups[f"{label}/{other}.png"] = members[0]
                write_film(tmp_path / label / f"{other}.png", film(0, 1))
    write_manifest(tmp_path, groups)
    with pytest.raises(ValueError, match=f"the {part} part holds no film of Partial: too few groups"):
        load_parts(tmp_path, SPLIT, SMALL)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    write_film(tmp_path / "A" / "1.png", film(0, 1))
    with pytest.raises(ValueError, match="films of A alone"):
        load_parts(tmp_path, SPLIT, SMALL)


# --- reading ---------------------------------------------------------------------------------------


def test_films_come_at_the_size_asked_for_in_the_order_of_the_samples(film_folder: Path) -> None:
    samples = scan(film_folder)[::9]
    films = load(samples, LABELS, FilmSettings(size=48), "some")
    assert films.pictures.shape == (len(samples), 48, 48)
    assert films.pictures.dtype == np.uint8
    assert [films.labels[index] for index in films.classes] == [sample.label for sample in samples]
    assert films.groups == tuple(sample.group for sample in samples)
    assert films.paths == tuple(sample.path for sample in samples)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "empty"), (b"<html>", r"\w+"), (b"\x89PNG\r\n\x1a\n", r"\w+"), (None, r"\w+")],
    ids=["empty", "html", "header", "cut"],
)
def test_an_unreadable_film_is_named(film_folder: Path, tmp_path: Path, content: bytes | None, why: str) -> None:
    whole = write_film(tmp_path / "A" / "good.png", film(0, 1)).read_bytes()
    broken = tmp_path / "A" / "broken film.png"
    broken.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(UnreadableFilm, match=rf"broken film\.png: .*{why}"):
        load(scan(tmp_path), ("A",), SMALL, "broken")


def broken_among(film_folder: Path, tmp_path: Path, *names: str) -> Path:
    """The folder of films with some of them broken."""
    root = Path(shutil.copytree(film_folder, tmp_path / "broken"))
    for name in names:
        (root / name).write_bytes(b"<html>")
    return root


def test_broken_films_can_be_left_out_and_are_named(film_folder: Path, tmp_path: Path) -> None:
    root = broken_among(film_folder, tmp_path, "Left/05.png", "Right/07.png")
    with pytest.raises(UnreadableFilm):
        load_parts(root, SPLIT, SMALL)
    parts = load_parts(root, SPLIT, SMALL, skip_broken=True)
    told = sorted(reason for films in parts.values() for reason in films.broken)
    assert [reason.split(": ")[0] for reason in told] == ["Left/05.png", "Right/07.png"]
    assert not any(str(tmp_path) in reason for reason in told)
    whole = load_parts(film_folder, SPLIT, SMALL)
    for part, films in parts.items():
        names = {films.name(index) for index in range(len(films))}
        assert names == {whole[part].name(index) for index in range(len(whole[part]))} - {"Left/05.png", "Right/07.png"}


def test_a_class_whose_films_are_all_broken_is_named(film_folder: Path, tmp_path: Path) -> None:
    root = broken_among(film_folder, tmp_path, *(f"Left/{number:02}.png" for number in range(32)))
    with pytest.raises(ValueError, match="the train part holds no film of Left"):
        load_parts(root, SPLIT, SMALL, skip_broken=True)


def test_a_film_is_cropped_around_its_centre_before_it_is_shrunk(film_folder: Path) -> None:
    path = film_folder / "Left" / "00.png"
    whole = picture(path, FilmSettings(size=64))
    assert np.array_equal(picture(path, FilmSettings(size=32, centre=0.5)), whole[16:48, 16:48])


def test_a_selection_keeps_films_and_their_facts_together(parts: dict[Part, Films]) -> None:
    films = parts["train"]
    chosen = films.select(np.array([5, 0]))
    assert np.array_equal(chosen.pictures[0], films.pictures[5])
    assert chosen.paths == (films.paths[5], films.paths[0])
    assert chosen.groups == (films.groups[5], films.groups[0])
    assert chosen.classes.tolist() == films.classes[[5, 0]].tolist()


# --- for the training loop -------------------------------------------------------------------------


def test_class_counts_name_every_class() -> None:
    assert random_films((3, 1, 2)).class_counts() == {"Hilum": 3, "Left": 1, "Right": 2}


def test_class_weights_make_every_class_weigh_the_same() -> None:
    counts = (30, 10, 5)
    weights = class_weights(random_films(counts))
    assert weights.mean().item() == pytest.approx(1)
    weighed = weights * torch.tensor(counts)
    assert torch.allclose(weighed, weighed[0])


def test_the_training_set_augments_and_keeps_the_class() -> None:
    films = random_films((2, 2))
    pictures = TrainingSet(films, lambda picture: picture.to(torch.float32) / 2, [3, 0, 1])
    shown, label = pictures[0]
    assert torch.equal(shown, torch.from_numpy(films.pictures[3]).float() / 2)
    assert label == 1
    assert len(pictures) == 3


def test_every_showing_of_a_film_is_changed_anew() -> None:
    augment = Augment(AugmentSettings(noise=0.1))
    shown = TrainingSet(random_films((2, 2)), augment, [1, 1], seed=3)
    assert not torch.equal(shown[0][0], shown[1][0])
    assert torch.equal(shown[1][0], shown[1][0])
    other = TrainingSet(random_films((2, 2)), augment, [1, 1], seed=4)
    assert not torch.equal(shown[0][0], other[0][0])
