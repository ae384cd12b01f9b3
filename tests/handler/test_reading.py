from __future__ import annotations

import hashlib
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import uid

from cxr import reading
from cxr.errors import BadRequest, FilmTooLarge, NotAFilm, UnreadableImage, UnsupportedImage, WrongModel
from cxr.film import Limits
from cxr.network import LoadedNetwork
from cxr.reading import NOTICE, Reader, Row, Verdict, decide, inspect_features, stretch
from cxr.recipe import GateThresholds, Recipe
from cxr.request import Explain, Request
from tests.handler import films
from tests.handler.asking import answer, ask, run_tensors
from tests.handler.films import RECIPE, RG1_PNG, chest, film_of, picture, tensor_of

RG1 = RG1_PNG.read_bytes()
GREY = chest(bits=8)


# --- decode ----------------------------------------------------------------------------------------


def test_no_bytes_are_a_bad_request() -> None:
    with pytest.raises(BadRequest):
        reading.decode(b"", Limits())


def test_the_format_is_told_by_the_bytes() -> None:
    assert film_of(picture(GREY)).pixels.shape == film_of(films.dicom(GREY, BitsStored=8)).pixels.shape
    with pytest.raises(UnsupportedImage):
        film_of(b"PNG of a film, it says")


def test_films_sent_together_have_the_pixels_of_one_film(loaded: LoadedNetwork) -> None:
    reader = Reader(loaded, Limits(max_pixels=4 * GREY.size))
    film, large = picture(GREY), picture(np.tile(GREY, (2, 1)))
    rows = ask(reader, *(Request(data, shared_by=4) for data in (film, large, film)), Request(large))
    assert [type(row.error) for row in rows] == [type(None), FilmTooLarge, type(None), type(None)]


@pytest.mark.parametrize(("threads", "decoders"), [(1, None), (2, 2), (64, reading.MAX_DECODERS)])
def test_films_decoded_at_once_do_not_grow_with_the_machine(
    loaded: LoadedNetwork, threads: int, decoders: int | None
) -> None:
    pool = Reader(loaded, threads=threads)._pool
    assert (pool and pool._max_workers) == decoders


# --- stretch and tensor ----------------------------------------------------------------------------


