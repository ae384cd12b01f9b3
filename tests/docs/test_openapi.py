"""docs/openapi.yaml is a valid document, and what it promises is what the real server answers."""

from __future__ import annotations

import json
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import pytest
import requests

from serving.torchserve import TorchServe
from tests.docs.document import DOCUMENT, error_example, example, schema_of, validator
from tests.server import films, ways
from tests.server.conftest import workers_stopped
from tests.server.films import HTML, OVER_THE_FRONT_ENDS_LIMIT, OVER_THE_HANDLERS_LIMIT, PNG
from tests.server.ways import EXPLAIN, INFER, OVERLAY, PREDICT, SLOW

spec_validator = pytest.importorskip("openapi_spec_validator")

STUDY = {"X-Cxr-Request-Id": "study-7"}
WITHOUT_OVERLAY = {"X-Cxr-Overlay": "false"}


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


def infer(server: TorchServe, *sent: bytes) -> requests.Response:
    body = {"id": "study-7", "inputs": [ways.images(sent)]}
    schema_of("InferRequest").validate(body)
    return ways.infer(server, body)


# --- the document alone ------------------------------------------------------------------------------


def test_the_document_is_valid_openapi() -> None:
    spec_validator.validate(DOCUMENT)


def test_every_example_fits_its_schema() -> None:
    schemas = {
        "Report": "Prediction",
        "Reject": "Prediction",
        "Explanation": "Explanation",
        "Inferred": "InferResponse",
    }
    for name, schema in schemas.items():
        schema_of(schema).validate(example(name))
    for name, response in DOCUMENT["components"]["responses"].items():
        content = response["content"]["application/json"]
        if "example" in content:
            validator("components", "responses", name, "content", "application/json", "schema").validate(
                content["example"]
            )


def test_the_schemas_tell_a_prediction_from_an_explanation() -> None:
    assert not schema_of("Prediction").is_valid(example("Explanation"))
    assert not schema_of("Explanation").is_valid(example("Report"))


def test_every_operation_names_every_error() -> None:
    for path, item in DOCUMENT["paths"].items():
        assert {"200", "400", "404", "413", "415", "422", "500", "503", "507"} == set(item["post"]["responses"]), path


# --- the real server ---------------------------------------------------------------------------------


def test_a_prediction(server: TorchServe) -> None:
    body = check(PREDICT, ways.post(server, PREDICT, PNG, STUDY), 200)
    schema_of("Prediction").validate(body)
    assert body["request_id"] == "study-7"


def test_a_prediction_of_a_multipart_upload(server: TorchServe) -> None:
    schema_of("Prediction").validate(check(PREDICT, ways.form(server, PREDICT, PNG), 200))


def test_a_prediction_asked_to_explain_itself(server: TorchServe) -> None:
    answer = ways.post(server, PREDICT, PNG, {"X-Cxr-Explain": "true", **WITHOUT_OVERLAY})
    schema_of("Explanation").validate(check(PREDICT, answer, 200))


def test_a_colour_picture_is_rejected_as_the_example_says(server: TorchServe) -> None:
    body, shown = check(PREDICT, ways.post(server, PREDICT, films.colour_picture()), 200), example("Reject")
    for key in ("decision", "warnings", "notice"):
        assert body[key] == shown[key]
    assert {**body["gate"], "score": 0} == {**shown["gate"], "score": 0}


@pytest.mark.parametrize("overlay", ["true", "false"])
def test_an_explanation(server: TorchServe, overlay: str) -> None:
    body = check(EXPLAIN, ways.post(server, EXPLAIN, PNG, {"X-Cxr-Overlay": overlay}), 200)
    assert ("overlay_png" in body["attribution"]) is (overlay == "true")


def test_an_explanation_by_a_slow_method(server: TorchServe) -> None:
    answer = ways.post(server, SLOW, PNG, {"X-Cxr-Explain": "integrated_gradients", **WITHOUT_OVERLAY})
    completeness = check(SLOW, answer, 200)["attribution"]["completeness"]
    assert completeness["steps"] > 0
    assert completeness["complete"] is True


