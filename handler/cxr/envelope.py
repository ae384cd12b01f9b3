"""Leaf: what a server's row asks for, and how its answer is wrapped. Plain data in, plain data out.

REST    body, or multipart field `data`; options as headers X-Cxr-Explain, X-Cxr-Target, X-Cxr-Overlay,
        X-Cxr-Request-Id
gRPC    input map: `data`, and options `explain`, `target`, `overlay`, `request_id`
v2      JSON with `inputs`: see `cxr.open_inference`
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cxr import attribution, open_inference
from cxr.dicom import is_dicom
from cxr.errors import BadRequest, CxrError, internal
from cxr.picture import sniff
from cxr.reading import Row
from cxr.recipe import Recipe
from cxr.request import Explain, Request

log = logging.getLogger(__name__)

BODY_NAMES = ("body", "data")
OPTIONS = ("explain", "target", "overlay", "request_id")
JSON_OBJECT = re.compile(rb"(\xef\xbb\xbf)?\s*\{")
HEADER_PREFIX = "x-cxr-"
OVERLAY_PATH = "overlay.png"
"""Last part of /explanations/<model>/<version>/overlay.png; TorchServe hands it on as header `url_path`."""
YES, NO = ("1", "true", "yes"), ("", "0", "false", "no")
MAX_REQUEST_ID = 128


Kind = Literal["json", "png", "v2"]


@dataclass(frozen=True)
class Asked:
    """One row, taken apart: n films for v2, one otherwise, none where `error` says why."""

    request_id: str
    requests: tuple[Request, ...] = ()
    kind: Kind = "json"
    error: CxrError | None = None


@dataclass(frozen=True)
class Answer:
    """One row's answer, ready to be sent."""

    status: int
    content_type: str
    body: bytes


# --- in --------------------------------------------------------------------------------------------


def unwrap(row: Mapping[str, Any], headers: Mapping[str, Any], server_id: str, recipe: Recipe) -> Asked:
    """Never raises: a row that cannot be understood carries its error.

    Args:
        row: field name -> bytes (or what a server made of them).
        headers: of the request; names are compared without case.
        server_id: request id to use where the client gave none.
    """
    headers = {str(name).lower(): value for name, value in headers.items()}
    request_id = _request_id(row, headers) or server_id
    kind: Kind = "json"
    try:
        name, body = _body(row)
        kind = "v2" if _looks_like_json(body) else "json"
        document = body if isinstance(body, dict) else _json(body, recipe)
        if open_inference.is_infer_request(document) or _announced_as_json(body, name, headers):
            kind = "v2"
            request_id = _clean(open_inference.id_of(document)) or request_id
            return Asked(request_id, open_inference.parse(document, request_id, recipe), kind)
        kind = _kind(headers)
        explain = _explain(_options(row, headers), kind, by_path=_is_yes(headers.get("explain")))
        return Asked(request_id, (Request(_bytes(body), request_id, explain),), kind)
    except CxrError as error:
        return Asked(request_id, (), kind, error)
    except Exception as error:
        log.error("row could not be taken apart: %s", type(error).__name__)
        return Asked(request_id, (), kind, internal(error))


def _body(row: Mapping[str, Any]) -> tuple[str, bytes | dict[str, Any]]:
    """Its field's name, and the encoded film or the JSON of a v2 request."""
    name = next((name for name in BODY_NAMES if name in row), None)
    if name is None:
        raise BadRequest("no film: send its bytes as the body, or as the field `data`")
    body = row[name]
    if isinstance(body, str):
        body = body.encode()
    return name, body if isinstance(body, dict) else _bytes(body)


def _bytes(body: Any) -> bytes:
    return json.dumps(body).encode() if isinstance(body, (dict, list)) else bytes(body)


def _announced_as_json(body: bytes | dict[str, Any], name: str, headers: Mapping[str, Any]) -> bool:
    """Announced as JSON, and neither an image nor a v2 request: a v2 request gone wrong."""
    part = headers.get(name)
    announced = str(part.get("content-type")).partition(";")[0] if isinstance(part, Mapping) else ""
    image = isinstance(body, bytes) and (is_dicom(body) or sniff(body) is not None)
    return announced.strip().lower() == "application/json" and not image


def _looks_like_json(body: bytes | dict[str, Any]) -> bool:
    """A DICOM object's preamble may begin with anything."""
    return isinstance(body, dict) or (JSON_OBJECT.match(body) is not None and not is_dicom(body))


def _json(body: bytes, recipe: Recipe) -> Any:
    if not _looks_like_json(body):
        return None
    open_inference.check_size(body, recipe)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _options(row: Mapping[str, Any], headers: Mapping[str, Any]) -> dict[str, str]:
    by_header = {
        name[len(HEADER_PREFIX) :].replace("-", "_"): str(value)
        for name, value in headers.items()
        if name.startswith(HEADER_PREFIX)
    }
    options = {**by_header, **{name: _text(value) for name, value in row.items() if name not in BODY_NAMES}}
    if options.keys() - set(OPTIONS):
        raise BadRequest(f"unknown option; known: {', '.join(OPTIONS)}")
    return options


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)


def _is_yes(value: Any) -> bool:
    return str(value).strip().lower() in YES


def _explain(options: Mapping[str, str], kind: Kind, *, by_path: bool) -> Explain | None:
    wanted = options.get("explain", "").strip().lower()
    if wanted in NO and not by_path and kind != "png":
        return None
    overlay = options.get("overlay", "true").strip().lower()
    if overlay not in YES + NO:
        raise BadRequest("the option overlay is true or false")
    method = attribution.DEFAULT if wanted in YES + NO else wanted
    return Explain(method, options.get("target") or None, overlay in YES or kind == "png")


def _kind(headers: Mapping[str, Any]) -> Kind:
    path = str(headers.get("url_path") or "")
    if path and path != OVERLAY_PATH:
        raise BadRequest(f"unknown path; known below the version: {OVERLAY_PATH}")
    return "png" if path else "json"


def _request_id(row: Mapping[str, Any], headers: Mapping[str, Any]) -> str | None:
    return _clean(row.get("request_id") or headers.get(HEADER_PREFIX + "request-id"))


def _clean(given: Any) -> str | None:
    """A sender's id, bounded: it stands in every answer, and an answer over TorchServe's limit kills the worker."""
    text = _text(given)[:MAX_REQUEST_ID] if isinstance(given, (str, bytes, bytearray)) else ""
    return text if text.isprintable() else None


# --- out -------------------------------------------------------------------------------------------


def wrap(asked: Asked, rows: Sequence[Row], name: str, recipe: Recipe) -> Answer:
    """The answer to one row; `name` is the registration's."""
    if asked.kind == "v2":
        return _json_answer(*open_inference.respond(asked.request_id, asked.error, rows, name, recipe))
    error = asked.error or rows[0].error
    if error is not None:
        return _json_answer(error.status, error.as_json(asked.request_id))
    answer, explanation = rows[0].answer, rows[0].explanation
    if explanation is not None and explanation.overlay_png is not None:
        if asked.kind == "png":
            return Answer(200, "image/png", explanation.overlay_png)
        answer["attribution"]["overlay_png"] = base64.b64encode(explanation.overlay_png).decode()
    return _json_answer(200, answer)


def _json_answer(status: int, document: dict[str, Any]) -> Answer:
    return Answer(status, "application/json", json.dumps(document, separators=(",", ":")).encode())
