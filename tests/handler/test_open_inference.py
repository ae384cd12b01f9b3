"""The Open Inference Protocol, version 2, without a server."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.errors import BadRequest, CxrError, UnsupportedImage
from cxr.open_inference import MAX_FILMS, NO_PROBABILITY, is_infer_request, parse, respond
from cxr.reading import Row
from cxr.request import Request
from tests.handler.films import RECIPE

SIDE = RECIPE.size
ELEMENTS = 3 * SIDE * SIDE


def images(*films: bytes, **other: Any) -> dict[str, Any]:
    data = [base64.b64encode(film).decode() for film in films]
    entry = {"name": "image", "datatype": "BYTES", "shape": [len(films)], "data": data}
    return {"inputs": [entry | other]}


def tensors(data: list[Any], shape: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "tensor", "datatype": "FP32", "shape": shape, "data": data}]}


# --- in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, MAX_FILMS])
def test_n_images_are_n_requests_in_order(count: int) -> None:
    films = [bytes([number]) for number in range(count)]
    assert parse(images(*films), "case-7", RECIPE) == tuple(Request(film, "case-7", shared_by=count) for film in films)


def test_an_empty_image_is_left_to_fail_by_itself() -> None:
    assert [request.film for request in parse(images(b"", b"a"), "case-7", RECIPE)] == [b"", b"a"]


@pytest.mark.parametrize("count", [1, MAX_FILMS])
def test_a_tensor_is_taken_apart_row_by_row(count: int) -> None:
    wanted = torch.rand(count, 3, SIDE, SIDE)
    body = tensors(wanted.flatten().tolist(), list(wanted.shape))
    found = [request.film for request in parse(body, "case-7", RECIPE)]
    assert all(isinstance(film, torch.Tensor) for film in found)
    assert torch.equal(torch.stack(found), wanted)  # type: ignore[arg-type]


FLAT = [0.5] * ELEMENTS
SHAPE = [1, 3, SIDE, SIDE]
BAD: dict[str, Any] = {
    "no object": [],
    "nothing": None,
    "no inputs": {"id": "x"},
    "inputs no list": {"inputs": {}},
    "no input": {"inputs": []},
    "two inputs": {"inputs": images(b"a")["inputs"] * 2},
    "an input that is no object": {"inputs": ["image"]},
    "too many films": images(*[b"a"] * (MAX_FILMS + 1)),
    "no film": images(),
    "another name": images(b"a", name="picture"),
    "another datatype": images(b"a", datatype="FP32"),
    "a shape for two": images(b"a", shape=[2]),
    "a shape of two sides": images(b"a", shape=[1, 1]),
    "no shape": images(b"a", shape=None),
    "a shape that is no list": images(b"a", shape="1"),
    "data that is no list": images(b"a", data="YQ=="),
    "no data": images(b"a", data=None),
    "no base64": images(b"a", data=["*"]),
    "bad padding": images(b"a", data=["YQ="]),
    "no ASCII": images(b"a", data=["\u00e9"]),
    "no text": images(b"a", data=[1]),
    "nested data": images(b"a", data=[["YQ=="]]),
    "another size": tensors([0.5] * 12, [1, 3, 2, 2]),
    "an empty shape": tensors(FLAT, []),
    "a shape of other things": tensors(FLAT, ["1", 3, SIDE, SIDE]),
    "a shape of fractions": tensors(FLAT, [1.0, 3, SIDE, SIDE]),
    "a shape of truths": tensors(FLAT, [True, 3, SIDE, SIDE]),
    "a negative shape": tensors(FLAT, [-1, 3, SIDE, SIDE]),
    "an empty tensor": tensors([], [0, 3, SIDE, SIDE]),
    "a huge shape": tensors(FLAT, [10**12, 3, SIDE, SIDE]),
    "a shape without end": tensors(FLAT, [10**5000, 3, SIDE, SIDE]),
    "too little data": tensors(FLAT[1:], SHAPE),
    "text among numbers": tensors([*FLAT[1:], "0.5"], SHAPE),
    "null among numbers": tensors([*FLAT[1:], None], SHAPE),
    "a truth among numbers": tensors([*FLAT[1:], True], SHAPE),
    "a list among numbers": tensors([*FLAT[1:], [0.5]], SHAPE),
    "a list of lists": tensors([[0.5]] * ELEMENTS, SHAPE),
    "a number over all bounds": tensors([*FLAT[1:], 10**400], SHAPE),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_anything_else_is_a_bad_request(body: Any) -> None:
    with pytest.raises(BadRequest):
        parse(body, "case-7", RECIPE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["image", "tensor"]) | JSON,
        "datatype": st.sampled_from(["BYTES", "FP32"]) | JSON,
        "shape": st.lists(st.integers(), max_size=4) | st.just(SHAPE) | JSON,
        "data": st.lists(JSON, max_size=4) | JSON,
    },
)


@settings(max_examples=500, deadline=None)
@given(body=st.fixed_dictionaries({"inputs": st.lists(ENTRY, max_size=2) | JSON}) | JSON)
def test_whatever_json_comes_it_is_films_or_a_bad_request(body: Any) -> None:
    try:
        requests = parse(body, "case-7", RECIPE)
    except BadRequest:
        return
    assert is_infer_request(body)
    assert 1 <= len(requests) <= MAX_FILMS


# --- back --------------------------------------------------------------------------------------------

ANSWER = {"prediction": "a", "decision": "report", "probabilities": {"a": 0.75, "b": 0.25}}
GOOD = Row(Request(b"film"), answer=ANSWER)
BROKEN = Row(Request(b"html"), error=UnsupportedImage("no image"))


def back(rows: list[Row], error: CxrError | None = None) -> tuple[int, dict[str, Any]]:
    status, document = respond("case-7", error, rows, "cxr", RECIPE)
    assert (document["id"], document["model_name"], document["model_version"]) == ("case-7", "cxr", "1")
    outputs = {output["name"]: output for output in document["outputs"]}
    for output in outputs.values():
        elements = 1
        for side in output["shape"]:
            elements *= side
        assert len(output["data"]) == elements
    return status, {name: output["data"] for name, output in outputs.items()}


def test_every_film_has_its_place_in_every_output() -> None:
    status, outputs = back([GOOD, BROKEN, GOOD])
    assert status == 200
    assert outputs["probabilities"] == [0.75, 0.25, NO_PROBABILITY, NO_PROBABILITY, 0.75, 0.25]
    assert outputs["prediction"] == ["a", "", "a"]
    assert outputs["decision"] == ["report", "error", "report"]
    answers = [json.loads(text) for text in outputs["answer"]]
    assert answers == [ANSWER, UnsupportedImage("no image").as_json("case-7"), ANSWER]


@pytest.mark.parametrize(
    ("rows", "error"), [([BROKEN, BROKEN], None), ([BROKEN], None), ([], UnsupportedImage("no image"))]
)
def test_where_no_film_is_answered_the_status_says_so(rows: list[Row], error: CxrError | None) -> None:
    status, outputs = back(rows, error)
    assert status == 415
    assert set(outputs["decision"]) == {"error"}
