"""TorchServe's adapter with TorchServe's own context and metrics, in this process."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.protocol.otf_message_handler import create_predict_response

from cxr import network
from cxr.recipe import Recipe
from tests.handler.films import ROOT, chest, picture
from tests.handler.test_open_inference import images

Ask = Callable[..., list[tuple[int, str, Any]]]
RECIPE = Recipe(name="cxr", architecture="squeezenet1_1", version="1.0", labels=("Left", "Right side"), size=64)
FILM = (ROOT / "tests" / "films" / "RG1.png").read_bytes()
METRICS = ROOT / "handler" / "metrics.yaml"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows nothing, as a worker finds it."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    script = network.to_torchscript(network.build("squeezenet1_1", 2), RECIPE.size)
    network.save(script, folder / "model.pt", RECIPE)
    return folder


def context_for(folder: Path, metrics: Path = METRICS, **config: Any) -> Context:
    cache = MetricsCacheYamlImpl(str(metrics))
    cache.initialize_cache()
    yaml = {"batchSize": 4, "maxWorkers": 1, **config}
    manifest = {"model": {"serializedFile": "model.pt"}}
    return Context("cxr", str(folder), manifest, 4, None, "0.12.0", metrics=cache, model_yaml_config=yaml)


@pytest.fixture(scope="module")
def start(model_folder: Path) -> Iterator[Callable[..., Ask]]:
    """Initialises a handler; what it returns sends it one batch of (row, headers)."""
    threads = torch.get_num_threads()

    def initialised(**options: Any) -> Ask:
        context = context_for(model_folder, **options)
        handler = importlib.import_module("xray_handler").XrayHandler()
        handler.initialize(context)

        def ask(*rows: dict[str, Any], headers: dict[str, Any] | None = None) -> list[tuple[int, str, Any]]:
            context.request_ids = {index: f"server-{index}" for index in range(len(rows))}
            context.request_processor = [RequestProcessor(dict(headers or {})) for _ in rows]
            bodies = handler.handle(list(rows), context)
            # TorchServe encodes it so; what it cannot encode kills the worker.
            assert create_predict_response(bodies, context.request_ids, "ok", 200, context)
            return [
                (context.get_response_status(index)[0], context.get_response_content_type(index), body)
                for index, body in enumerate(bodies)
            ]

        return ask

    yield initialised
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def ask(start: Callable[..., Ask]) -> Ask:
    return start()


def answers(told: list[tuple[int, str, Any]]) -> list[dict[str, Any]]:
    assert {kind for _, kind, _ in told} <= {"application/json"}
    return [json.loads(body) for _, _, body in told]


def test_every_row_has_its_own_status_and_answer(ask: Ask) -> None:
    told = ask(
        {"body": FILM},
        {"data": b"<html>"},
        {"data": FILM, "explain": b"true", "request_id": b"case-7"},
        {},
        {"body": images(FILM, b"")},
        {"body": b""},
        {"data": FILM[:5000]},
    )
    assert [status for status, _, _ in told] == [200, 415, 200, 400, 200, 400, 422]
    plain, html, explained, missing, v2, empty, cut = answers(told)
    assert plain["probabilities"].keys() == {"Left", "Right side"}
    assert "attribution" not in plain
    assert explained["probabilities"] == pytest.approx(plain["probabilities"], abs=1e-5)
    assert explained["attribution"]["overlay_png"]
    assert [body["request_id"] for body in (plain, html, explained, missing)] == [
        "server-0",
        "server-1",
        "case-7",
        "server-3",
    ]
    assert [entry["data"][1] for entry in v2["outputs"] if entry["name"] == "decision"] == ["error"]
    assert (empty["type"], cut["type"]) == ("BadRequest", "UnreadableImage")


def test_a_batch_over_the_networks_batch_is_answered_whole(ask: Ask) -> None:
    told = answers(ask(*[{"body": FILM}] * 6, {"body": images(*[FILM] * 5)}))
    first = told[0]["probabilities"]
    for answer in told[:-1]:
        assert answer["probabilities"] == pytest.approx(first, abs=1e-5)


def test_an_overlay_is_answered_as_a_picture_and_its_error_as_json(ask: Ask) -> None:
    [good, bad] = ask({"body": FILM}, {"body": b"x"}, headers={"explain": "True", "url_path": "overlay.png"})
    assert (good[:2], good[2][:4]) == ((200, "image/png"), b"\x89PNG")
    assert bad[:2] == (415, "application/json")


def test_a_slow_method_is_pointed_to_its_own_model(start: Callable[..., Ask]) -> None:
    row = {"data": FILM, "explain": b"gradient_shap", "overlay": b"false"}
    assert answers(start()(row))[0]["type"] == "WrongModel"
    told = start(handler={"methods": ["grad_cam", "gradient_shap"]})(row)
    assert answers(told)[0]["attribution"]["method"] == "gradient_shap"


def test_the_limits_are_the_configurations(start: Callable[..., Ask]) -> None:
    small = start(handler={"max_bytes": 100_000, "max_pixels": 4096})
    told = ask_types(small, FILM, picture(chest(65, 65)), picture(chest(64, 64)))
    assert told == ["FilmTooLarge", "FilmTooLarge", None]


def ask_types(ask: Ask, *films: bytes) -> list[str | None]:
    return [answer.get("type") for answer in answers(ask(*[{"body": film} for film in films]))]


def test_an_unknown_setting_ends_the_start(start: Callable[..., Ask]) -> None:
    with pytest.raises(ValueError, match="zoom"):
        start(handler={"zoom": 2})


def test_a_fault_of_our_own_is_500_of_its_row_and_quotes_nothing(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from cxr import reading

    def broken(data: bytes, limits: object) -> object:
        raise KeyError("Doe^John") if data == b"x" else reading.BadRequest("empty")

    monkeypatch.setattr(reading, "decode", broken)
    [(status, _, body), (other, _, _)] = ask({"body": b"x"}, {"body": b""})
    assert (status, other) == (500, 400)
    assert json.loads(body)["message"] == "internal error (KeyError)"
    assert "Doe" not in caplog.text


# --- metrics -----------------------------------------------------------------------------------------


@pytest.fixture
def counted(caplog: pytest.LogCaptureFixture) -> Callable[[], dict[str, float]]:
    """What TorchServe reads from a worker's standard output, added up: name and dimensions -> value."""
    caplog.set_level(logging.INFO, "ts.metrics.caching_metric")

    def total() -> dict[str, float]:
        sums: dict[str, float] = {}
        for message in caplog.messages:
            if message.startswith("[METRICS]"):
                name, _, rest = message.removeprefix("[METRICS]").partition(".")
                value, dimensions = rest.partition(":")[2].split("|#")[:2]
                key = f"{name} {dimensions}"
                sums[key] = sums.get(key, 0) + float(value)
        return sums

    return total