def test_stretch_puts_the_percentiles_at_black_and_white() -> None:
    film = film_of(picture(chest(bits=16)))
    shown = stretch(film, (0.5, 99.5))
    low, high = film.percentiles(0.5, 99.5)
    expected = np.clip((film.tone[film.pixels] - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(shown, expected, atol=0.5 + 1e-9)
    assert (shown == 0).mean() <= 0.01 and (shown == 255).mean() <= 0.01


def test_stretch_uses_the_full_bit_depth() -> None:
    narrow = 30000 + (chest(bits=12) // 8).astype(np.uint16)  # two levels of eight bits, 512 of sixteen
    assert len(np.unique(stretch(film_of(picture(narrow)), (0.5, 99.5)))) > 200


def test_a_constant_film_becomes_black() -> None:
    assert not stretch(film_of(picture(np.full((9, 9), 99, np.uint8))), (0.5, 99.5)).any()


@pytest.mark.parametrize("gain", [0.25, 0.5])
def test_exposure_does_not_change_the_tensor(gain: float) -> None:
    darker = (chest(bits=12) * 16 * gain).astype(np.uint16)
    np.testing.assert_allclose(tensor_of(picture(darker)), tensor_of(picture(chest(bits=12) * 16)), atol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (64, 64), (63, 65), (3000, 40)])
def test_a_tensor_has_the_networks_shape_whatever_the_films(shape: tuple[int, int]) -> None:
    tensor = tensor_of(picture(chest(*shape, bits=8)))
    assert tensor.shape == (3, 64, 64) and tensor.dtype == torch.float32
    assert torch.isfinite(tensor).all()


def test_the_tensor_is_normalised_by_the_recipe() -> None:
    recipe = Recipe("t", "resnet18", "1", ("a",), size=2, mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2))
    tensor = reading.to_tensor(np.full((2, 2), 255, np.uint8), recipe)
    np.testing.assert_allclose(tensor[:, 0, 0], [0.9 / 0.5, 0.8, 0.35], rtol=1e-6)


def test_without_a_crop_the_picture_stays_itself() -> None:
    shown = stretch(film_of(picture(chest(bits=12))), (0.5, 99.5))
    assert reading.crop(shown, 1.0).shape == shown.shape
    assert np.array_equal(reading.crop(shown, 1.0), shown)


@pytest.mark.parametrize(
    ("shape", "centre", "kept", "corner"),
    [
        ((255, 255), 224 / 255, (224, 224), (15, 15)),
        ((100, 60), 0.5, (50, 30), (25, 15)),
        ((1, 9), 0.1, (1, 1), (0, 4)),
    ],
)
def test_a_crop_keeps_the_middle(
    shape: tuple[int, int], centre: float, kept: tuple[int, int], corner: tuple[int, int]
) -> None:
    numbered = (np.arange(shape[0] * shape[1]) % 251).astype(np.uint8).reshape(shape)
    cropped = reading.crop(numbered, centre)
    top, left = corner
    assert cropped.shape == kept
    assert np.array_equal(cropped, numbered[top : top + kept[0], left : left + kept[1]])


def test_serving_sees_and_shows_the_crop(loaded: LoadedNetwork) -> None:
    """The tensor is that of the film cut by hand, and the overlay is drawn on what the network saw."""
    closer = replace(loaded, recipe=replace(loaded.recipe, centre=0.5))
    data = picture(chest(256, 128, bits=8))
    (row,) = Reader(closer).read([Request(data, explain=Explain())])
    by_hand = stretch(film_of(data), loaded.recipe.stretch)[64:192, 32:96]
    assert row.tensor is not None and row.picture is not None
    assert row.tensor.equal(reading.to_tensor(by_hand, loaded.recipe))
    assert np.array_equal(row.picture, by_hand)


def test_shrinking_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (640, 320))
    shown = reading.shrink(stripes, 64)
    assert shown.std() < 3 and abs(shown.mean() - 127.5) < 2


def test_training_and_serving_share_the_way_to_the_tensor() -> None:
    shown = np.stack([GREY[:64, :64]] * 2)
    assert reading.normalise(torch.from_numpy(shown), RECIPE)[1].equal(reading.to_tensor(shown[1], RECIPE))


# --- determinism -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Films as files."""
    folder = tmp_path_factory.mktemp("films")
    plain = films.dicom(chest(), WindowCenter=2000, WindowWidth=3000)
    contents = {
        "png": RG1, "jpeg": picture(GREY, "JPEG"), "tiff": films.tiff(chest(), compression="lzw"), "dicom": plain,
        "j2k": films.LOSSLESS["JPEG 2000"](plain), "jpegls": films.LOSSLESS["JPEG-LS by CharLS"](plain),
        "rle": films.LOSSLESS["RLE by pydicom"](plain), "lossless": films.packaged("RG1_J2KR.dcm"),
    }  # fmt: skip
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in contents}


def test_the_same_bytes_give_the_same_tensor_in_every_process(written: dict[str, Path]) -> None:
    here = [hashlib.sha256(tensor_of(path.read_bytes()).numpy().tobytes()).hexdigest() for path in written.values()]
    assert run_tensors(list(written.values()), "1")[0] == here


