"""A server's row taken apart, and its answer wrapped: plain data, no server, no network."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from cxr.attribution import Attribution
from cxr.envelope import MAX_REQUEST_ID, Asked, unwrap, wrap
from cxr.errors import BadRequest, FilmTooLarge, UnsupportedImage
from cxr.open_inference import MAX_FILMS
from cxr.reading import Explanation, Row
from cxr.request import Explain, Request
from tests.handler.films import RECIPE

FILM = b"\x89PNG\r\n\x1a\n of some film"
V2 = {"id": "v2-1", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["YQ=="]}]}
DEFAULT = Explain("grad_cam", None, overlay=True)
JSON = {"body": {"content-type": "application/json"}}


def asked(row: dict[str, Any], headers: dict[str, Any] | None = None) -> Asked:
    return unwrap(row, headers or {}, "server-1", RECIPE)


def explain(row: dict[str, Any], headers: dict[str, Any] | None = None) -> Explain | None:
    taken = asked({"data": FILM, **row}, headers)
    assert taken.error is None, taken.error
    return taken.requests[0].explain


# --- the film ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["body", "data"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_film_is_taken_as_it_was_sent(name: str, kind: Any) -> None:
    assert asked({name: kind(FILM)}) == Asked("server-1", (Request(FILM, "server-1"),))


@pytest.mark.parametrize(("decoded", "sent"), [("text", b"text"), ({"a": 1}, b'{"a": 1}'), ([1, 2], b"[1, 2]")])
def test_what_a_server_decoded_becomes_bytes_again(decoded: Any, sent: bytes) -> None:
    assert asked({"body": decoded}).requests[0].film == sent


def test_json_that_is_no_v2_request_is_taken_for_a_film_unless_announced() -> None:
    """What is no image is told so later, by its bytes."""
    assert asked({"data": b'{"instances": []}'}).kind == "json"
    assert asked({"body": b'{"instances": []}'}, JSON).kind == "v2"
    assert asked({"body": FILM}, JSON).requests[0].film == FILM


@pytest.mark.parametrize("begin", [b"{", b" {", b'{"inputs": []}'])
def test_a_dicom_preamble_may_begin_with_anything(begin: bytes) -> None:
    film = begin.ljust(128, b"\0") + b"DICM" + b"[" * 100_000
    assert asked({"body": film}) == Asked("server-1", (Request(film, "server-1"),))


@pytest.mark.parametrize("row", [{}, {"film": FILM}, {"explain": b"true"}])
def test_a_row_without_a_film_carries_its_error(row: dict[str, Any]) -> None:
    taken = asked(row)
    assert taken.requests == ()
    assert isinstance(taken.error, BadRequest)


# --- options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "0", "false", "No", "FALSE "])
def test_no_explanation_unless_asked_for(value: str) -> None:
    assert explain({}) is None
    assert explain({"explain": value.encode()}) is None
    assert explain({}, {"X-Cxr-Explain": value}) is None


@pytest.mark.parametrize("value", ["1", "true", "YES", " True "])
def test_yes_is_the_default_method(value: str) -> None:
    assert explain({"explain": value.encode()}) == DEFAULT
    assert explain({}, {"x-cxr-explain": value}) == DEFAULT


def test_the_path_of_explanations_asks_for_one() -> None:
    assert explain({}, {"explain": "True"}) == DEFAULT
    assert explain({}, {"explain": "False"}) is None


def test_a_method_target_and_overlay_are_chosen() -> None:
    entries = {"explain": b"occlusion", "target": b"b", "overlay": b"false"}
    headers = {"X-CXR-Explain": "Occlusion", "X-Cxr-Target": "b", "X-Cxr-Overlay": "0"}
    assert explain(entries) == explain({}, headers) == Explain("occlusion", "b", overlay=False)


def test_an_entry_wins_over_a_header() -> None:
    assert explain({"explain": b"true", "target": b"a"}, {"X-Cxr-Target": "b"}) == Explain("grad_cam", "a")


@pytest.mark.parametrize(
    ("entries", "headers"),
    [({"zoom": b"1"}, {}), ({"Explain": b"1"}, {}), ({"": b""}, {}), ({}, {"X-Cxr-Zoom": "1"}), ({}, {"x-cxr-": ""})],
)
def test_an_unknown_option_is_an_error(entries: dict[str, bytes], headers: dict[str, str]) -> None:
    taken = asked({"data": FILM, **entries}, headers)
    assert isinstance(taken.error, BadRequest)
    assert taken.error.message == "unknown option; known: explain, target, overlay, request_id"


@pytest.mark.parametrize("value", ["maybe", "2", "truee"])
def test_an_overlay_is_true_or_false(value: str) -> None:
    taken = asked({"data": FILM, "explain": b"1", "overlay": value.encode()})
    assert isinstance(taken.error, BadRequest)


def test_bytes_that_are_no_text_are_an_option_all_the_same() -> None:
    assert explain({"explain": b"1", "target": b"\xff\xfe"}) == Explain("grad_cam", "\ufffd\ufffd")


def test_the_overlays_path_asks_for_a_picture_whatever_else_is_said() -> None:
    for headers in ({}, {"explain": "False"}, {"X-Cxr-Overlay": "false"}):
        taken = asked({"body": FILM}, {"url_path": "overlay.png", **headers})
        assert (taken.kind, taken.requests[0].explain) == ("png", DEFAULT)


@pytest.mark.parametrize("path", ["map.png", "overlay.png/x", "../overlay.png"])
def test_another_path_is_an_error(path: str) -> None:
    assert isinstance(asked({"body": FILM}, {"url_path": path}).error, BadRequest)


# --- request ids -------------------------------------------------------------------------------------


def test_the_clients_id_is_kept_and_cut_to_length() -> None:
    long = "x" * 4000
    for taken in (
        asked({"data": FILM}, {"X-Cxr-Request-Id": long}),
        asked({"data": FILM, "request_id": long.encode()}),
        asked({"body": json.dumps(V2 | {"id": long}).encode()}),
    ):
        assert taken.request_id == taken.requests[0].request_id == "x" * MAX_REQUEST_ID


@pytest.mark.parametrize("given", [b"", b"a\nb", b"\x00", "a\u2028b".encode(), "\u202ename".encode()])
def test_an_id_that_cannot_be_printed_gives_way_to_the_servers(given: bytes) -> None:
    assert asked({"data": FILM, "request_id": given}).request_id == "server-1"


@pytest.mark.parametrize("given", [None, 7, {"a": 1}, ["a"], "", "a\tb"])
def test_a_v2_id_that_is_no_printable_text_gives_way_too(given: object) -> None:
    assert asked({"body": json.dumps(V2 | {"id": given}).encode()}).request_id == "server-1"


def test_an_error_carries_the_clients_id() -> None:
    assert asked({"request_id": b"case-7"}).request_id == "case-7"
    assert asked({"body": b'{"id": "case-7", "inputs": []}'}).request_id == "case-7"


# --- v2 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        V2,
        json.dumps(V2),
        json.dumps(V2).encode(),
        b" \n" * 99 + json.dumps(V2).encode(),
        b"\xef\xbb\xbf" + json.dumps(V2).encode(),
    ],
)
def test_a_v2_request_is_known_by_its_inputs(body: Any) -> None:
    assert asked({"body": body}) == Asked("v2-1", (Request(b"a", "v2-1"),), "v2")


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b"<html>", b'{"inputs": 1}', b'{"inputs":' + b"[" * 900])
def test_a_v2_request_gone_wrong_stays_one(body: bytes) -> None:
    for headers in (JSON, {"body": {"content-type": "Application/JSON; charset=utf-8"}}):
        taken = asked({"body": body}, headers)
        assert (taken.kind, type(taken.error)) == ("v2", BadRequest)


@pytest.mark.parametrize("token", [b"[],", b"{},", b"1e1,", b"[[[]]],", b'"",'])
def test_json_of_more_values_than_films_need_is_refused_before_it_is_parsed(
    token: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("parsed"))
    taken = asked({"body": b'{"inputs": [' + token * 1_000_000 + b"0]}"})
    assert (taken.kind, type(taken.error)) == ("v2", FilmTooLarge)


def test_the_largest_request_of_prepared_tensors_is_taken() -> None:
    shape = [MAX_FILMS, 3, RECIPE.size, RECIPE.size]
    entry = {"name": "tensor", "datatype": "FP32", "shape": shape, "data": [0.5] * int(np.prod(shape))}
    assert len(asked({"body": json.dumps({"inputs": [entry]}).encode()}).requests) == MAX_FILMS


# --- out ---------------------------------------------------------------------------------------------


def row(**answer: Any) -> Row:
    return Row(Request(FILM, "case-7"), answer={"prediction": "a", **answer})


def explained() -> Row:
    heat_map = np.zeros((2, 2), np.float32)
    found = row(attribution={"method": "grad_cam"})
    found.explanation = Explanation("grad_cam", "a", Attribution(heat_map), b"\x89PNG overlay")
    return found


def test_an_answer_is_compact_json() -> None:
    answer = wrap(Asked("case-7", (Request(FILM),)), [row()], "cxr", RECIPE)
    assert (answer.status, answer.content_type, answer.body) == (200, "application/json", b'{"prediction":"a"}')


def test_an_overlay_is_base64_in_json_and_a_picture_by_itself() -> None:
    plain = wrap(Asked("case-7", (Request(FILM),)), [explained()], "cxr", RECIPE)
    assert base64.b64decode(json.loads(plain.body)["attribution"]["overlay_png"]) == b"\x89PNG overlay"
    alone = wrap(Asked("case-7", (Request(FILM),), "png"), [explained()], "cxr", RECIPE)
    assert (alone.content_type, alone.body) == ("image/png", b"\x89PNG overlay")


@pytest.mark.parametrize("kind", ["json", "png"])
def test_an_error_is_the_error_object_with_its_status(kind: Any) -> None:
    error = UnsupportedImage("no image")
    broken = Row(Request(FILM), error=error)
    for answer in (
        wrap(Asked("case-7", (), kind, error), [], "cxr", RECIPE),
        wrap(Asked("case-7", (Request(FILM),), kind), [broken], "cxr", RECIPE),
    ):
        assert (answer.status, answer.content_type) == (415, "application/json")
        assert json.loads(answer.body) == error.as_json("case-7")
