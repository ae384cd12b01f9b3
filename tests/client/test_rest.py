from __future__ import annotations

import base64
import json
import socket
import time
from typing import Any

import pytest

from client import (
    BadRequest,
    BatchFailed,
    ConnectionFailed,
    DeadlineExceeded,
    FilmTooLarge,
    ModelNotFound,
    NoCapacity,
    Prediction,
    ProtocolError,
    RestClient,
    RetryPolicy,
    Tensor,
    UnsupportedImage,
)
from tests.client.fakes import ANSWER, NO_CAPACITY, REJECTION, FakeRest, HttpReply, front_end, serve_rest, v2_json

GOOD = HttpReply(200, json.dumps(ANSWER).encode())
FULL = front_end(503, "ServiceUnavailableException", NO_CAPACITY)
PNG = b"\x89PNG\r\n\x1a\n overlay"
ATTRIBUTION = {
    "method": "grad_cam",
    "target": "COVID",
    "map": [[0.0, 0.5], [1.0, 0.25]],
    "overlay_png": base64.b64encode(PNG).decode(),
}
EXPLAINED = HttpReply(200, json.dumps({**ANSWER, "attribution": ATTRIBUTION}).encode())


def test_a_prediction_is_read_whole(rest: FakeRest) -> None:
    rest.replies = [GOOD]
    with RestClient(rest.url) as service:
        answer = service.predict(b"film", request_id="r-1")
    assert (answer.prediction, answer.confidence, answer.decision) == ("COVID", 0.91, "report")
    assert answer.model.sha256 == "ab" * 32
    assert (answer.gate.score, answer.gate.threshold, answer.gate.reason) == (3.5, 9.0, None)
    assert answer.warnings == ("upscaled",)
    assert answer.json == ANSWER


def test_a_film_is_sent_as_raw_bytes_with_its_id_in_a_header(rest: FakeRest) -> None:
    rest.replies = [GOOD]
    RestClient(rest.url, token="secret").predict(b"\x00film", request_id="r-1")
    [(path, headers, body)] = rest.seen
    assert (path, body) == ("/predictions/cxr", b"\x00film")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Cxr-Request-Id"] == "r-1"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Length"] == "5"


def test_an_explanation_asks_with_headers_and_brings_map_and_overlay(rest: FakeRest) -> None:
    rest.replies = [EXPLAINED]
    answer = RestClient(rest.url).explain(b"film", target="Viral Pneumonia", overlay=False)
    [(path, headers, _)] = rest.seen
    assert path == "/explanations/cxr"
    assert headers["X-Cxr-Target"] == "Viral Pneumonia"
    assert headers["X-Cxr-Overlay"] == "false"
    assert "X-Cxr-Explain" not in headers
    assert answer.attribution.heat_map == ((0.0, 0.5), (1.0, 0.25))
    assert answer.attribution.overlay_png == PNG


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("grad_cam", "/explanations/cxr"),
        ("integrated_gradients", "/explanations/cxr-attribution"),
        ("gradient_shap", "/explanations/cxr-attribution"),
        ("occlusion", "/explanations/cxr-attribution"),
    ],
)
def test_slow_methods_go_to_the_model_with_its_own_queue(rest: FakeRest, method: str, path: str) -> None:
    rest.replies = [EXPLAINED]
    RestClient(rest.url).explain(b"film", method=method)
    assert rest.seen[0][0] == path
    assert rest.seen[0][1]["X-Cxr-Explain"] == method


def test_the_overlay_alone_is_that_of_the_version_that_answers(rest: FakeRest) -> None:
    without = {key: value for key, value in ATTRIBUTION.items() if key != "overlay_png"}
    rest.replies = [EXPLAINED, HttpReply(200, json.dumps({**ANSWER, "attribution": without}).encode())]
    service = RestClient(rest.url)
    assert service.overlay(b"film", target="COVID") == PNG
    assert (rest.seen[0][0], rest.seen[0][1]["X-Cxr-Target"]) == ("/explanations/cxr", "COVID")
    with pytest.raises(ProtocolError):
        service.overlay(b"film")


def test_a_version_may_be_named(rest: FakeRest) -> None:
    rest.replies = [GOOD, EXPLAINED]
    service = RestClient(rest.url, version="2.0")
    service.predict(b"film")
    service.overlay(b"film")
    assert [path for path, _, _ in rest.seen] == ["/predictions/cxr/2.0", "/explanations/cxr/2.0"]


def test_v2_of_a_version_is_refused_and_not_answered_by_another(rest: FakeRest) -> None:
    with pytest.raises(BadRequest, match="version"):
        RestClient(rest.url, version="2.0").infer_v2([b"film"])
    assert not rest.seen