def test_the_unpacked_archive_gives_the_same_tensors(written: dict[str, Path], archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    here = [hashlib.sha256(tensor_of(path.read_bytes()).numpy().tobytes()).hexdigest() for path in written.values()]
    assert run_tensors(list(written.values()), "2", tmp_path)[0] == here


def test_threads_give_the_same_answers_as_one_after_another(loaded: LoadedNetwork, reader: Reader) -> None:
    given = [RG1, films.dicom(chest()), b"junk", picture(GREY), picture(GREY, "JPEG")] * 3
    threaded = ask(Reader(loaded, threads=3), *given)
    for row, expected in zip(threaded, ask(reader, *given), strict=True):
        assert row.answer == expected.answer and str(row.error) == str(expected.error)
        if row.tensor is not None and expected.tensor is not None:
            assert row.tensor.equal(expected.tensor)


# --- the answer ------------------------------------------------------------------------------------


def test_an_answer_has_the_shape_of_the_contract(reader: Reader) -> None:
    (row,) = ask(reader, Request(RG1, "r-1"))
    labels = reader.recipe.labels
    assert set(row.answer) == {
        "model", "request_id", "prediction", "probabilities", "decision", "gate", "warnings", "notice",
    }  # fmt: skip
    assert row.answer["request_id"] == "r-1" and row.answer["notice"] == NOTICE
    assert row.answer["model"] == {
        "name": reader.recipe.name, "version": reader.recipe.version, "sha256": reader.network.sha256,
    }  # fmt: skip
    assert tuple(row.answer["probabilities"]) == labels
    assert math.isclose(sum(row.answer["probabilities"].values()), 1, abs_tol=1e-5)
    assert row.answer["prediction"] == max(labels, key=row.answer["probabilities"].__getitem__)
    assert len(json.dumps(row.answer, allow_nan=False)) < 10_000


@pytest.mark.parametrize(
    ("reason", "confidence", "decision"),
    [
        (None, 0.9, "report"),
        (None, 0.7, "report"),
        (None, 0.69, "abstain"),
        ("blank", 0.99, "reject"),
        ("colour", 0.1, "reject"),
    ],
)
def test_decisions(reason: str | None, confidence: float, decision: str) -> None:
    assert decide(Verdict(1, 1, reason), confidence, Recipe("t", "a", "1", ("a",), abstain_below=0.7)) == decision


def test_features_farther_than_the_threshold_are_unfamiliar() -> None:
    recipe = Recipe("t", "a", "1", ("a",), gate=GateThresholds(max_distance=2))
    assert inspect_features(2, recipe).reason is None
    assert inspect_features(2.01, recipe).reason == "unfamiliar"


def test_a_rejected_film_says_why(reader: Reader) -> None:
    told = answer(reader, picture(np.zeros((50, 50), np.uint8)))
    assert told["decision"] == "reject" and told["gate"]["reason"] == "blank"
    assert told["warnings"] == [reading.REASONS["blank"]]


def test_film_warnings_reach_the_answer(reader: Reader) -> None:
    told = answer(reader, films.dicom(chest(), WindowCenter=1, WindowWidth=0))
    assert any("window is invalid" in warning for warning in told["warnings"])


# --- a batch ---------------------------------------------------------------------------------------


def mixed(reader: Reader) -> dict[str, Request]:
    """Good, bad and explained rows, and a prepared tensor."""
    label = reader.recipe.labels[-1]
    return {
        "png": Request(RG1), "empty": Request(b""), "dicom": Request(films.packaged("RG1_J2KI.dcm")),
        "html": Request(b"<html>" * 9), "explained": Request(RG1, "e", Explain(target=label)),
        "truncated": Request(RG1[:9000]), "tensor": Request(tensor_of(RG1, reader.recipe)),
        "report": Request(films.dicom(SOPClassUID=uid.BasicTextSRStorage)),
        "method": Request(RG1, "m", Explain(method="tea leaves")), "target": Request(RG1, "t", Explain(target="Moon")),
        "shape": Request(torch.zeros(3, 8, 8)), "nan": Request(torch.full((3, reader.recipe.size, reader.recipe.size), math.nan)),
        "blank": Request(picture(np.zeros((99, 99), np.uint8))), "no overlay": Request(RG1, "n", Explain(overlay=False)),
        "explained dicom": Request(films.dicom(chest()), "d", Explain()),
    }  # fmt: skip


ERRORS = {
    "empty": BadRequest, "html": UnsupportedImage, "truncated": UnreadableImage, "report": NotAFilm, "method": BadRequest,
    "target": BadRequest, "shape": BadRequest, "nan": BadRequest,
}  # fmt: skip


@pytest.fixture(scope="module")
def batch(reader: Reader) -> dict[str, Row]:
    requests = mixed(reader)
    return dict(zip(requests, reader.read(list(requests.values())), strict=True))


def test_every_row_of_a_mixed_batch_has_its_own_outcome(batch: dict[str, Row]) -> None:
    assert {name: type(row.error) for name, row in batch.items() if row.error is not None} == ERRORS
    assert all(bool(row.answer) == (row.error is None) for row in batch.values())


def test_every_row_of_a_mixed_batch_is_answered_as_if_alone(batch: dict[str, Row], reader: Reader) -> None:
    for name, request in mixed(reader).items():
        (alone,) = reader.read([request])
        told, expected = batch[name].answer, alone.answer
        assert str(batch[name].error) == str(alone.error)
        for key in ("prediction", "decision", "request_id", "warnings"):
            assert told.get(key) == expected.get(key), name
        assert told.get("probabilities", {}) == pytest.approx(expected.get("probabilities", {}), abs=1e-5)
        heat, expected_heat = (a.get("attribution", {}).get("map", [[0]]) for a in (told, expected))
        np.testing.assert_allclose(heat, expected_heat, atol=0.002)


def test_explanations_are_made_for_whom_asked_and_for_their_target(batch: dict[str, Row], reader: Reader) -> None:
    asked = {name for name, row in batch.items() if "attribution" in row.answer}
    assert asked == {"explained", "no overlay", "explained dicom"}
    told = batch["explained"].answer["attribution"]
    assert (told["method"], told["target"]) == ("grad_cam", reader.recipe.labels[-1])
    overlays = {name for name in asked if (row := batch[name]).explanation and row.explanation.overlay_png}
    assert overlays == {"explained", "explained dicom"}
    assert batch["no overlay"].answer["attribution"]["target"] == batch["no overlay"].answer["prediction"]


def test_a_prepared_tensor_is_answered_like_its_film(batch: dict[str, Row]) -> None:
    told = batch["tensor"].answer
    assert told["probabilities"] == pytest.approx(batch["png"].answer["probabilities"], abs=1e-5)
    assert "prepared tensor" in told["warnings"][0]


@pytest.mark.parametrize("value", [1e30, -1e30, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_prepared_tensor_that_would_overflow_is_refused(reader: Reader, value: float, dtype: torch.dtype) -> None:
    side = reader.recipe.size
    (row,) = ask(reader, torch.full((3, side, side), value, dtype=dtype))
    assert isinstance(row.error, BadRequest)


def test_slow_methods_are_pointed_to_their_model(loaded: LoadedNetwork) -> None:
    quick = Reader(loaded, methods=("grad_cam",))
    (row,) = ask(quick, Request(RG1, "r", Explain("occlusion")))
    assert isinstance(row.error, WrongModel) and "cxr-attribution" in row.error.message


def test_limits_are_the_readers_own(loaded: LoadedNetwork) -> None:
    rows = ask(Reader(loaded, Limits(max_bytes=1000, max_pixels=400)), RG1, picture(np.zeros((20, 21), np.uint8)))
    assert [type(row.error) for row in rows] == [FilmTooLarge] * 2


def test_an_empty_batch_is_answered(reader: Reader) -> None:
    assert reader.read([]) == []


def test_more_films_than_a_batch_holds_are_answered_in_order(loaded: LoadedNetwork) -> None:
    rows = ask(Reader(loaded, batch=2), RG1, picture(GREY), b"", picture(np.zeros((9, 9), np.uint8)), RG1)
    assert [row.answer.get("gate", {}).get("reason") == "blank" for row in rows] == [False, False, False, True, False]
    assert isinstance(rows[2].error, BadRequest)
    assert rows[0].answer["probabilities"] == pytest.approx(rows[4].answer["probabilities"], abs=1e-5)
