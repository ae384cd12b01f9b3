from __future__ import annotations

import numpy as np
import pytest

from cxr.errors import FilmTooLarge
from cxr.film import Film, Limits
from tests.handler.films import chest

TONE = np.linspace(0, 1, 4096)


def test_percentiles_are_values_of_the_film_with_at_most_that_share_outside() -> None:
    film = Film(chest(), TONE)
    low, high = film.percentiles(0.5, 99.5)
    shown = TONE[chest()]
    assert low in shown and high in shown
    assert (shown < low).mean() <= 0.005 < (shown <= low).mean()
    assert (shown > high).mean() <= 0.005 < (shown >= high).mean()


def test_a_film_and_its_inverse_give_mirrored_percentiles() -> None:
    low, high = Film(chest(), TONE).percentiles(1, 99)
    assert Film(chest(), 1 - TONE).percentiles(1, 99) == (1 - high, 1 - low)


def test_histogram_counts_every_pixel_but_padding() -> None:
    pixels = np.array([[0, 1, 1], [2, 2, 2]], np.uint16)
    np.testing.assert_array_equal(Film(pixels, np.array([0, 0.5, 1])).histogram, [1, 2, 3])
    np.testing.assert_array_equal(Film(pixels, np.array([0, 0.5, np.nan])).histogram, [1, 2, 0])


def test_histogram_counts_films_larger_than_a_block() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 999), dtype=np.uint8)
    np.testing.assert_array_equal(
        Film(pixels, np.linspace(0, 1, 256)).histogram, np.bincount(pixels.ravel(), minlength=256)
    )


def test_a_constant_film_has_equal_percentiles() -> None:
    assert Film(np.full((9, 9), 5, np.uint8), np.linspace(0, 1, 256)).percentiles(0.5, 99.5) == (5 / 255, 5 / 255)


def test_a_film_without_valid_pixels_has_the_percentiles_zero() -> None:
    assert Film(np.zeros((4, 4), np.uint8), np.array([np.nan, 1])).percentiles(0.5, 99.5) == (0, 0)


def test_levels_are_counted_between_two_values() -> None:
    film = Film(np.array([[0, 1, 3, 3]], np.uint8), np.array([0, 0.2, 0.5, 1]))
    assert [film.levels_between(0, 1), film.levels_between(0.1, 1), film.levels_between(0.3, 0.9)] == [3, 2, 0]


def test_limits_name_what_is_too_large() -> None:
    limits = Limits(max_bytes=10, max_pixels=100)
    limits.check_bytes(10)
    limits.check_pixels(10, 10)
    with pytest.raises(FilmTooLarge, match="11 bytes; the limit is 10"):
        limits.check_bytes(11)
    with pytest.raises(FilmTooLarge, match="101 x 1 pixels"):
        limits.check_pixels(1, 101)


def test_the_default_limit_fits_a_4000_by_4000_film_of_16_bits() -> None:
    Limits().check_bytes(4000 * 4000 * 2 + 100_000)
    Limits().check_pixels(4000, 4000)


@pytest.mark.parametrize("films", [1, 4, 16])
def test_films_sent_together_share_the_pixels_of_one(films: int) -> None:
    shared = Limits(max_bytes=7, max_pixels=1600).shared(films)
    assert shared == Limits(7, 1600 // films)