def test_an_overlay(server: TorchServe) -> None:
    answer = ways.post(server, OVERLAY, PNG)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")


FAULTS = {
    "BadRequest": b"",
    "FilmTooLarge": bytes(OVER_THE_HANDLERS_LIMIT),
    "UnsupportedImage": HTML,
    "UnreadableImage": films.dicom(frames=2),
}


@pytest.mark.parametrize("path", [PREDICT, EXPLAIN, OVERLAY])
@pytest.mark.parametrize("response", FAULTS)
def test_an_error_of_the_model_is_the_example(server: TorchServe, path: str, response: str) -> None:
    shown = error_example(response)
    assert check(path, ways.post(server, path, FAULTS[response], STUDY), shown["code"]) == shown


@pytest.mark.parametrize(
    ("option", "value"),
    [("Nonsense", "1"), ("Explain", "tarot"), ("Explain", "occlusion"), ("Target", "Gout"), ("Overlay", "maybe")],
)
def test_an_option_the_model_does_not_have(server: TorchServe, option: str, value: str) -> None:
    check(EXPLAIN, ways.post(server, EXPLAIN, PNG, {f"X-Cxr-{option}": value}), 400)


def test_an_unknown_model_is_the_example(server: TorchServe) -> None:
    assert check(PREDICT, ways.post(server, "/predictions/nope", PNG), 404) == error_example("ModelNotFound")


@pytest.mark.parametrize("asked", ["/predictions/cxr/9.9", "/nothing/here"])
def test_an_unknown_version_or_path(server: TorchServe, asked: str) -> None:
    check(PREDICT, ways.post(server, asked, PNG), 404)


def test_a_request_over_the_servers_own_limit_is_answered_without_a_body(server: TorchServe) -> None:
    answer = ways.post(server, PREDICT, bytes(OVER_THE_FRONT_ENDS_LIMIT))
    assert (answer.status_code, answer.content) == (413, b"")


def test_a_full_queue_is_the_example(server: TorchServe) -> None:
    """One in hand of a worker that does not go on, four that wait: of twelve, seven are turned away."""
    with ThreadPoolExecutor(12) as pool:
        with workers_stopped(server, "cxr-attribution"):
            asked = [pool.submit(ways.post, server, SLOW, PNG, WITHOUT_OVERLAY) for _ in range(12)]
            wait(asked, ways.TIMEOUT_S, FIRST_COMPLETED)
        answers = [future.result() for future in asked]
    turned_away = [answer for answer in answers if answer.status_code != 200]
    assert turned_away
    for answer in turned_away:
        assert check(SLOW, answer, 503) == error_example("NoCapacity")


def test_a_v2_batch(server: TorchServe) -> None:
    body = check(INFER, infer(server, PNG, HTML, PNG), 200)
    outputs = {output["name"]: output for output in body["outputs"]}
    assert outputs["decision"]["data"][1] == "error"
    assert set(outputs["probabilities"]["data"][4:8]) == {-1}
    for text, schema in zip(outputs["answer"]["data"], ["Prediction", "Error", "Prediction"], strict=True):
        schema_of(schema).validate(json.loads(text))


@pytest.mark.parametrize(("data", "status"), [(b"", 400), (HTML, 415)], ids=["empty", "an HTML page"])
def test_a_v2_request_without_a_film_in_it(server: TorchServe, data: bytes, status: int) -> None:
    body = check(INFER, infer(server, data), status)
    schema_of("InferResponse").validate(body)
    if status == 415:
        assert body["outputs"][-1] == example("Inferred")["outputs"][-1]


def test_a_v2_request_that_is_none(server: TorchServe) -> None:
    check(INFER, ways.infer(server, {"inputs": [{"name": "sound"}]}), 400)
