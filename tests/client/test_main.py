from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from client.__main__ import main
from tests.client.fakes import ANSWER, REJECTION, FakeRest, FakeRpc, HttpReply, says

ATTRIBUTION = {
    "method": "grad_cam",
    "target": "COVID",
    "map": [[0.0] * 7] * 9,
    "overlay_png": base64.b64encode(b"\x89PNG overlay").decode(),
}


@pytest.fixture
def film_file(tmp_path: Path) -> str:
    path = tmp_path / "film.png"
    path.write_bytes(b"film")
    return str(path)


def test_predict_prints_the_answer(rest: FakeRest, film_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    rest.replies = [HttpReply(200, json.dumps(ANSWER).encode())]
    assert main(["predict", film_file, "--port", rest.url.rpartition(":")[2]]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER


def test_predict_over_grpc(rpc: FakeRpc, film_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    rpc.replies = [says(ANSWER)]
    assert main(["predict", film_file, "--grpc", "--port", rpc.target.rpartition(":")[2]]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER


def test_explain_writes_the_overlay_and_prints_no_picture(
    rest: FakeRest, film_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest.replies = [HttpReply(200, json.dumps({**ANSWER, "attribution": ATTRIBUTION}).encode())]
    output = tmp_path / "overlay.png"
    port = rest.url.rpartition(":")[2]
    assert main(["explain", film_file, "--port", port, "--target", "COVID", "--output", str(output)]) == 0
    assert output.read_bytes() == b"\x89PNG overlay"
    shown = json.loads(capsys.readouterr().out)["attribution"]
    assert shown == {
        "method": "grad_cam",
        "target": "COVID",
        "map": "9 x 7 values, 0..1",
        "overlay_png": str(output),
    }


def test_an_error_is_one_sentence(rest: FakeRest, film_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    rest.replies = [HttpReply(415, json.dumps(REJECTION).encode())]
    assert main(["predict", film_file, "--port", rest.url.rpartition(":")[2]]) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "No image. (UnsupportedImage, 415)\n")


def test_a_missing_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path / "none.png")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/none.png: No such file or directory.\n"
