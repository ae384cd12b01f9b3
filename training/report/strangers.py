"""Pictures that are no chest film, for the gate: what other packages carry, patterns, and folders of one's own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.report.readings import Source

SIDE = 256
PHOTOGRAPHS = (("skimage", "data"), ("sklearn", "datasets/images"))
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".dcm"}
PHOTOGRAPH_SUFFIXES = {".png", ".jpg"}
CHEST_FILMS = "RG1_"
"""Of pydicom-data: the one chest film, in several encodings."""
LIST = "list.csv"


@dataclass(frozen=True)
class Stranger:
    """One picture that should be rejected."""

    name: str
    kind: str
    """`photograph`, `grey photograph`, `other film` or `pattern`."""
    source: Source


def strangers(folders: tuple[Path, ...] = ()) -> list[Stranger]:
    """All that this machine has; a package that is not installed contributes nothing."""
    own = [stranger for folder in folders for stranger in of_folder(folder)]
    return [*photographs(), *other_films(), *own, *patterns()]


def of_folder(folder: Path) -> Iterator[Stranger]:
    """Every picture of a folder, or, where `list.csv` tells (columns file, modality, body_part), those that
    are no radiograph of a chest.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    chest = set()
    if (folder / LIST).is_file():
        with (folder / LIST).open(newline="", encoding="utf-8-sig") as file:
            chest = {row["file"] for row in csv.DictReader(file) if _is_chest(row)}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.name not in chest:
            yield Stranger(path.name, "other film", path.read_bytes)


def _is_chest(row: dict[str, str]) -> bool:
    return row.get("modality") in ("CR", "DX") and row.get("body_part", "") in ("CHEST", "")


def _package_folder(package: str, folder: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent / folder if spec and spec.origin else None


def photographs() -> Iterator[Stranger]:
    """The pictures that scikit-image and scikit-learn carry; those in colour in grey as well."""
    for package, name in PHOTOGRAPHS:
        folder = _package_folder(package, name)
        for path in sorted(folder.iterdir()) if folder else ():
            if path.suffix.lower() not in PHOTOGRAPH_SUFFIXES:
                continue
            with Image.open(path) as image:
                grey = image.mode in ("1", "L", "I", "I;16")
            yield Stranger(path.name, "grey photograph" if grey else "photograph", path.read_bytes)
            if not grey:
                yield Stranger(f"{path.name} in grey", "grey photograph", partial(_in_grey, path))


def other_films() -> Iterator[Stranger]:
    """One of each family of pydicom-data's files: the others are the same picture in another encoding."""
    folder = _package_folder("data_store", "data")
    families = set()
    for path in sorted(folder.rglob("*.dcm")) if folder else ():
        family = path.stem.split("_")[0]
        if not path.name.startswith(CHEST_FILMS) and family not in families:
            families.add(family)
            yield Stranger(path.name, "other film", path.read_bytes)


def patterns() -> Iterator[Stranger]:
    """Drawn here, always the same."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    noise = np.random.default_rng(0)
    drawn = {
        "white noise": noise.uniform(0, 1, (SIDE, SIDE)),
        "coarse noise": np.kron(noise.uniform(0, 1, (16, 16)), np.ones((SIDE // 16, SIDE // 16))),
        "ramp": x,
        "rings": np.sin(40 * np.hypot(x - 0.5, y - 0.5)),
        "stripes": np.sin(30 * (x + y)),
        "chessboard": ((x * 8).astype(int) + (y * 8).astype(int)) % 2,
        "disc": np.hypot(x - 0.5, y - 0.5) < 0.3,
        "blank": np.full((SIDE, SIDE), 0.5),
    }
    for name, values in drawn.items():
        yield Stranger(name, "pattern", partial(_png, _to_grey(values.astype(float))))


def _to_grey(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    low, high = min(0.0, values.min()), max(1.0, values.max())
    return np.asarray(np.rint((values - low) / (high - low) * 255), np.uint8)


def _in_grey(path: Path) -> bytes:
    with Image.open(path) as image:
        return _png(np.asarray(image.convert("RGB").convert("L")))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
