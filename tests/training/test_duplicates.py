from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from tests.training.conftest import ROOT
from training.data import Films
from training.duplicates import SIMILAR, NearDuplicates, band, find, resolve, similarity
from training.split import Part

RG1 = Image.open(ROOT / "tests" / "films" / "RG1.png").convert("L")
SIDE = 224
BOXES = ((0.0, 0.0, 0.7, 0.7), (0.3, 0.0, 1.0, 0.7), (0.0, 0.3, 0.7, 1.0), (0.3, 0.3, 1.0, 1.0))


def framed(box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """A part of the real film RG1, the box in shares of its sides."""
    corners = [share * side for share, side in zip(box, (*RG1.size, *RG1.size), strict=True)]
    return np.asarray(RG1.resize((SIDE, SIDE), box=tuple(corners)))


def part(pictures: list[NDArray[np.uint8]], start: int = 0, labels: tuple[str, ...] = ("A", "B")) -> Films:
    names = tuple(f"{start + number}.png" for number in range(len(pictures)))
    classes = np.arange(len(pictures)) % len(labels)
    return Films(np.stack(pictures), classes, names, tuple(Path(name) for name in names), labels)


def noise(seed: int) -> NDArray[np.uint8]:
    """A smooth random picture, nobody's chest."""
    grain = np.random.default_rng(seed).integers(0, 256, (28, 28)).astype(np.uint8)
    return np.asarray(Image.fromarray(grain).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@pytest.fixture
def unlike() -> dict[Part, Films]:
    """Different pictures in every part: parts of RG1 that hardly overlap in their middle, and random ones."""
    return {
        "train": part([framed(BOXES[0]), framed(BOXES[1]), noise(1), noise(2)]),
        "validation": part([framed(BOXES[2]), noise(3)], 10),
        "test": part([framed(BOXES[3]), noise(4)], 20),
    }


def changed(picture: NDArray[np.uint8], how: str) -> NDArray[np.uint8]:
    """The same film as another collection might hold it."""
    image = Image.fromarray(picture)
    if how == "cropped":
        image = image.resize((SIDE, SIDE), box=(5, 8, SIDE - 8, SIDE - 5))
    elif how == "smaller":
        image = image.resize((96, 96)).resize((SIDE, SIDE))
    elif how == "framed":
        whole = Image.new("L", (SIDE + 20, SIDE + 20))
        whole.paste(image, (10, 10))
        image = whole.resize((SIDE, SIDE))
    elif how == "toned":
        image = ImageEnhance.Contrast(image.point([round(255 * (v / 255) ** 0.6) for v in range(256)])).enhance(1.4)
    elif how == "moved":
        image = image.transform(image.size, Image.Transform.AFFINE, (1, 0, 7, 0, 1, -9))
    return np.asarray(image)


def with_test_film(parts: dict[Part, Films], picture: NDArray[np.uint8]) -> dict[Part, Films]:
    pictures = parts["test"].pictures.copy()
    pictures[0] = picture
    return {**parts, "test": replace(parts["test"], pictures=pictures)}


@pytest.mark.parametrize("how", ["copied", "cropped", "smaller", "framed", "toned", "moved"])
def test_the_same_film_in_two_parts_is_found(unlike: dict[Part, Films], how: str) -> None:
    film = unlike["train"].pictures[1]
    (pair,) = find(with_test_film(unlike, changed(film, how)))
    assert (pair.first, pair.second) == (("train", 1), ("test", 0))
    assert SIMILAR <= pair.similarity <= 1.001


def test_different_films_are_no_pair(unlike: dict[Part, Films]) -> None:
    assert find(unlike) == []
    assert resolve(unlike, "refuse") == (unlike, {"rule": "refuse", "pairs": 0, "films": [], "dropped": 0})


def test_the_same_film_twice_in_one_part_is_no_pair(unlike: dict[Part, Films]) -> None:
    twice = unlike["train"].select(np.array([0, 1, 2, 3, 0]))
    assert find({**unlike, "train": twice}) == []


def test_a_copy_is_as_similar_as_can_be_and_a_blank_film_is_like_nothing() -> None:
    pictures = np.stack([framed(BOXES[0]), framed(BOXES[0]), np.zeros((SIDE, SIDE), np.uint8)])
    copy, blank = similarity(band(pictures), np.array([[0, 1], [0, 2]]))
    assert copy == pytest.approx(1, abs=1e-3)
    assert abs(blank) < 0.1


def test_a_refusal_names_the_pair_and_the_ways_out(unlike: dict[Part, Films]) -> None:
    with pytest.raises(NearDuplicates) as caught:
        resolve(with_test_film(unlike, unlike["train"].pictures[1]), "refuse")
    for words in ("1 pair of", "train B/1.png = test A/20.png (1.000)", "manifest.csv", "drop", "allow"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dropping_leaves_out_the_film_that_is_not_tested(unlike: dict[Part, Films]) -> None:
    parts = with_test_film(unlike, unlike["train"].pictures[1])
    kept, report = resolve(parts, "drop")
    assert [path.name for path in kept["train"].paths] == ["0.png", "2.png", "3.png"]
    assert len(kept["test"]) == len(parts["test"]) and len(kept["validation"]) == len(parts["validation"])
    assert (report["pairs"], report["dropped"]) == (1, 1)
    assert find(kept) == []


def test_allowing_counts_and_leaves_everything(unlike: dict[Part, Films]) -> None:
    parts = with_test_film(unlike, unlike["train"].pictures[1])
    kept, report = resolve(parts, "allow")
    assert kept == parts
    assert (report["pairs"], report["dropped"]) == (1, 0)
    assert report["films"] == ["train B/1.png = test A/20.png (1.000)"]


def test_dropping_the_last_film_of_a_class_is_refused(unlike: dict[Part, Films]) -> None:
    small = unlike["train"].select(np.array([0, 1]))
    with pytest.raises(ValueError, match="no film of a class left"):
        resolve(with_test_film({**unlike, "train": small}, small.pictures[1]), "drop")
