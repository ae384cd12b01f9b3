"""What a good film is answered: predictions, explanations, their size, and who waits for whom."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client import ClientError, Explanation, GrpcClient, NoCapacity, Prediction, RestClient
from cxr.request import Explain
from serving.properties import read_properties
from serving.torchserve import TorchServe
from tests.handler.films import picture
from tests.server import films, ways
from tests.server.conftest import ONCE, TIMEOUT_S, Expected, wait_until_waiting, workers_stopped
from tests.server.films import PNG
from tests.server.ways import EXPLAIN, OVERLAY, PREDICT, WAYS

pytestmark = pytest.mark.usefixtures("unharmed")
GOOD = {
    "PNG": PNG,
    "16-bit PNG": picture(films.pixels().astype(np.uint16) * 257),
    "JPEG": films.encode("JPEG", quality=95),
    "TIFF": films.encode("TIFF"),
    "DICOM": films.dicom(),
    "colour picture": films.colour_picture(),
    "blank film": picture(np.full((64, 64), 128, np.uint8)),
}


# --- predictions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("way", WAYS)
def test_the_server_answers_what_the_archive_alone_does(
    server: TorchServe, expected: Expected, way: str, name: str
) -> None:
    answer, wanted = WAYS[way](server, GOOD[name], "case-7"), expected(GOOD[name])

    assert answer["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-4)
    assert answer["gate"]["score"] == pytest.approx(wanted["gate"]["score"], rel=1e-3, abs=1e-3)
    same = ("model", "prediction", "decision", "warnings", "notice")
    assert [answer[key] for key in same] == [wanted[key] for key in same]
    assert answer["gate"]["reason"] == wanted["gate"]["reason"]


def test_a_prediction_stays_under_10_kb(server: TorchServe) -> None:
    response = ways.post(server, PREDICT, films.colour_picture(), {"X-Cxr-Request-Id": "x" * 4000})
    assert response.status_code == 200
    assert len(response.content) < 10_000
    assert response.json()["request_id"] == "x" * 128


def test_the_bytes_decide_not_what_the_header_says(server: TorchServe, expected: Expected) -> None:
    for kind in ("application/dicom", "image/jpeg", "application/json", "text/plain; charset=utf-16"):
        answer = ways.read(ways.post(server, PREDICT, PNG, {"Content-Type": kind}))
        assert answer["prediction"] == expected(PNG)["prediction"]


# --- explanations ------------------------------------------------------------------------------------


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png), formats=["PNG"])
    image.load()
    return image


def by_rest(service: RestClient, rpc: GrpcClient, film: bytes, **options: Any) -> Any:
    return service.explain(film, **options)


def by_grpc(service: RestClient, rpc: GrpcClient, film: bytes, **options: Any) -> Any:
    return rpc.explain(film, **options)


both = pytest.mark.parametrize("ask", [by_rest, by_grpc], ids=["REST", "gRPC"])


@both
def test_an_explanation_has_a_map_and_an_overlay(
    rest: RestClient, rpc: GrpcClient, expected: Expected, ask: Any
) -> None:
    answer = ask(rest, rpc, PNG)
    wanted = expected(PNG, Explain())["attribution"]

    assert (answer.attribution.method, answer.attribution.target) == ("grad_cam", answer.prediction)
    heat_map = np.array(answer.attribution.heat_map)
    assert heat_map == pytest.approx(np.array(wanted["map"]), abs=5e-3)  # at feature resolution
    assert (heat_map.min() >= 0, heat_map.max()) == (True, 1)
    overlay = opened(answer.attribution.overlay_png)
    assert max(overlay.size) == 1024  # the legend below the film included
    rows, columns = films.pixels().shape
    legend = overlay.height - round(overlay.width * rows / columns)
    assert 32 < legend < 128
    assert np.asarray(overlay)[-legend // 4 :].mean() < 32 < np.asarray(overlay)[: overlay.height - legend].mean()


@both
def test_every_class_can_be_explained(rest: RestClient, rpc: GrpcClient, expected: Expected, ask: Any) -> None:
    for label in expected(PNG)["probabilities"]:
        found = ask(rest, rpc, PNG, target=label, overlay=False).attribution
        wanted = expected(PNG, Explain(target=label, overlay=False))["attribution"]
        assert found.target == label
        assert found.overlay_png is None
        assert np.array(found.heat_map) == pytest.approx(np.array(wanted["map"]), abs=5e-3)


def test_options_are_fields_of_a_multipart_form_too(server: TorchServe) -> None:
    answer = ways.read(ways.form(server, PREDICT, PNG, explain="grad_cam", target="Normal", overlay="false"))
    assert answer["attribution"].keys() == {"method", "target", "map"}
    assert answer["attribution"]["target"] == "Normal"


@pytest.mark.parametrize("path", [OVERLAY, "/predictions/cxr/1.0/overlay.png"])
@pytest.mark.parametrize("headers", [{}, {"X-Cxr-Overlay": "false"}, {"X-Cxr-Explain": "false"}])
def test_the_path_of_the_overlay_gives_a_picture(server: TorchServe, path: str, headers: Any) -> None:
    answer = ways.post(server, path, PNG, headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert max(opened(answer.content).size) == 1024


@pytest.mark.parametrize("side", [1024, 4000])
def test_the_noisiest_film_explained_stays_under_the_limit_of_an_answer(server: TorchServe, side: int) -> None:
    """At 1024 its overlay is neither enlarged nor reduced: no PNG of an overlay is larger."""
    limit = int(read_properties(server.run / "config.properties")["max_response_size"])
    answer = ways.post(server, EXPLAIN, films.noise(side))
    assert answer.status_code == 200
    assert len(answer.content) < limit


@both
def test_a_slow_method_is_answered_by_its_own_model(rest: RestClient, rpc: GrpcClient, ask: Any) -> None:
    answer = ask(rest, rpc, PNG, method="gradient_shap")
    assert answer.attribution.method == "gradient_shap"
    assert np.array(answer.attribution.heat_map).max() == 1
    assert max(opened(answer.attribution.overlay_png or b"").size) == 1024


# --- slow explanations hold nobody up ----------------------------------------------------------------


def outcome(call: Callable[[], Prediction]) -> Prediction | ClientError:
    try:
        return call()
    except ClientError as error:
        return error


QUICK_OF_EACH = 6
"""Grad-CAMs by each protocol: of twelve, at most five find room behind what is slow, so each protocol is turned away."""


def test_predictions_are_answered_while_attribution_is_full(
    server: TorchServe, rest: RestClient, rpc: GrpcClient, expected: Expected
) -> None:
    """Integrated Gradients and Gradient SHAP are worked on in turn, what is quick waits, the rest is turned away."""
    quick = (
        RestClient(server.inference_url, timeout_s=TIMEOUT_S, retry=ONCE, model="cxr-attribution"),
        GrpcClient(server.grpc_target, timeout_s=TIMEOUT_S, retry=ONCE, model="cxr-attribution"),
    )

    def explain(service: RestClient | GrpcClient, method: str) -> Prediction | ClientError:
        return outcome(lambda: service.explain(PNG, method=method, overlay=False))

    with quick[0], quick[1], ThreadPoolExecutor(2 + 2 * QUICK_OF_EACH) as pool:
        with workers_stopped(server, "cxr-attribution"):
            slow = [pool.submit(explain, rpc, "integrated_gradients"), pool.submit(explain, rest, "gradient_shap")]
            assert wait_until_waiting(server, "cxr-attribution", 1)
        waiting = {
            service: [pool.submit(explain, service, "grad_cam") for _ in range(QUICK_OF_EACH)] for service in quick
        }
        meanwhile = [service.predict(PNG) for service in (rest, rpc) for _ in range(4)]
        still_at_it = sum(not future.done() for future in slow)
        explained = [future.result() for future in slow]
        told = {service: [future.result() for future in futures] for service, futures in waiting.items()}

    assert still_at_it > 0
    assert {answer.prediction for answer in meanwhile} == {expected(PNG)["prediction"]}
    for outcomes in told.values():
        turned_away = [answer for answer in outcomes if isinstance(answer, ClientError)]
        assert turned_away
        assert {(type(error), error.status) for error in turned_away} == {(NoCapacity, 503)}
    for answer in explained:
        assert isinstance(answer, Explanation), answer
    found = explained[0].attribution.completeness or {}
    assert found["sum"] == pytest.approx(found["logit_difference"], rel=0.01, abs=0.01)
    assert found["complete"] is True
