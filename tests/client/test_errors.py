from __future__ import annotations

import json
import pickle

import pytest

from client import errors
from client.errors import ClientError, from_answer, from_http, from_rpc
from tests.client.fakes import NO_CAPACITY

IN_JAVA = "org.pytorch.serve"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, errors.BadRequest),
        (404, errors.ModelNotFound),
        (409, errors.RequestRejected),
        (413, errors.FilmTooLarge),
        (415, errors.UnsupportedImage),
        (422, errors.UnreadableImage),
        (500, errors.ServerFault),
        (503, errors.Unavailable),
    ],
)
def test_an_error_of_the_handler_is_classed_by_its_code_alike_in_both_protocols(
    status: int, expected: type[ClientError]
) -> None:
    answer = {"code": status, "type": "MultiFrame", "message": "Two frames.", "request_id": "r-1"}
    for error in (from_answer(answer), from_http(status, json.dumps(answer).encode())):
        assert type(error) is expected
        assert (error.status, error.type, error.message, error.request_id) == tuple(answer.values())
        assert str(error) == "Two frames."


@pytest.mark.parametrize(
    ("status", "type_name", "message", "expected"),
    [
        (404, "ModelNotFoundException", "Model not found: nope", errors.ModelNotFound),
        (
            404,
            "ModelVersionNotFoundException",
            "Model version: 7 does not exist for model: cxr",
            errors.ModelNotFound,
        ),
        (404, "ResourceNotFoundException", "Requested resource is not found, ...", errors.ModelNotFound),
        (400, "InvalidKeyException", "Token Authorization failed. Token either ...", errors.AccessDenied),
        (405, "MethodNotAllowedException", "Requested method is not allowed, ...", errors.RequestRejected),
        (503, "ServiceUnavailableException", NO_CAPACITY, errors.NoCapacity),
        (503, "InternalServerException", "Prediction failed", errors.BatchFailed),
        (500, "InternalServerException", "Worker died.", errors.WorkerDied),
        (507, "InternalServerException", "Worker died.", errors.WorkerDied),
        (500, "InternalServerException", "Worker scaled down.", errors.WorkerDied),
        (500, "NullPointerException", "", errors.ServerFault),
    ],
)
def test_an_error_of_the_rest_front_end(status: int, type_name: str, message: str, expected: type[ClientError]) -> None:
    body = json.dumps({"code": status, "type": type_name, "message": message}, indent=2).encode()
    error = from_http(status, body)
    assert type(error) is expected
    assert (error.status, error.type, error.request_id) == (status, type_name, None)
    assert error.message


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (413, b"", errors.FilmTooLarge),
        (401, b"<html>", errors.AccessDenied),
        (502, b"<html>Bad gateway</html>", errors.Unavailable),
        (504, b"", errors.DeadlineExceeded),
        (302, b"", errors.ProtocolError),
        (500, b"[1]", errors.ServerFault),
    ],
)
def test_an_answer_without_an_error_object(status: int, body: bytes, expected: type[ClientError]) -> None:
    error = from_http(status, body)
    assert type(error) is expected
    assert error.status == status
    assert str(status) in error.message


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (
            "INTERNAL",
            f"Model not found: nope\n{IN_JAVA}.archive.model.ModelNotFoundException",
            errors.ModelNotFound,
        ),
        (
            "INTERNAL",
            f"Model version: 7 does not exist for model: cxr\n{IN_JAVA}.ModelVersionNotFoundException",
            errors.ModelNotFound,
        ),
        ("INTERNAL", "Parameter model_name is required.\nBadRequestException.()", errors.BadRequest),
        ("INTERNAL", f"{NO_CAPACITY}\nInternalServerException.()", errors.NoCapacity),
        ("INTERNAL", f"Worker died.\n{IN_JAVA}.http.InternalServerException", errors.WorkerDied),
        ("RESOURCE_EXHAUSTED", f"Worker died.\n{IN_JAVA}.http.InternalServerException", errors.WorkerDied),
        ("UNAVAILABLE", f"Prediction failed\n{IN_JAVA}.http.InternalServerException", errors.BatchFailed),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: ...", errors.ConnectionFailed),
        ("FAILED_PRECONDITION", f"broken\n{IN_JAVA}.http.InternalServerException", errors.RequestRejected),
        ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (6 vs. 5)", errors.FilmTooLarge),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (6 vs. 5)", errors.ProtocolError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineExceeded),
        ("UNIMPLEMENTED", "Method not found", errors.ProtocolError),
        ("UNAUTHENTICATED", "", errors.AccessDenied),
        ("UNKNOWN", "", errors.ServerFault),
    ],
)
def test_a_grpc_status(code: str, details: str, expected: type[ClientError]) -> None:
    error = from_rpc(code, details)
    assert type(error) is expected
    assert "\n" not in error.message
    assert error.message


def test_a_grpc_error_is_named_by_torchserves_class() -> None:
    assert (
        from_rpc("INTERNAL", f"Worker died.\n{IN_JAVA}.http.InternalServerException").type == "InternalServerException"
    )
    assert from_rpc("INTERNAL", "No name.\nBadRequestException.()").type == "BadRequestException"
    assert from_rpc("UNKNOWN", "").type == "UNKNOWN"


def test_a_reset_stream_is_a_film_too_large_only_if_the_film_was_large() -> None:
    reset = "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))"
    assert type(from_rpc("CANCELLED", reset, sent_bytes=60_000_000)) is errors.FilmTooLarge
    assert type(from_rpc("CANCELLED", reset, sent_bytes=60_000)) is errors.ConnectionFailed


def test_only_what_is_unavailable_may_be_sent_again() -> None:
    again = {cls.__name__ for cls in _tree(errors.Unavailable)}
    assert again == {"Unavailable", "NoCapacity", "BatchFailed", "WorkerDied", "ConnectionFailed"}


def test_the_drawing_shows_every_exception() -> None:
    drawing = errors.__doc__ or ""
    assert all(cls.__name__ in drawing for cls in _tree(ClientError))


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(errors.UnreadableImage("broken", type_name="MultiFrame", request_id="r")))
    assert (error.message, error.status, error.type, error.request_id) == ("broken", 422, "MultiFrame", "r")


def _tree(root: type[ClientError]) -> list[type[ClientError]]:
    return [root, *(cls for child in root.__subclasses__() for cls in _tree(child))]
