"""docs/openapi.yaml is a valid document, and what it promises is what the real server answers."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")
spec_validator = pytest.importorskip("openapi_spec_validator")

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
FILM = ROOT / "tests" / "films" / "RG1.png"

PREDICT, EXPLAIN = "/predictions/cxr", "/explanations/cxr"
SLOW, OVERLAY = "/explanations/cxr-attribution", "/explanations/cxr/1.0/overlay.png"
INFER = "/v2/models/cxr/infer"
RAW = {"Content-Type": "application/octet-stream"}
TOO_LARGE_FOR_THE_MODEL, TOO_LARGE_FOR_THE_SERVER = 41_000_000, 57_000_000


@cache
def validator(*pointer: str) -> Any:
    """Of the schema at this place in the document."""
    resource = referencing.Resource.from_contents(DOCUMENT, referencing.jsonschema.DRAFT202012)
    registry = referencing.Registry().with_resource("urn:cxr", resource)
    path = "/".join(part.replace("~", "~0").replace("/", "~1") for part in pointer)
    return jsonschema.Draft202012Validator({"$ref": f"urn:cxr#/{path}"}, registry=registry)


def schema_of(name: str) -> Any:
    return validator("components", "schemas", name)


def check(path: str, answer: requests.Response, status: int) -> Any:
    """Hold `answer` against what the document says of `path`; return its JSON."""
    assert answer.status_code == status, answer.text[:500]
    place = ["paths", path, "post", "responses", str(status)]
    promised = DOCUMENT["paths"][path]["post"]["responses"][str(status)]
    if "$ref" in promised:
        place = promised["$ref"].removeprefix("#/").split("/")
    body = answer.json()
    validator(*place, "content", "application/json", "schema").validate(body)
    return body


def post(server: Any, path: str, data: bytes, **headers: str) -> requests.Response:
    options = {f"X-Cxr-{name.replace('_', '-')}": value for name, value in headers.items()}
    return requests.post(server.inference_url + path, data=data, headers=RAW | options, timeout=120)


def infer(server: Any, *films: bytes) -> requests.Response:
    data = [base64.b64encode(film).decode() for film in films]
    part = {"name": "image", "datatype": "BYTES", "shape": [len(films)], "data": data}
    body = {"id": "i", "inputs": [part]}
    schema_of("InferRequest").validate(body)
    return requests.post(server.inference_url + INFER, json=body, timeout=120)


@pytest.fixture(scope="module")
def film() -> bytes:
    return FILM.read_bytes()


# --- the document alone ------------------------------------------------------------------------------


def test_the_document_is_valid_openapi() -> None:
    spec_validator.validate(DOCUMENT)


def test_every_example_fits_its_schema() -> None:
    examples = DOCUMENT["components"]["examples"]
    for name, schema in {
        "Report": "Prediction",
        "Reject": "Prediction",
        "Explanation": "Explanation",
        "Inferred": "InferResponse",
    }.items():
        schema_of(schema).validate(examples[name]["value"])
    for name, response in DOCUMENT["components"]["responses"].items():
        content = response["content"]["application/json"]
        if "example" in content:
            validator("components", "responses", name, "content", "application/json", "schema").validate(
                content["example"]
            )


def test_the_schemas_tell_a_prediction_from_an_explanation() -> None:
    examples = DOCUMENT["components"]["examples"]
    assert not schema_of("Prediction").is_valid(examples["Explanation"]["value"])
    assert not schema_of("Explanation").is_valid(examples["Report"]["value"])


def test_every_operation_names_every_error() -> None:
    for path, item in DOCUMENT["paths"].items():
        assert {"200", "400", "404", "413", "415", "422", "500", "503", "507"} == set(item["post"]["responses"]), path


# --- the real server ---------------------------------------------------------------------------------


def test_a_prediction(server: Any, film: bytes) -> None:
    body = check(PREDICT, post(server, PREDICT, film, Request_Id="study-7"), 200)
    schema_of("Prediction").validate(body)
    assert body["request_id"] == "study-7"


def test_a_prediction_of_a_multipart_upload(server: Any, film: bytes) -> None:
    answer = requests.post(server.inference_url + PREDICT, files={"data": ("film.png", film)}, timeout=120)
    schema_of("Prediction").validate(check(PREDICT, answer, 200))


def test_a_prediction_asked_to_explain_itself(server: Any, film: bytes) -> None:
    answer = post(server, PREDICT, film, Explain="true", Overlay="false")
    schema_of("Explanation").validate(check(PREDICT, answer, 200))


@pytest.mark.parametrize("overlay", ["true", "false"])
def test_an_explanation(server: Any, film: bytes, overlay: str) -> None:
    body = check(EXPLAIN, post(server, EXPLAIN, film, Overlay=overlay), 200)
    assert ("overlay_png" in body["attribution"]) is (overlay == "true")


def test_an_explanation_by_a_slow_method(server: Any, film: bytes) -> None:
    body = check(SLOW, post(server, SLOW, film, Explain="integrated_gradients", Overlay="false"), 200)
    assert body["attribution"]["completeness"]["steps"] > 0
    assert body["attribution"]["completeness"]["complete"] is True


def test_an_overlay(server: Any, film: bytes) -> None:
    answer = post(server, OVERLAY, film)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")


@pytest.mark.parametrize("path", [PREDICT, EXPLAIN, OVERLAY])
@pytest.mark.parametrize(
    ("status", "make"),
    [
        (400, lambda film: b""),
        (413, lambda film: bytes(TOO_LARGE_FOR_THE_MODEL)),
        (415, lambda film: b"<html><body>no film</body></html>"),
        (422, lambda film: film[: len(film) // 2]),
    ],
)
def test_an_error_of_the_model(server: Any, film: bytes, path: str, status: int, make: Any) -> None:
    body = check(path, post(server, path, make(film), Request_Id="study-7"), status)
    assert (body["code"], body["request_id"]) == (status, "study-7")


@pytest.mark.parametrize(
    "options",
    [
        {"Nonsense": "1"},
        {"Explain": "tarot"},
        {"Explain": "occlusion"},
        {"Target": "Gout"},
        {"Overlay": "maybe"},
    ],
)
def test_an_option_the_model_does_not_have(server: Any, film: bytes, options: dict[str, str]) -> None:
    check(EXPLAIN, post(server, EXPLAIN, film, **options), 400)


@pytest.mark.parametrize("asked", ["/predictions/nope", "/predictions/cxr/9.9", "/nothing/here"])
def test_an_unknown_model_version_or_path(server: Any, film: bytes, asked: str) -> None:
    body = check(PREDICT, post(server, asked, film), 404)
    schema_of("FrontEndError").validate(body)


def test_a_request_over_the_servers_own_limit_is_answered_without_a_body(server: Any) -> None:
    answer = post(server, PREDICT, bytes(TOO_LARGE_FOR_THE_SERVER))
    assert (answer.status_code, answer.content) == (413, b"")


def test_a_full_queue(server: Any, film: bytes) -> None:
    def ask(_: int) -> requests.Response:
        return post(server, SLOW, film, Explain="gradient_shap", Overlay="false")

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    turned_away = [answer for answer in answers if answer.status_code != 200]
    assert turned_away
    for answer in turned_away:
        check(SLOW, answer, 503)


def test_a_v2_batch(server: Any, film: bytes) -> None:
    body = check(INFER, infer(server, film, b"<html>", film), 200)
    outputs = {output["name"]: output for output in body["outputs"]}
    assert outputs["decision"]["data"][1] == "error"
    assert set(outputs["probabilities"]["data"][4:8]) == {-1}
    for text, schema in zip(outputs["answer"]["data"], ["Prediction", "Error", "Prediction"], strict=True):
        schema_of(schema).validate(json.loads(text))


@pytest.mark.parametrize(("data", "status"), [(b"", 400), (b"<html>", 415)])
def test_a_v2_request_without_a_film_in_it(server: Any, data: bytes, status: int) -> None:
    body = check(INFER, infer(server, data), status)
    schema_of("InferResponse").validate(body)


def test_a_v2_request_that_is_none(server: Any) -> None:
    answer = requests.post(server.inference_url + INFER, json={"inputs": [{"name": "sound"}]}, timeout=120)
    check(INFER, answer, 400)