def test_no_proxy_stands_before_this_machine(rest: FakeRest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serve_rest() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        rest.replies = proxy.replies = [GOOD]
        RestClient(rest.url).predict(b"film")
        RestClient("http://cxr.example:8080").predict(b"film")
    assert [path for path, _, _ in rest.seen] == ["/predictions/cxr"]
    assert [path for path, _, _ in proxy.seen] == ["http://cxr.example:8080/predictions/cxr"]


def test_an_error_of_the_handler_is_raised_and_not_sent_again(rest: FakeRest) -> None:
    rest.replies = [HttpReply(415, json.dumps(REJECTION).encode())]
    with pytest.raises(UnsupportedImage, match="No image") as caught:
        RestClient(rest.url).predict(b"<html>")
    assert caught.value.request_id == "r-1"
    assert len(rest.seen) == 1


def test_a_full_queue_is_asked_again_with_the_whole_film(rest: FakeRest, hasty: RetryPolicy) -> None:
    rest.replies = [FULL, front_end(503, "InternalServerException", "Prediction failed"), GOOD]
    RestClient(rest.url, retry=hasty).predict(b"film")
    assert [body for _, _, body in rest.seen] == [b"film"] * 3


def test_a_queue_that_stays_full_is_told(rest: FakeRest, hasty: RetryPolicy) -> None:
    rest.replies = [FULL]
    with pytest.raises(NoCapacity):
        RestClient(rest.url, retry=hasty).predict(b"film")
    assert len(rest.seen) == 3


def test_without_attempts_to_spare_nothing_is_sent_again(rest: FakeRest) -> None:
    rest.replies = [front_end(503, "InternalServerException", "Prediction failed"), GOOD]
    with pytest.raises(BatchFailed):
        RestClient(rest.url, retry=RetryPolicy(attempts=1)).predict(b"film")


def test_a_dropped_connection_is_sent_again(rest: FakeRest, hasty: RetryPolicy) -> None:
    rest.replies = [HttpReply(hang_up=True), GOOD]
    RestClient(rest.url, retry=hasty).predict(b"film")
    assert len(rest.seen) == 2


def test_connection_refused(hasty: RetryPolicy) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(ConnectionFailed, match="refused") as caught:
            RestClient(url, retry=hasty).predict(b"film")
    assert caught.value.status is None


def test_read_timeout(rest: FakeRest) -> None:
    rest.replies = [HttpReply(200, GOOD.body, delay_s=60)]
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        RestClient(rest.url, timeout_s=3).predict(b"film")
    assert time.monotonic() - begin < 30
    assert len(rest.seen) == 1


def test_an_answer_that_drips_in_does_not_outlast_the_deadline(rest: FakeRest) -> None:
    rest.replies = [HttpReply(200, GOOD.body * 20, drip_s=0.1)]  # for 50 s and more, never silent for long
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        RestClient(rest.url, timeout_s=1).predict(b"film")
    assert time.monotonic() - begin < 25


def test_a_film_over_the_limit_is_not_sent(rest: FakeRest) -> None:
    with pytest.raises(FilmTooLarge):
        RestClient(rest.url).predict(bytes(44_000_000))
    with pytest.raises(FilmTooLarge):
        RestClient(rest.url).infer_v2([bytes(17_000_000)] * 2)
    assert not rest.seen


def test_an_id_that_no_header_can_carry_is_refused(rest: FakeRest) -> None:
    for request_id in ("Müller", "a\r\nX-Cxr-Explain: true"):
        with pytest.raises(BadRequest, match="ASCII"):
            RestClient(rest.url).predict(b"film", request_id=request_id)
    assert not rest.seen


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", json.dumps({**ANSWER, "gate": None}).encode()])
def test_an_answer_that_is_not_as_agreed(rest: FakeRest, body: bytes) -> None:
    rest.replies = [HttpReply(200, body)]
    with pytest.raises(ProtocolError):
        RestClient(rest.url).predict(b"film")


def test_a_redirection_is_not_followed_with_a_patients_film(rest: FakeRest) -> None:
    rest.replies = [HttpReply(302)]
    with pytest.raises(ProtocolError):
        RestClient(rest.url).predict(b"film")
    assert len(rest.seen) == 1


def test_v2_keeps_each_film_its_own_answer(rest: FakeRest) -> None:
    rest.replies = [v2_json([ANSWER, REJECTION, ANSWER])]
    rows = RestClient(rest.url).infer_v2([b"one", b"two", b"three"], request_id="r-1")
    assert [type(row) for row in rows] == [Prediction, UnsupportedImage, Prediction]
    [(path, _, body)] = rest.seen
    assert path == "/v2/models/cxr/infer"
    assert json.loads(body) == {
        "id": "r-1",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [3], "data": ["b25l", "dHdv", "dGhyZWU="]}],
    }


def test_v2_of_one_failed_film_is_a_row_in_spite_of_its_status(rest: FakeRest) -> None:
    rest.replies = [v2_json([REJECTION], status=415)]
    [row] = RestClient(rest.url).infer_v2([b"<html>"])
    assert isinstance(row, UnsupportedImage)


def test_v2_of_an_unknown_model_is_raised(rest: FakeRest) -> None:
    rest.replies = [front_end(404, "ModelNotFoundException", "Model not found: cxr")]
    with pytest.raises(ModelNotFound):
        RestClient(rest.url).infer_v2([b"film"])


def test_v2_of_several_films_refused_as_one_is_raised(rest: FakeRest) -> None:
    rest.replies = [v2_json([{**REJECTION, "code": 400}], status=400)]
    with pytest.raises(BadRequest):
        RestClient(rest.url).infer_v2([b"one", b"two"])


@pytest.mark.parametrize("answers", [[], [ANSWER, ANSWER, ANSWER]])
def test_v2_with_another_number_of_rows_than_films(rest: FakeRest, answers: list[dict[str, Any]]) -> None:
    rest.replies = [v2_json(answers)]
    with pytest.raises(ProtocolError):
        RestClient(rest.url).infer_v2([b"one", b"two"])


def test_v2_sends_a_tensor_flat(rest: FakeRest) -> None:
    rest.replies = [v2_json([ANSWER])]
    RestClient(rest.url).infer_v2(Tensor((1, 3, 1, 2), [0.0, 0.5, 1.0, -1.0, 2.0, 0.25]))
    [part] = json.loads(rest.seen[0][2])["inputs"]
    assert part == {
        "name": "tensor",
        "datatype": "FP32",
        "shape": [1, 3, 1, 2],
        "data": [0.0, 0.5, 1.0, -1.0, 2.0, 0.25],
    }
