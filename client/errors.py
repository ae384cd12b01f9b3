"""Why a call brought no answer: one tree for the handler's errors and TorchServe's own, over REST and gRPC.

    ClientError
    ├── RequestRejected              the request is at fault: the same bytes fail again
    │   ├── BadRequest          400  empty body, unknown option
    │   ├── AccessDenied   401, 403  the token is missing, wrong or expired
    │   ├── ModelNotFound       404  no such model or version
    │   ├── FilmTooLarge        413  more bytes or pixels than the limit
    │   ├── UnsupportedImage    415  bytes that are no image the service reads
    │   └── UnreadableImage     422  an image, but broken, truncated or without a film in it
    ├── Unavailable             503  nothing is known against the film: worth sending again
    │   ├── NoCapacity          503  queue full or no worker; TorchServe has the same words for both
    │   ├── BatchFailed         503  the worker gave up on the whole batch
    │   ├── WorkerDied     500, 507  the worker's process ended, perhaps over this very film
    │   └── ConnectionFailed         refused, reset, unreachable
    ├── DeadlineExceeded        504  no answer in the time the caller gave
    ├── ServerFault             500  the service failed in a way it did not foresee
    └── ProtocolError                an answer this client does not understand

Predictions change nothing on the server, so whatever is `Unavailable` may be sent again, and only that.
Raw codes do not tell: a dead worker is 500 or 507 over REST, INTERNAL or RESOURCE_EXHAUSTED over gRPC, and a
full queue and an unknown model are both INTERNAL. TorchServe's words do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """A call without an answer.

    Attributes:
        status: the HTTP status, over gRPC the one REST would have had; None where no server answered.
        type: the server's name of the error, or this class's.
        message: one sentence.
        request_id: the handler's id of the request; None for errors of the front end.
    """

    status: int | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type_name: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or type(self).status
        self.type = type_name or type(self).__name__
        self.request_id = request_id


class RequestRejected(ClientError):
    status = 400


class BadRequest(RequestRejected):
    pass


class AccessDenied(RequestRejected):
    status = 401


class ModelNotFound(RequestRejected):
    status = 404


class FilmTooLarge(RequestRejected):
    status = 413


class UnsupportedImage(RequestRejected):
    status = 415


class UnreadableImage(RequestRejected):
    status = 422


class Unavailable(ClientError):
    status: int | None = 503


class NoCapacity(Unavailable):
    pass


class BatchFailed(Unavailable):
    pass


class WorkerDied(Unavailable):
    status = 500


class ConnectionFailed(Unavailable):
    status = None


class DeadlineExceeded(ClientError):
    status = 504


class ServerFault(ClientError):
    status = 500


class ProtocolError(ClientError):
    pass


_BY_STATUS: dict[int, type[ClientError]] = {
    400: BadRequest,
    401: AccessDenied,
    403: AccessDenied,
    404: ModelNotFound,
    413: FilmTooLarge,
    415: UnsupportedImage,
    422: UnreadableImage,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}

# What TorchServe 0.12's front end writes, and gRPC's own limits, in the order in which they are looked for.
_BY_WORDS: tuple[tuple[str, type[ClientError]], ...] = (
    ("Model not found", ModelNotFound),
    ("does not exist for model", ModelNotFound),
    ("has no worker to serve", NoCapacity),
    ("Prediction failed", BatchFailed),
    ("Worker died", WorkerDied),
    ("Worker scaled down", WorkerDied),
    ("Token Auth", AccessDenied),
    ("CLIENT: Received message larger than max", ProtocolError),
    ("larger than max", FilmTooLarge),
    ("exceeds maximum size", FilmTooLarge),
    ("BadRequestException", BadRequest),
)

_BY_RPC_CODE: dict[str, type[ClientError]] = {
    "CANCELLED": ConnectionFailed,
    "INVALID_ARGUMENT": BadRequest,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NOT_FOUND": ModelNotFound,
    "PERMISSION_DENIED": AccessDenied,
    "RESOURCE_EXHAUSTED": NoCapacity,
    "FAILED_PRECONDITION": RequestRejected,
    "UNIMPLEMENTED": ProtocolError,
    "UNAVAILABLE": ConnectionFailed,
    "UNAUTHENTICATED": AccessDenied,
}

# TorchServe resets the stream of a message over its max_request_size and says no more. No server in its right
# mind sets that below the default, so a reset of anything smaller has another cause.
_TORCHSERVE_DEFAULT_LIMIT = 6_553_500


def from_answer(answer: Mapping[str, Any]) -> ClientError:
    """The error object of the handler, `{"code", "type", "message", "request_id"}`, as an exception."""
    status, request_id = answer.get("code"), answer.get("request_id")
    if not isinstance(status, int):
        return ProtocolError("The server sent an error without a numeric code.")
    return _by_status(status)(
        str(answer.get("message", "")),
        status=status,
        type_name=str(answer["type"]) if "type" in answer else None,
        request_id=None if request_id is None else str(request_id),
    )


def from_http(status: int, body: bytes) -> ClientError:
    """An HTTP answer other than 200, of the handler, of TorchServe or of a proxy before it."""
    answer = _error_object(body)
    if "request_id" in answer:
        return from_answer({**answer, "code": status})
    message = str(answer.get("message") or f"The server answered with status {status}.")
    type_name = str(answer["type"]) if "type" in answer else None
    return (_by_words(message) or _by_status(status))(message, status=status, type_name=type_name)


def from_rpc(code: str, details: str, sent_bytes: int = 0) -> ClientError:
    """A gRPC status, `code` by name; `details` is TorchServe's sentence and, on a second line, its class."""
    lines = details.splitlines() or [f"The call ended with {code}."]
    type_name = lines[-1].removesuffix(".()").rpartition(".")[2] if len(lines) > 1 else None
    if code == "CANCELLED" and sent_bytes > _TORCHSERVE_DEFAULT_LIMIT:
        return FilmTooLarge(f"The server hung up on a message of {sent_bytes} bytes.", type_name=code)
    error = _by_words(details) if code != "DEADLINE_EXCEEDED" else None
    return (error or _BY_RPC_CODE.get(code, ServerFault))(lines[0], type_name=type_name or code)


def _by_status(status: int) -> type[ClientError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < 400:
        return ProtocolError
    return RequestRejected if status < 500 else ServerFault


def _by_words(message: str) -> type[ClientError] | None:
    return next((error for words, error in _BY_WORDS if words in message), None)


def _error_object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
