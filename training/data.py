"""Films on disk: find them, read them with the functions that serve, part by part."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from cxr import reading
from cxr.errors import CxrError
from cxr.film import Limits
from cxr.recipe import Recipe
from training.recipe import FilmSettings, SplitSettings
from training.split import Part, Sample, divide

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"}
MANIFEST = "manifest.csv"


class UnreadableFilm(ValueError):
    """A film of the data set cannot be read; the message names the file."""


# --- finding films ---------------------------------------------------------------------------------


def scan(root: Path, classes: Sequence[str] = ()) -> list[Sample]:
    """All films under `<class>/*` or, in Kaggle's layout, `<class>/images/*` (masks are left out).

    With `classes`, only the films of these.

    Groups come from `manifest.csv` (columns file, group) at the root where there is one; a film it does
    not name is its own group, told by its content, so that exact copies stay together.

    Raises:
        FileNotFoundError: no class folder with films, or none of a class asked for.
        ValueError: a class folder without films, or a manifest without the two columns.
    """
    groups = _manifest(root / MANIFEST)
    films = {folder.name: list(_films(folder)) for folder in _class_folders(root, classes)}
    if not any(films.values()):
        raise FileNotFoundError(f"no films under {root}: expected <class>/*.png or <class>/images/*.png")
    if empty := [label for label, paths in films.items() if not paths]:
        raise ValueError(f"no film in {root}/{empty[0]}: fill the folder, remove it, or name the others in `classes`")
    return [
        Sample(path, label, groups.get(path.relative_to(root).as_posix()) or _content(path))
        for label, paths in films.items()
        for path in paths
    ]


def _class_folders(root: Path, classes: Sequence[str]) -> list[Path]:
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not _hidden(path)}
    if missing := [label for label in classes if label not in folders]:
        raise FileNotFoundError(f"no class {missing[0]!r} under {root}; there are: {', '.join(folders)}")
    return [path for name, path in folders.items() if not classes or name in classes]


def _films(folder: Path) -> Iterator[Path]:
    source = folder / "images" if (folder / "images").is_dir() else folder
    for path in sorted(source.iterdir()):
        if path.suffix.lower() in SUFFIXES and not _hidden(path):
            yield path


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
    """One part of a data set in memory, stretched, cropped and shrunk, not yet normalised."""

    pictures: NDArray[np.uint8]
    """(N, S, S)."""
    classes: NDArray[np.int64]
    """(N,) index into `labels`."""
    groups: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    broken: tuple[str, ...] = ()
    """Films left out because they cannot be read, each with the reason."""

    def __len__(self) -> int:
        return len(self.classes)

    def name(self, index: int) -> str:
        """`<class>/<file>`, which holds no path of this machine."""
        return f"{self.labels[self.classes[index]]}/{self.paths[index].name}"

    def fingerprint(self) -> str:
        """sha256 of pictures, classes and labels: the same for the same films in the same order."""
        digest = hashlib.sha256("\n".join(self.labels).encode())
        digest.update(np.ascontiguousarray(self.pictures).data)
        digest.update(self.classes.tobytes())
        return digest.hexdigest()

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
            self.broken,
        )


def picture(path: Path, film: FilmSettings) -> NDArray[np.uint8]:
    """Serving's own decode, stretch, crop and shrink: (S, S) uint8.

    Raises:
        UnreadableFilm: serving would answer this film with an error.
    """
    try:
        decoded = reading.decode(path.read_bytes(), Limits())
    except CxrError as error:
        raise UnreadableFilm(f"{path}: {error.message}") from error
    return reading.shrink(reading.crop(reading.stretch(decoded, film.stretch), film.centre), film.size)


def load(
    samples: Sequence[Sample], labels: tuple[str, ...], film: FilmSettings, title: str, *, skip_broken: bool = False
) -> Films:
    """Read `samples` into memory.

    Raises:
        UnreadableFilm: a film cannot be read and is not to be skipped.
    """

    def read(sample: Sample) -> NDArray[np.uint8] | str:
        try:
            return picture(sample.path, film)
        except UnreadableFilm as error:
            if not skip_broken:
                raise
            return str(error).replace(str(sample.path), f"{sample.label}/{sample.path.name}")

    with ThreadPoolExecutor(2) as pool:
        pictures = list(tqdm(pool.map(read, samples), total=len(samples), desc=title, unit="film", leave=False))
    whole = [(sample, pixels) for sample, pixels in zip(samples, pictures, strict=True) if not isinstance(pixels, str)]
    return Films(
        np.stack([pixels for _, pixels in whole]) if whole else np.empty((0, film.size, film.size), np.uint8),
        np.array([labels.index(sample.label) for sample, _ in whole], np.int64),
        tuple(sample.group for sample, _ in whole),
        tuple(sample.path for sample, _ in whole),
        labels,
        tuple(pixels for pixels in pictures if isinstance(pixels, str)),
    )


def load_parts(
    root: Path, split: SplitSettings, film: FilmSettings, *, classes: Sequence[str] = (), skip_broken: bool = False
) -> dict[Part, Films]:
    """Train, validation and test part of the data set under `root`.

    Raises:
        ValueError: one class only, or a class is missing from one of the parts.
        UnreadableFilm: a film cannot be read and is not to be skipped.
    """
    samples = scan(root, classes)
    labels = tuple(sorted({sample.label for sample in samples}))
    if len(labels) < 2:
        raise ValueError(f"{root} holds films of {labels[0]} alone: a classifier needs two classes or more")
    divided = divide(samples, split)
    for part, members in divided.items():
        _check_classes(part, labels, {sample.label for sample in members})
    parts = {part: load(members, labels, film, part, skip_broken=skip_broken) for part, members in divided.items()}
    for part, films in parts.items():
        _check_classes(part, labels, {labels[index] for index in films.classes})
    return parts


def _check_classes(part: Part, labels: tuple[str, ...], present: set[str]) -> None:
    """Without this, a class could be tested that was never trained, or trained and never tested."""
    if missing := set(labels) - present:
        raise ValueError(f"the {part} part holds no film of {', '.join(sorted(missing))}: too few groups")


# --- for networks ----------------------------------------------------------------------------------


@torch.no_grad()
def in_batches(
    films: Films, recipe: Recipe, run: Callable[[Tensor], Tensor], device: torch.device | None = None, batch: int = 32
) -> Tensor:
    """What `run` makes of the films, normalised and without augmentation: all its rows, on the CPU.

    Args:
        run: (B, 3, S, S) float32 on `device` -> (B, ...).
    """
    pictures = torch.from_numpy(films.pictures)  # (N, S, S)
    return torch.cat([run(reading.normalise(some.to(device), recipe)).cpu() for some in torch.split(pictures, batch)])


class TrainingSet(Dataset[tuple[Tensor, int]]):
    """One epoch: films in the order in which they are shown, augmented; (S, S) float32 0..255, and class index.

    Each showing has a random stream of its own, told by `seed` and its place: it looks the same whichever
    worker process makes it, and whatever else draws random numbers.
    """

    def __init__(self, films: Films, augment: Callable[[Tensor], Tensor], order: Sequence[int], seed: int = 0) -> None:
        self.films, self.augment, self.order, self.seed = films, augment, order, seed

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        film = self.order[place]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed * 1_000_003 + place)  # the CPU's alone
            return self.augment(torch.from_numpy(self.films.pictures[film])), int(self.films.classes[film])


def class_weights(films: Films) -> Tensor:
    """(classes,) inverse frequencies with mean 1."""
    counts = Counter(films.classes.tolist())
    weights = torch.tensor([len(films) / counts[index] for index in range(len(films.labels))])
    return weights / weights.mean()
