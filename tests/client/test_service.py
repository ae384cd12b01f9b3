"""What both clients offer, asked of the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from client import BadRequest, ClientError, GrpcClient, Prediction, RestClient, Service, UnsupportedImage
from serving.torchserve import TorchServe


@pytest.fixture(params=["REST", "gRPC"])
def service(request: pytest.FixtureRequest, server: TorchServe) -> Iterator[Service]:
    with RestClient(server.inference_url) if request.param == "REST" else GrpcClient(server.grpc_target) as opened:
        yield opened


def test_a_film_is_classified(service: Service, film: bytes) -> None:
    answer = service.predict(film, request_id="from-a-test")
    assert answer.request_id == "from-a-test"
    assert answer.prediction == max(answer.probabilities, key=lambda label: answer.probabilities[label])
    assert sum(answer.probabilities.values()) == pytest.approx(1.0, abs=1e-3)


def test_a_film_is_explained(service: Service, film: bytes) -> None:
    target = min((found := service.predict(film)).probabilities, key=lambda label: found.probabilities[label])
    answer = service.explain(film, target=target)
    assert answer.attribution.target == target
    assert service.overlay(film, target=target) == answer.attribution.overlay_png
    assert (answer.attribution.overlay_png or b"").startswith(b"\x89PNG")
    assert service.explain(film, overlay=False).attribution.overlay_png is None


def test_a_bad_film_of_a_v2_request_is_an_error_in_its_place(service: Service, film: bytes) -> None:
    rows = service.infer_v2([film, b"<html></html>", film])
    assert [type(row) for row in rows] == [Prediction, UnsupportedImage, Prediction]


@pytest.mark.parametrize(("data", "error"), [(b"", BadRequest), (b"<html></html>", UnsupportedImage)])
def test_what_is_no_film_is_refused(service: Service, data: bytes, error: type[ClientError]) -> None:
    with pytest.raises(error) as caught:
        service.predict(data, request_id="bad")
    assert caught.value.request_id == "bad"


def test_both_protocols_read_a_film_alike(server: TorchServe, film: bytes) -> None:
    with GrpcClient(server.grpc_target) as rpc, RestClient(server.inference_url) as rest:
        answers = [service.predict(film, request_id="same") for service in (rpc, rest)]
    assert json.dumps(answers[0].json) == json.dumps(answers[1].json)
