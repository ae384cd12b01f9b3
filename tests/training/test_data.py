from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import LABELS, film, random_films, write_film, write_manifest
from training.augment import Augment
from training.data import Films, TrainingSet, UnreadableFilm, class_weights, load, load_parts, picture, scan
from training.recipe import AugmentSettings, FilmSettings, SplitSettings
from training.split import Part, part_of

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


# --- parts -----------------------------------------------------------------------------------------


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
