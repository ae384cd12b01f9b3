"""Open Inference Protocol, version 2, over REST and gRPC. TorchServe's gRPC side dies on less than a whole answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import torch

from client import ClientError, GrpcClient, Prediction, RestClient, Tensor, UnsupportedImage
from cxr.open_inference import MAX_FILMS, NO_PROBABILITY
from cxr.reading import Reader, decode, stretch, to_tensor
from serving.torchserve import TorchServe
from tests.server import films, ways
from tests.server.conftest import Expected
from tests.server.films import HTML, PNG

pytestmark = pytest.mark.usefixtures("unharmed")
Outputs = dict[str, list[Any]]


def by_rest(server: TorchServe, inputs: list[dict[str, Any]], request_id: str) -> tuple[str, Outputs]:
    body = ways.infer(server, {"id": request_id, "inputs": inputs}).json()
    assert (body["model_name"], body["model_version"]) == ("cxr", "1.0")
    return body["id"], {output["name"]: output["data"] for output in body["outputs"]}


def by_grpc(server: TorchServe, inputs: list[dict[str, Any]], request_id: str) -> tuple[str, Outputs]:
    reply = ways.model_infer(server, inputs, request_id)
    assert (reply.model_name, reply.model_version) == ("cxr", "1.0")
    return reply.id, ways.outputs_of(reply)


both = pytest.mark.parametrize("ask", [by_rest, by_grpc], ids=["REST", "gRPC"])
Ask = Callable[[TorchServe, list[dict[str, Any]], str], tuple[str, Outputs]]


@pytest.fixture(scope="module")
def tensor(reader: Reader) -> torch.Tensor:
    """RG1 as the network sees it, (3, S, S) float32."""
    film = decode(PNG, reader.limits)
    return to_tensor(stretch(film, reader.recipe.stretch), reader.recipe)


def prepared(values: list[Any], shape: list[Any]) -> dict[str, Any]:
    return {"name": "tensor", "datatype": "FP32", "shape": shape, "data": values}


# --- good requests -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("count", [1, 3, MAX_FILMS])
def test_n_films_get_n_answers_in_order(server: TorchServe, expected: Expected, ask: Ask, count: int) -> None:
    sent = [PNG if index % 2 == 0 else films.colour_picture() for index in range(count)]
    identity, outputs = ask(server, [ways.images(sent)], "batch-1")

    assert identity == "batch-1"
    for film, answer in zip(sent, ways.answers_of(outputs), strict=True):
        assert answer["probabilities"] == pytest.approx(expected(film)["probabilities"], abs=1e-4)
        assert answer["request_id"] == "batch-1"
    assert outputs["prediction"] == [expected(film)["prediction"] for film in sent]
    assert outputs["decision"] == [expected(film)["decision"] for film in sent]
    flat = [p for film in sent for p in expected(film)["probabilities"].values()]
    assert outputs["probabilities"] == pytest.approx(flat, abs=1e-4)


@both
def test_a_bad_film_harms_no_other_of_its_request(server: TorchServe, expected: Expected, ask: Ask) -> None:
    _, outputs = ask(server, [ways.images([PNG, HTML, b"", PNG])], "batch-2")
    good, html, empty, again = ways.answers_of(outputs)

    assert good["probabilities"] == pytest.approx(expected(PNG)["probabilities"], abs=1e-4)
    assert again == good
    assert [(html["code"], html["type"]), (empty["code"], empty["type"])] == [
        (415, "UnsupportedImage"),
        (400, "BadRequest"),
    ]
    assert outputs["decision"][1:3] == ["error", "error"]
    classes = len(good["probabilities"])
    assert outputs["probabilities"][classes : 3 * classes] == [NO_PROBABILITY] * 2 * classes


@both
def test_a_prepared_tensor_is_answered_as_its_image(
    server: TorchServe, expected: Expected, tensor: torch.Tensor, ask: Ask
) -> None:
    values = tensor.flatten().tolist()
    _, outputs = ask(server, [prepared(values * 2, [2, *tensor.shape])], "tensors")
    for answer in ways.answers_of(outputs):
        assert answer["probabilities"] == pytest.approx(expected(PNG)["probabilities"], abs=1e-4)
        assert "prepared tensor" in answer["warnings"][0]


def test_both_clients_read_rows_and_tensors_alike(rest: RestClient, rpc: GrpcClient, tensor: torch.Tensor) -> None:
    ready = Tensor((1, *tensor.shape), tensor.flatten().tolist())
    for service in (rest, rpc):
        rows = service.infer_v2([PNG, HTML], request_id="batch-3")
        assert [type(row) for row in rows] == [Prediction, UnsupportedImage]
        [row] = service.infer_v2(ready)
        assert isinstance(row, Prediction)
        assert row.prediction == rows[0].prediction


# --- requests that cannot be taken apart -------------------------------------------------------------

SIDE = 224
ELEMENTS = 3 * SIDE * SIDE
IMAGE = ways.images([PNG])
# Over both protocols: what a protobuf message can say.
BAD_INPUTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "17 films": ([ways.images([PNG] * (MAX_FILMS + 1))], "send 1 to 16 films"),
    "no films": ([ways.images([])], "send 1 to 16 films"),
    "no input": ([], "send one input"),
    "two inputs": ([IMAGE, IMAGE], "send one input"),
    "another name": ([IMAGE | {"name": "sound"}], "the input is `image`"),
    "another datatype": ([IMAGE | {"datatype": "INT32", "data": [1]}], "the input is `image`"),
    "a datatype that does not exist": ([IMAGE | {"datatype": "JPEG", "data": []}], "the input is `image`"),
    "a shape for another number of films": ([IMAGE | {"shape": [2]}], "data has 1 elements"),
    "a tensor of another size": ([prepared([0.5] * 12, [1, 3, 2, 2])], "the shape is [n, 3, 224, 224]"),
    "a tensor without shape": ([prepared([0.5], [])], "the shape is [n, 3, 224, 224]"),
    "a huge shape": ([prepared([0.5], [10**12, 3, SIDE, SIDE])], "send 1 to 16 films"),
    "less data than the shape says": ([prepared([0.5], [1, 3, SIDE, SIDE])], "data has 1 elements"),
    "more data than the shape says": ([prepared([0.5] * 2, [-1, 3, SIDE, SIDE])], "send 1 to 16 films"),
    "infinite numbers": ([prepared([3e38] * ELEMENTS, [1, 3, SIDE, SIDE])], "normalised grey values"),
}


@both
@pytest.mark.parametrize(("inputs", "says"), BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_a_request_gone_wrong_is_a_whole_answer(
    server: TorchServe, ask: Ask, inputs: list[dict[str, Any]], says: str
) -> None:
    identity, outputs = ask(server, inputs, "wrong-1")
    [answer] = ways.answers_of(outputs)

    assert identity == answer["request_id"] == "wrong-1"
    assert (answer["code"], answer["type"]) == (400, "BadRequest")
    assert says in answer["message"]
    assert outputs["decision"] == ["error"]
    assert set(outputs["probabilities"]) == {NO_PROBABILITY}


def tensor_text(element: str, shape: str = f"[1, 3, {SIDE}, {SIDE}]") -> str:
    data = ", ".join([element] + ["0"] * (ELEMENTS - 1))
    return f'{{"inputs": [{{"name": "tensor", "datatype": "FP32", "shape": {shape}, "data": [{data}]}}]}}'


# Over REST alone: what only JSON can say.
BAD_JSON: dict[str, str] = {
    "empty": "",
    "malformed": '{"inputs": [',
    "not an object": "[1, 2]",
    "null": "null",
    "without inputs": '{"id": "x"}',
    "inputs no list": '{"inputs": {"name": "image"}}',
    "inputs of no objects": '{"inputs": [1]}',
    "no base64": '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["\\u00e9"]}]}',
    "no text": '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": [null, {}]}]}',
    "a shape of 4,000 digits": tensor_text("0", f"[{'9' * 4000}, 3, {SIDE}, {SIDE}]"),
    "a shape of fractions": tensor_text("0", f"[1.0, 3, {SIDE}, {SIDE}]"),
    "a shape of truths": tensor_text("0", f"[true, 3, {SIDE}, {SIDE}]"),
    "NaN": tensor_text("NaN"),
    "infinity": tensor_text("1e400"),
    "a number over all bounds": tensor_text("9" * 400),
    "text among numbers": tensor_text('"0"'),
    "null among numbers": tensor_text("null"),
    "nested numbers": tensor_text("[0]"),
    "numbers nested for ever": tensor_text("[" * 500 + "]" * 500),
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_json_gone_wrong_is_400_and_a_whole_answer(server: TorchServe, text: str) -> None:
    response = ways.infer(server, text)
    body = response.json()

    assert response.status_code == 400
    assert body.keys() == {"id", "model_name", "model_version", "outputs"}
    [answer] = ways.answers_of({output["name"]: output["data"] for output in body["outputs"]})
    assert (answer["code"], answer["type"]) == (400, "BadRequest")


def test_json_of_more_parts_than_any_request_has_is_413(server: TorchServe) -> None:
    response = ways.infer(server, '{"inputs": ' + "[" * 100_000)
    [answer] = ways.answers_of({output["name"]: output["data"] for output in response.json()["outputs"]})
    assert (response.status_code, answer["code"], answer["type"]) == (413, 413, "FilmTooLarge")


def test_nan_over_grpc_is_refused_before_it_reaches_a_worker(server: TorchServe) -> None:
    with pytest.raises(grpc.RpcError):
        ways.model_infer(server, [prepared([math.nan] * ELEMENTS, [1, 3, SIDE, SIDE])])


@both
def test_an_endless_id_kills_no_worker(server: TorchServe, ask: Ask) -> None:
    """An answer that repeated it for each film would pass max_response_size, which no worker survives."""
    identity, outputs = ask(server, [ways.images([PNG, b"", HTML, PNG])], "x" * 2_000_000)
    assert identity == "x" * 128
    assert {answer["request_id"] for answer in ways.answers_of(outputs)} == {identity}


@pytest.mark.parametrize("identity", [7, {"a": 1}, ["a"], None, "", "a\nb"])
def test_an_id_that_is_no_printable_text_is_replaced(server: TorchServe, identity: object) -> None:
    body = ways.infer(server, {"id": identity, "inputs": [IMAGE]}).json()
    assert isinstance(body["id"], str)
    assert body["id"].isprintable()
    assert len(body["id"]) == 36


@both
def test_a_good_answer_stays_small_with_as_many_films_as_allowed(server: TorchServe, ask: Ask) -> None:
    _, outputs = ask(server, [ways.images([PNG] * MAX_FILMS)], "x" * 128)
    assert len(json.dumps(outputs)) < 10_000 * MAX_FILMS


def test_a_request_of_17_films_is_raised_by_the_clients(rest: RestClient, rpc: GrpcClient) -> None:
    for service in (rest, rpc):
        with pytest.raises(ClientError) as caught:
            service.infer_v2([PNG] * (MAX_FILMS + 1))
        assert caught.value.status == 400