def test_rows_count_by_outcome_and_class_and_batches_by_size(
    ask: Ask, counted: Callable[[], dict[str, float]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    told = answers(ask({"body": FILM}, {"body": b"x"}, {"body": b""}, {"body": images(FILM, b"x")}, {}))
    label, sums = told[0]["prediction"], counted()

    assert sums[f"cxr_rows_total model_name:cxr,outcome:{told[0]['decision']},label:{label}"] == 2
    assert sums["cxr_rows_total model_name:cxr,outcome:415,label:none"] == 2
    assert sums["cxr_rows_total model_name:cxr,outcome:400,label:none"] == 2
    assert sums["cxr_batches_total model_name:cxr,size:5"] == 1
    assert sums["cxr_busy_seconds_total model_name:cxr"] > 0
    assert {name.split()[0] for name in sums} >= {f"cxr_{s}_seconds" for s in ("decode", "stretch", "predict")}


def test_no_dimension_is_ever_empty(
    ask: Ask, counted: Callable[[], dict[str, float]], caplog: pytest.LogCaptureFixture
) -> None:
    """TorchServe drops a sample with an empty one, and says so in its log only."""
    caplog.clear()
    ask({"body": FILM}, {"body": b"x"}, {}, {"body": b'{"inputs": []}'}, {"data": FILM, "explain": b"1"})
    for key in counted():
        dimensions = key.partition(" ")[2]
        assert all(part.partition(":")[2] for part in dimensions.split(",")), key


def test_films_are_answered_under_another_metrics_file(start: Callable[..., Ask], tmp_path: Path) -> None:
    other = tmp_path / "metrics.yaml"
    other.write_text("model_metrics: {gauge: [{name: HandlerTime, unit: Milliseconds, dimensions: [Level]}]}")
    [(status, _, _)] = start(metrics=other)({"body": FILM})
    assert status == 200
