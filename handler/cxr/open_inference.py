"""Leaf: the Open Inference Protocol, version 2, to requests and back.

Over gRPC TorchServe hands the handler the JSON it makes of a ModelInferRequest, and takes apart the
JSON it gets back: a row without id, model_name, model_version and outputs kills the worker, so an
error answers with all of them too.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from typing import Any

import torch

from cxr.errors import BadRequest, CxrError, FilmTooLarge
from cxr.reading import Row
from cxr.recipe import Recipe
from cxr.request import Request

MAX_FILMS = 16
"""Films in one request."""
MAX_OTHERS = 1000
"""Values of a request besides its films; and its lists and objects."""
NO_PROBABILITY = -1.0


def check_size(body: bytes, recipe: Recipe) -> None:
    """Before JSON is parsed: each of its values becomes an object of up to 70 bytes for two or three as sent.

    Raises:
        FilmTooLarge: more values, or more lists and objects, than the largest request has.
    """
    most = MAX_FILMS * 3 * recipe.size**2 + MAX_OTHERS
    if body.count(b",") > most or body.count(b"[") + body.count(b"{") > MAX_OTHERS:
        raise FilmTooLarge(f"the JSON has more values than {MAX_FILMS} films need")


def is_infer_request(body: Any) -> bool:
    """Told from other JSON by its `inputs`."""
    return isinstance(body, dict) and isinstance(body.get("inputs"), list)


def id_of(body: Any) -> Any:
    """What the sender calls the request, as it was sent."""
    return body.get("id") if isinstance(body, dict) else None


def parse(body: Any, request_id: str, recipe: Recipe) -> tuple[Request, ...]:
    """One request a film: n films in one row of TorchServe's batch, which share what one film may have of pixels.

    Input `image`: BYTES, shape [n], base64. Input `tensor`: FP32, shape [n, 3, S, S].

    Raises:
        BadRequest: any other input.
    """
    if not is_infer_request(body):
        raise BadRequest("no v2 request: send a JSON object with `inputs`")
    if len(body["inputs"]) != 1 or not isinstance(body["inputs"][0], dict):
        raise BadRequest("send one input: `image` (BYTES, shape [n]) or `tensor` (FP32, shape [n, 3, S, S])")
    films = _films(body["inputs"][0], recipe)
    return tuple(Request(film, request_id, shared_by=len(films)) for film in films)


def _films(entry: dict[str, Any], recipe: Recipe) -> list[Any]:
    name, kind, data = entry.get("name"), entry.get("datatype"), entry.get("data")
    if name == "image" and kind == "BYTES" and isinstance(data, list):
        _check_shape(entry.get("shape"), [], len(data))
        return [_decoded(text) for text in data]
    if name == "tensor" and kind == "FP32" and isinstance(data, list):
        return _tensors(entry.get("shape"), data, recipe.size)
    raise BadRequest("the input is `image` with datatype BYTES or `tensor` with datatype FP32, and has `data`")


def _check_shape(shape: Any, one: list[int], elements: int) -> None:
    """`shape` is [n, *one], n films, with as many elements; checked before memory is taken for them."""
    if not isinstance(shape, list) or not all(type(side) is int for side in shape) or shape[1:] != one:
        raise BadRequest(f"the shape is [n{''.join(f', {side}' for side in one)}]")
    if not shape or not 1 <= shape[0] <= MAX_FILMS:
        raise BadRequest(f"send 1 to {MAX_FILMS} films in one request")
    if elements != math.prod(shape):
        raise BadRequest(f"data has {elements} elements, the shape says {math.prod(shape)}")


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise BadRequest("BYTES elements are base64 strings") from error


def _tensors(shape: Any, data: list[Any], size: int) -> list[Any]:
    _check_shape(shape, [3, size, size], len(data))
    if not all(type(value) in (int, float) for value in data):
        raise BadRequest("data holds numbers only, flat")
    try:
        return list(torch.tensor(data, dtype=torch.float32).reshape(shape).unbind())
    except (OverflowError, RuntimeError) as error:
        raise BadRequest("data holds a number that no FP32 can") from error


# --- back ------------------------------------------------------------------------------------------


def respond(
    request_id: str, error: CxrError | None, rows: Sequence[Row], name: str, recipe: Recipe
) -> tuple[int, dict[str, Any]]:
    """HTTP status and ModelInferResponse.

    `error` is that of a request that could not be taken apart; it stands as its only film's answer. The
    status is an error's only where no film was answered.
    """
    errors = [error] if error is not None else [row.error for row in rows]
    answers = [{}] if error is not None else [row.answer for row in rows]
    bodies = [e.as_json(request_id) if e else a for e, a in zip(errors, answers, strict=True)]
    none_answered = all(e is not None for e in errors)
    status = errors[0].status if none_answered and errors[0] is not None else 200
    count, classes = len(answers), len(recipe.labels)
    outputs = [
        _output("probabilities", "FP32", [count, classes], [p for a in answers for p in _probabilities(a, classes)]),
        _output("prediction", "BYTES", [count], [a.get("prediction", "") for a in answers]),
        _output("decision", "BYTES", [count], [a.get("decision", "error") for a in answers]),
        _output("answer", "BYTES", [count], [json.dumps(body) for body in bodies]),
    ]
    return status, {"id": request_id, "model_name": name, "model_version": recipe.version, "outputs": outputs}


def _probabilities(answer: dict[str, Any], classes: int) -> list[float]:
    found = answer.get("probabilities")
    return list(found.values()) if found else [NO_PROBABILITY] * classes


def _output(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}
