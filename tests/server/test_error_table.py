"""DESIGN.md's error table: every cause, by every way a film reaches the handler."""

from __future__ import annotations

import grpc
import pytest
from requests import Response

from client import ClientError, GrpcClient, ModelNotFound, RestClient
from serving.torchserve import TorchServe
from tests.server import films, ways
from tests.server.films import OVER_THE_FRONT_ENDS_LIMIT, PNG, Fault
from tests.server.ways import EXPLAIN, OVERLAY, PREDICT, WAYS

pytestmark = pytest.mark.usefixtures("unharmed")


LARGEST = {"v2 REST": 32_900_000}
"""Bytes of a film that fit the front end's limit in base64; the handler's own limit is above that."""


def base64_request(server: TorchServe, film: bytes) -> Response:
    """Of v2 over REST; beyond the front end's limit its answer is a bare 413."""
    return ways.infer(server, {"inputs": [ways.images([film])]})


# --- the bytes are at fault --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", films.faults(), ids=lambda fault: fault.cause)
@pytest.mark.parametrize("way", WAYS)
def test_every_cause_has_its_answer_by_every_way(server: TorchServe, way: str, fault: Fault) -> None:
    if len(fault.film) > LARGEST.get(way, films.OVER_THE_HANDLERS_LIMIT):
        assert (body := base64_request(server, fault.film)).status_code == 413 and body.content == b""
        return
    answer = WAYS[way](server, fault.film, "case-7")

    assert answer.keys() == {"code", "type", "message", "request_id"}
    assert (answer["code"], answer["type"], answer["request_id"]) == (fault.status, fault.type, "case-7")
    assert fault.says in answer["message"]


@pytest.mark.parametrize("fault", films.faults(), ids=lambda fault: fault.cause)
def test_the_clients_raise_the_same_exception(rest: RestClient, rpc: GrpcClient, fault: Fault) -> None:
    raised = []
    for service in (rest, rpc):
        with pytest.raises(ClientError) as caught:
            service.predict(fault.film, request_id="case-7")
        error = caught.value
        raised.append((type(error), error.status, error.type, error.message, error.request_id))
    assert raised[0] == raised[1]
    assert raised[0][1] == fault.status


@pytest.mark.parametrize("path", [EXPLAIN, OVERLAY])
def test_an_explanation_fails_as_a_prediction_does(server: TorchServe, path: str) -> None:
    answer = ways.read(ways.post(server, path, films.HTML))
    assert (answer["code"], answer["type"]) == (415, "UnsupportedImage")


@pytest.mark.parametrize("way", WAYS)
def test_a_film_of_exactly_the_limit_is_read(server: TorchServe, way: str) -> None:
    film = PNG + bytes(LARGEST.get(way, films.HANDLER_LIMIT) - len(PNG))
    assert WAYS[way](server, film, "case-7")["decision"]


# --- the request is at fault -------------------------------------------------------------------------


def refused(answer: dict[str, object], says: str, kind: str = "BadRequest") -> None:
    assert (answer["code"], answer["type"]) == (400, kind)
    assert says in str(answer["message"])
    assert answer["request_id"]


def test_a_request_without_a_film_is_told_where_to_put_it(server: TorchServe) -> None:
    without_data = "as the body, or as the field `data`"
    refused(ways.read(ways.form(server, PREDICT, None, explain="true")), without_data)
    refused(ways.read(ways.form(server, PREDICT, None, film="x")), without_data)
    refused(ways.predictions(server), without_data)
    refused(ways.predictions(server, film=PNG), without_data)


@pytest.mark.parametrize("body", [b"", b"--xx--\r\n", b"no part of anything"])
def test_an_empty_multipart_is_told_so(server: TorchServe, body: bytes) -> None:
    answer = ways.post(server, PREDICT, body, {"Content-Type": "multipart/form-data; boundary=xx"})
    refused(ways.read(answer), "no film")


BAD_OPTIONS = [
    ("zoom", "2", "unknown option; known: explain, target, overlay, request_id"),
    ("explain", "tarot", "unknown attribution method; known: grad_cam, integrated_gradients"),
    ("target", "Gout", "unknown target; the labels are: "),
    ("target", "Gr\xf6\xdfe", "unknown target; the labels are: "),
    ("overlay", "maybe", "overlay is true or false"),
]


@pytest.mark.parametrize(("name", "value", "says"), BAD_OPTIONS)
def test_an_option_or_value_that_does_not_exist_is_refused(
    server: TorchServe, name: str, value: str, says: str
) -> None:
    header = {f"X-Cxr-{name}": value.encode("latin-1")}
    entries = {"explain": b"true", name: value.encode("latin-1")}  # not always UTF-8, as the header
    refused(ways.read(ways.post(server, EXPLAIN, PNG, header)), says)
    refused(ways.read(ways.form(server, EXPLAIN, PNG, **{name: value})), says)
    refused(ways.predictions(server, data=PNG, **entries), says)


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_shap", "occlusion"])
def test_a_slow_method_is_pointed_to_its_own_model(server: TorchServe, method: str) -> None:
    says = f"{method} is slow and is served by the model cxr-attribution"
    refused(ways.read(ways.post(server, EXPLAIN, PNG, {"X-Cxr-Explain": method})), says, "WrongModel")
    refused(ways.read(ways.form(server, PREDICT, PNG, explain=method)), says, "WrongModel")
    refused(ways.predictions(server, data=PNG, explain=method.encode()), says, "WrongModel")


def test_another_path_below_the_version_is_refused(server: TorchServe) -> None:
    refused(ways.read(ways.post(server, "/explanations/cxr/1.0/map.png", PNG)), "overlay.png")


# --- request ids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_good_answer_carries_the_clients_id(server: TorchServe, way: str) -> None:
    assert WAYS[way](server, PNG, "case-7")["request_id"] == "case-7"


@pytest.mark.parametrize("way", ["raw body", "multipart", "gRPC"])
def test_without_an_id_the_server_gives_one_of_its_own(server: TorchServe, way: str) -> None:
    first, second = (WAYS[way](server, film, "")["request_id"] for film in (PNG, b""))
    assert first
    assert second
    assert first != second


# --- the front end's own answers ---------------------------------------------------------------------


def test_a_body_over_the_front_ends_limit_never_reaches_a_worker(server: TorchServe) -> None:
    film = bytes(OVER_THE_FRONT_ENDS_LIMIT)
    for answer in (ways.post(server, PREDICT, film), ways.form(server, PREDICT, film)):
        assert (answer.status_code, answer.content) == (413, b"")
    calls = (lambda: ways.predictions(server, data=film), lambda: ways.model_infer(server, [ways.images([film])]))
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() == grpc.StatusCode.CANCELLED


def test_an_unknown_model_is_the_same_exception_over_both(server: TorchServe) -> None:
    for service in (RestClient(server.inference_url, model="x"), GrpcClient(server.grpc_target, model="x")):
        with service, pytest.raises(ModelNotFound):
            service.predict(PNG)


@pytest.mark.parametrize("body", [PNG, b"data=%zz", b"%ff=%fe&x=1"])
def test_a_film_sent_as_a_web_form_harms_nobody(server: TorchServe, body: bytes) -> None:
    answer = ways.post(server, PREDICT, body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code >= 400
