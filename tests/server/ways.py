"""The five ways a film reaches the handler, raw: what `client/` would hide is looked at here."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import requests

from client.generated.inference_pb2 import PredictionsRequest
from client.generated.inference_pb2_grpc import InferenceAPIsServiceStub
from client.generated.open_inference_grpc_pb2 import InferTensorContents, ModelInferRequest, ModelInferResponse
from client.generated.open_inference_grpc_pb2_grpc import GRPCInferenceServiceStub
from serving.torchserve import TorchServe

TIMEOUT_S = 600
RAW = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
PREDICT, EXPLAIN, OVERLAY = "/predictions/cxr", "/explanations/cxr", "/explanations/cxr/1.0/overlay.png"
SLOW, INFER = "/explanations/cxr-attribution", "/v2/models/cxr/infer"
Answer = dict[str, Any]


# --- REST --------------------------------------------------------------------------------------------


def post(
    server: TorchServe, path: str, body: bytes | str, headers: dict[str, str | bytes] | None = None
) -> requests.Response:
    return requests.post(server.inference_url + path, data=body, headers={**RAW, **(headers or {})}, timeout=TIMEOUT_S)


def form(server: TorchServe, path: str, data: bytes | None, /, **fields: str) -> requests.Response:
    """Multipart: the film as the field `data`, options as further fields."""
    parts: dict[str, Any] = {name: (None, text) for name, text in fields.items()}
    if data is not None:
        parts["data"] = ("film.dcm", data)
    return requests.post(server.inference_url + path, files=parts, timeout=TIMEOUT_S)


def read(response: requests.Response) -> Answer:
    """The JSON; an error's says the status that HTTP says."""
    body: Answer = response.json()
    assert response.status_code == body.get("code", 200), body
    assert response.headers["Content-Type"] == "application/json"
    return body


# --- gRPC --------------------------------------------------------------------------------------------


@contextmanager
def channel(server: TorchServe) -> Iterator[grpc.Channel]:
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_target, options=limits) as opened:
        yield opened


def predictions(server: TorchServe, model: str = "cxr", **entries: bytes) -> Answer:
    """InferenceAPIsService.Predictions with this input map."""
    with channel(server) as opened:
        request = PredictionsRequest(model_name=model, input=entries)
        reply = InferenceAPIsServiceStub(opened).Predictions(request, timeout=TIMEOUT_S)
    answer: Answer = json.loads(reply.prediction)
    return answer


# --- Open Inference Protocol, version 2 --------------------------------------------------------------


def images(films: Sequence[bytes]) -> dict[str, Any]:
    data = [base64.b64encode(film).decode() for film in films]
    return {"name": "image", "datatype": "BYTES", "shape": [len(films)], "data": data}


def infer(server: TorchServe, body: object, model: str = "cxr") -> requests.Response:
    """POST /v2/models/<model>/infer; `body` as it is if it is text or bytes, else as JSON."""
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return post(server, f"/v2/models/{model}/infer", text, JSON)


def model_infer(
    server: TorchServe, inputs: list[dict[str, Any]], request_id: str = "", model: str = "cxr"
) -> ModelInferResponse:
    """GRPCInferenceService.ModelInfer with the same inputs as `infer`; its data go where its datatype says."""
    fields = {"BYTES": "bytes_contents", "FP32": "fp32_contents", "INT32": "int_contents"}
    tensors = []
    for entry in inputs:
        data = entry["data"]
        if entry["datatype"] == "BYTES":
            data = [base64.b64decode(text) for text in data]
        field = fields.get(entry["datatype"])
        contents = InferTensorContents(**({field: data} if field else {}))
        head = {name: entry[name] for name in ("name", "datatype", "shape")}
        tensors.append(ModelInferRequest.InferInputTensor(**head, contents=contents))
    with channel(server) as opened:
        request = ModelInferRequest(model_name=model, id=request_id, inputs=tensors)
        return GRPCInferenceServiceStub(opened).ModelInfer(request, timeout=TIMEOUT_S)


def outputs_of(reply: ModelInferResponse) -> dict[str, list[Any]]:
    """Output name -> data; of its BYTES the quotes come off that TorchServe puts on."""
    found = {}
    for output in reply.outputs:
        contents = output.contents
        data = list(contents.fp32_contents) or [json.loads(text) for text in contents.bytes_contents]
        found[output.name] = data
    return found


def answers_of(outputs: dict[str, list[Any]]) -> list[Answer]:
    return [json.loads(text) for text in outputs["answer"]]


# --- one film, one answer ----------------------------------------------------------------------------


def by_raw_body(server: TorchServe, film: bytes, request_id: str) -> Answer:
    return read(post(server, PREDICT, film, {"X-Cxr-Request-Id": request_id}))


def by_multipart(server: TorchServe, film: bytes, request_id: str) -> Answer:
    return read(form(server, PREDICT, film, request_id=request_id))


def by_grpc(server: TorchServe, film: bytes, request_id: str) -> Answer:
    return predictions(server, data=film, request_id=request_id.encode())


def by_v2_rest(server: TorchServe, film: bytes, request_id: str) -> Answer:
    response = infer(server, {"id": request_id, "inputs": [images([film])]})
    body = response.json()
    assert (body["id"], body["model_name"], body["model_version"]) == (request_id, "cxr", "1.0")
    [answer] = answers_of({output["name"]: output["data"] for output in body["outputs"]})
    assert response.status_code == answer.get("code", 200)
    return answer


def by_v2_grpc(server: TorchServe, film: bytes, request_id: str) -> Answer:
    reply = model_infer(server, [images([film])], request_id)
    assert (reply.id, reply.model_name, reply.model_version) == (request_id, "cxr", "1.0")
    [answer] = answers_of(outputs_of(reply))
    return answer


Way = Callable[[TorchServe, bytes, str], Answer]
WAYS: dict[str, Way] = {
    "raw body": by_raw_body,
    "multipart": by_multipart,
    "gRPC": by_grpc,
    "v2 REST": by_v2_rest,
    "v2 gRPC": by_v2_grpc,
}
