"""docs/openapi.yaml, its schemas and its examples."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml

from tests.parts import ROOT

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())


@cache
def validator(*pointer: str) -> Any:
    """Of the schema at this place in the document."""
    resource = referencing.Resource.from_contents(DOCUMENT, referencing.jsonschema.DRAFT202012)
    registry = referencing.Registry().with_resource("urn:cxr", resource)
    path = "/".join(part.replace("~", "~0").replace("/", "~1") for part in pointer)
    return jsonschema.Draft202012Validator({"$ref": f"urn:cxr#/{path}"}, registry=registry)


def schema_of(name: str) -> Any:
    return validator("components", "schemas", name)


def error_example(response: str) -> Any:
    """The JSON that the document shows of one of its responses."""
    return DOCUMENT["components"]["responses"][response]["content"]["application/json"]["example"]


def example(name: str) -> Any:
    return DOCUMENT["components"]["examples"][name]["value"]
