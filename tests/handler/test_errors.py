from __future__ import annotations

import inspect

import pytest

from cxr import errors
from cxr.errors import CxrError

STATUS = {
    "CxrError": 500, "BadRequest": 400, "WrongModel": 400, "FilmTooLarge": 413, "UnsupportedImage": 415,
    "UnsupportedEncoding": 415, "UnreadableImage": 422, "MultiFrame": 422, "NotAFilm": 422,
}  # fmt: skip
CLASSES = dict(inspect.getmembers(errors, lambda member: inspect.isclass(member) and issubclass(member, CxrError)))


def test_the_tree_holds_exactly_the_contract() -> None:
    assert {name: member.status for name, member in CLASSES.items()} == STATUS


@pytest.mark.parametrize("name", STATUS)
def test_the_tree_is_drawn_with_the_status_of_each_class(name: str) -> None:
    line = next(line for line in (errors.__doc__ or "").splitlines() if f" {name} " in line)
    assert str(STATUS[name]) in line


@pytest.mark.parametrize("name", STATUS)
def test_an_error_answers_in_the_one_shape(name: str) -> None:
    assert CLASSES[name]("why").as_json("r1") == {
        "code": STATUS[name], "type": name, "message": "why", "request_id": "r1",
    }  # fmt: skip
