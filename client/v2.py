"""Open Inference Protocol v2: the request and the answer, as JSON (REST) and as protobuf (gRPC)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from client.answers import Prediction, read_prediction
from client.errors import ClientError, ProtocolError
from client.generated.open_inference_grpc_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)


@dataclass(frozen=True)
class Tensor:
    """Images already decoded, stretched and normalised as the model's recipe says.

    Attributes:
        shape: (n, 3, size, size).
        values: flat, row-major, float32; finite, for JSON knows no other.
    """

    shape: tuple[int, int, int, int]
    values: Sequence[float] = field(repr=False)


Films = Sequence[bytes] | Tensor
# A failed film is the error itself, in its film's place.
Row = Prediction | ClientError


def as_json(films: Films, request_id: str) -> bytes:
    """The body of `POST /v2/models/{model}/infer`."""
    if isinstance(films, Tensor):
        part = _header("tensor", "FP32", films.shape) | {"data": [float(value) for value in films.values]}
    else:
        data = [base64.b64encode(film).decode() for film in films]
        part = _header("image", "BYTES", (len(films),)) | {"data": data}
    return json.dumps({"id": request_id, "inputs": [part]}).encode()


def as_message(films: Films, request_id: str, model: str, version: str) -> ModelInferRequest:
    """The request of ModelInfer. TorchServe itself turns the bytes into base64."""
    if isinstance(films, Tensor):
        contents = InferTensorContents(fp32_contents=films.values)
        header = _header("tensor", "FP32", films.shape)
    else:
        contents = InferTensorContents(bytes_contents=films)
        header = _header("image", "BYTES", (len(films),))
    part = ModelInferRequest.InferInputTensor(**header, contents=contents)
    return ModelInferRequest(model_name=model, model_version=version, id=request_id, inputs=[part])


def is_answer(body: bytes) -> bool:
    """Whether an HTTP body is a v2 answer: that of one failed film comes with the status of its error."""
    try:
        return "outputs" in json.loads(body)
    except (TypeError, ValueError):
        return False


def rows_of_json(body: bytes) -> list[Row]:
    """One row per film, in order.

    Raises:
        ProtocolError: no v2 answer, or none with the output "answer".
    """
    try:
        outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
        answers = list(outputs["answer"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("The server's v2 answer is not as agreed.") from error
    return [_row(answer) for answer in answers]


def rows_of_message(response: ModelInferResponse) -> list[Row]:
    """As `rows_of_json`. TorchServe quotes every BYTES element as a JSON string; here the quotes come off."""
    outputs = {output.name: output.contents.bytes_contents for output in response.outputs}
    try:
        answers = [json.loads(quoted) for quoted in outputs["answer"]]
    except (KeyError, ValueError) as error:
        raise ProtocolError("The server's v2 answer is not as agreed.") from error
    return [_row(answer) for answer in answers]


def one_per_film(rows: list[Row], films: Films) -> list[Row]:
    """`rows` themselves.

    Raises:
        ClientError: the only row is the error of a request of several films, which could not be taken apart.
        ProtocolError: another number of rows than films were sent; which is whose is then unknown.
    """
    sent = films.shape[0] if isinstance(films, Tensor) else len(films)
    if len(rows) == sent:
        return rows
    if len(rows) == 1 and isinstance(rows[0], ClientError):
        raise rows[0]
    raise ProtocolError(f"The server answered {len(rows)} of {sent} films.")


def _header(name: str, datatype: str, shape: Sequence[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _row(answer: object) -> Row:
    if not isinstance(answer, str):
        return ProtocolError("The server's v2 answer to a film is no string.")
    try:
        return read_prediction(answer)
    except ClientError as error:
        return error
