"""Films on disk: find them, split them by group, read them with the functions that serve."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from cxr import reading
from cxr.errors import CxrError
from cxr.film import Limits
from training.recipe import FilmSettings, SplitSettings

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"}
MANIFEST = "manifest.csv"
Part = Literal["train", "validation", "test"]


class UnreadableFilm(ValueError):
    """A film of the data set cannot be read; the message names the file."""


@dataclass(frozen=True)
class Sample:
    """One film of the data set."""

    path: Path
    label: str
    group: str
    """Patient or near-duplicate cluster: all films of a group stay on one side of every split."""


# --- the split: a fixed rule, made before the first training ---------------------------------------


def part_of(group: str, split: SplitSettings) -> Part:
    """Where a group belongs, from nothing but its name: stable when films are added or removed."""
    digest = hashlib.sha256(f"{split.salt}:{group}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < split.test:
        return "test"
    return "validation" if position < split.test + split.validation else "train"


# --- finding films ---------------------------------------------------------------------------------


def scan(root: Path) -> list[Sample]:
    """All films under `<class>/*` or, in Kaggle's layout, `<class>/images/*` (masks are left out).

    Groups come from `manifest.csv` (columns file, group) at the root where there is one; a film it does
    not name is its own group, told by its content, so that exact copies stay together.

    Raises:
        FileNotFoundError: no class folder with films.
        ValueError: a manifest without the two columns.
    """
    groups = _manifest(root / MANIFEST)
    samples = [
        Sample(path, label, groups.get(path.relative_to(root).as_posix()) or _content(path))
        for label, path in _films(root)
    ]
    if not samples:
        raise FileNotFoundError(f"no films under {root}: expected <class>/*.png or <class>/images/*.png")
    return samples


def _films(root: Path) -> Iterator[tuple[str, Path]]:
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path)):
        source = folder / "images" if (folder / "images").is_dir() else folder
        for path in sorted(source.iterdir()):
            if path.suffix.lower() in SUFFIXES and not _hidden(path):
                yield folder.name, path


def _hidden(path: Path) -> bool:
    """Previews and copies that file managers and notebooks leave: `._film.png`, `.ipynb_checkpoints/`."""
    return path.name.startswith(".")


def _manifest(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = {"file", "group"} - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}")
        return {row["file"]: row["group"] for row in rows if row["group"]}


def _content(path: Path) -> str:
    return "sha256_" + hashlib.sha256(path.read_bytes()).hexdigest()[:16]


# --- reading films ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Films:
    """One part of a data set in memory, stretched and shrunk, not yet normalised."""

    pictures: NDArray[np.uint8]
    """(N, S, S)."""
    classes: NDArray[np.int64]
    """(N,) index into `labels`."""
    groups: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def class_counts(self) -> dict[str, int]:
        return {label: int((self.classes == index).sum()) for index, label in enumerate(self.labels)}

    def select(self, indices: NDArray[np.int64]) -> Films:
        """The films at these positions."""
        return Films(
            self.pictures[indices],
            self.classes[indices],
            tuple(self.groups[i] for i in indices),
            tuple(self.paths[i] for i in indices),
            self.labels,
        )


def picture(path: Path, film: FilmSettings) -> NDArray[np.uint8]:
    """Serving's own decode, stretch and shrink: (S, S) uint8.

    Raises:
        UnreadableFilm: serving would answer this film with an error.
    """
    try:
        decoded = reading.decode(path.read_bytes(), Limits())
    except CxrError as error:
        raise UnreadableFilm(f"{path}: {error.message}") from error
    return reading.shrink(reading.stretch(decoded, film.stretch), film.size)


def load(samples: list[Sample], labels: tuple[str, ...], film: FilmSettings, title: str) -> Films:
    """Read `samples` into memory; a film that cannot be read fails the run by its name."""
    with ThreadPoolExecutor(2) as pool:
        pictures = list(
            tqdm(
                pool.map(lambda sample: picture(sample.path, film), samples),
                total=len(samples),
                desc=title,
                unit="film",
                leave=False,
            )
        )
    return Films(
        np.stack(pictures) if pictures else np.empty((0, film.size, film.size), np.uint8),
        np.array([labels.index(sample.label) for sample in samples], np.int64),
        tuple(sample.group for sample in samples),
        tuple(sample.path for sample in samples),
        labels,
    )


def load_parts(root: Path, split: SplitSettings, film: FilmSettings) -> dict[Part, Films]:
    """Train, validation and test part of the data set under `root`.

    Raises:
        ValueError: one class only, or a class is missing from one of the parts.
    """
    samples = scan(root)
    labels = tuple(sorted({sample.label for sample in samples}))
    if len(labels) < 2:
        raise ValueError(f"{root} holds films of {labels[0]} alone: a classifier needs two classes or more")
    chosen: dict[Part, list[Sample]] = {"train": [], "validation": [], "test": []}
    for sample in samples:
        chosen[part_of(sample.group, split)].append(sample)
    for part, members in chosen.items():
        missing = set(labels) - {sample.label for sample in members}
        if missing:
            raise ValueError(f"the {part} part holds no film of {', '.join(sorted(missing))}: too few groups")
    return {part: load(members, labels, film, part) for part, members in chosen.items()}


# --- for the training loop -------------------------------------------------------------------------


class TrainingSet(Dataset[tuple[Tensor, int]]):
    """Augmented pictures, (S, S) float32 0..255, and their class index."""

    def __init__(self, films: Films, augment: Callable[[Tensor], Tensor]) -> None:
        self.films = films
        self.augment = augment

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.augment(torch.from_numpy(self.films.pictures[index])), int(self.films.classes[index])


def class_weights(films: Films) -> Tensor:
    """(classes,) inverse frequencies with mean 1."""
    counts = Counter(films.classes.tolist())
    weights = torch.tensor([len(films) / counts[index] for index in range(len(films.labels))])
    return weights / weights.mean()
