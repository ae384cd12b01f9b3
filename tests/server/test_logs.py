"""No patient, and no name a sender puts anywhere else, is ever found in a file of the run folder.

A request id is the sender's own text and may hold a name: it comes back in the answer and is written nowhere.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import requests
from pydicom import uid

from serving.torchserve import TorchServe
from tests.parts import chunk
from tests.server import films, ways
from tests.server.ways import EXPLAIN, PREDICT, WAYS

pytestmark = pytest.mark.usefixtures("unharmed")

NAME = "Zyxqvistberg"
"""A surname that nobody has and no library contains."""
PATIENT = {
    "PatientName": f"{NAME}^Anna",
    "PatientID": f"{NAME}-4711",
    "PatientBirthDate": NAME,  # no date: what pydicom would quote in a warning
    "InstitutionName": f"{NAME} Hospital",
    "ReferringPhysicianName": f"{NAME}^Dr",
    "StudyDate": NAME,
    "AccessionNumber": f"{NAME}-0815-longer-than-sixteen",
    "PatientAge": NAME,
    "OtherPatientIDs": [f"{NAME}-1", f"{NAME}-2"],
    "BurnedInAnnotation": NAME,
}


def whole() -> bytes:
    return films.dicom(**PATIENT)


FILMS = {
    "good": whole(),
    "cut off in the pixels": whole()[:-1000],
    "cut off in the patient": whole()[: whole().index(NAME.encode()) + 200],
    "deflated": films.dicom(syntax=uid.DeflatedExplicitVRLittleEndian, **PATIENT),
    "big endian": films.dicom(syntax=uid.ExplicitVRBigEndian, **PATIENT),
    "broken frame": films.dicom(syntax=uid.JPEG2000Lossless, **PATIENT),
    "undecodable": films.dicom(syntax=uid.MPEG4HP41, **PATIENT),
    "a report": films.dicom(sop_class=uid.BasicTextSRStorage, with_pixels=False, **PATIENT),
    "a name where a number belongs": films.dicom(WindowCenter="40", WindowWidth="400", **PATIENT).replace(
        b"\x28\x00\x50\x10DS\x02\x0040", b"\x28\x00\x50\x10DS\x02\x00Zy"
    ),
    "a name as SOP class": films.dicom(sop_class=NAME, with_pixels=False, **PATIENT),
    "a name as transfer syntax": whole().replace(b"1.2.840.10008.1.2.1\x00", NAME.encode().ljust(20, b"\x00")),
    "many frames": films.dicom(frames=2, **PATIENT),
    "text": f"{NAME} was here".encode(),
    "a PNG with a comment": films.PNG[:33] + chunk(b"tEXt", f"Title\0{NAME}".encode()) + films.PNG[33:],
}  # fmt: skip


Searched = dict[Path, tuple[int, int]]
"""Size and time of change of each file when it was last searched: archives and weights are so once, logs often."""


def found(server: TorchServe, words: list[bytes], searched: Searched) -> dict[str, list[bytes]]:
    """Which of the words each file of the run folder contains, unless it is as it was when it was searched before."""
    hits = {}
    for path in filter(Path.is_file, server.run.rglob("*")):
        stamp = (path.stat().st_size, path.stat().st_mtime_ns)
        if searched.get(path) != stamp:
            text = path.read_bytes()
            hits[str(path)] = [word for word in words if word in text]
            searched[path] = stamp
    return {path: words for path, words in hits.items() if words}


def traces() -> list[bytes]:
    """The name as text, in UTF-16, and inside base64 at each of its three alignments."""
    name = NAME.encode()
    shifted = [base64.b64encode(bytes(shift) + name)[4:-4] for shift in range(3)]
    return [name, NAME.lower().encode(), NAME.upper().encode(), NAME.encode("utf-16-le"), *shifted]


@pytest.fixture(scope="module")
def searched() -> Searched:
    return {}


@pytest.fixture(autouse=True)
def nothing_is_written(server: TorchServe, searched: Searched) -> Iterator[None]:
    yield
    assert found(server, traces(), searched) == {}


def test_the_search_finds_what_is_there(server: TorchServe) -> None:
    assert any(path.endswith("model_log.log") for path in found(server, [b"Torch worker started"], {}))


@pytest.mark.parametrize("film", FILMS.values(), ids=FILMS.keys())
def test_no_patient_of_any_film_by_any_way(server: TorchServe, film: bytes) -> None:
    assert NAME.encode() in film or film is FILMS["deflated"]
    for way in WAYS.values():
        answer = way(server, film, f"{NAME}-id")
        assert answer["request_id"] == f"{NAME}-id"
        assert NAME not in {**answer, "request_id": ""}.get("message", "")
    ways.post(server, EXPLAIN, film)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Cxr-Request-Id": NAME},
        {"X-Cxr-Target": NAME},
        {"X-Cxr-Explain": NAME},
        {f"X-Cxr-{NAME}": "1"},
        {"X-Patient": NAME, "User-Agent": NAME, "Authorization": f"Bearer {NAME}"},
        {"Content-Type": NAME},
        {"Content-Type": f"multipart/form-data; boundary={NAME}"},
    ],
)
def test_no_header(server: TorchServe, headers: dict[str, str | bytes]) -> None:
    for film in (films.PNG, films.HTML):
        assert ways.post(server, EXPLAIN, film, headers).status_code in (200, 400, 415)


@pytest.mark.parametrize(
    "path",
    [
        f"/predictions/cxr?PatientName={NAME}",
        f"/predictions/{NAME}",
        f"/predictions/cxr/{NAME}",
        f"/explanations/cxr/1.0/{NAME}",
        f"/v2/models/{NAME}/infer",
        f"/v1/models/cxr:predict?x={NAME}",
        f"/cxr/predict?{NAME}={NAME}",
        f"/invocations?model_name={NAME}",
        f"/{NAME}/../..%00/{NAME}",
    ],
)
def test_no_address(server: TorchServe, path: str) -> None:
    ways.post(server, path, films.HTML)
    ways.post(server, path, whole())


@pytest.mark.parametrize("body", [f"data=%zz{NAME}", f"{NAME}=%", f"%zz{NAME}=1"])
def test_no_web_form(server: TorchServe, body: str) -> None:
    """`curl -d @film.dcm`: Netty quotes what it cannot decode."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ways.post(server, PREDICT, body, form).status_code >= 400
    assert ways.post(server, PREDICT, whole() + b"%zz", form).status_code >= 400


def test_no_multipart_field(server: TorchServe) -> None:
    ways.form(server, PREDICT, whole(), **{NAME: NAME})
    ways.form(server, PREDICT, None, target=NAME)
    requests.post(server.inference_url + PREDICT, files={"data": (f"{NAME}.dcm", films.HTML, NAME)}, timeout=60)


def test_no_entry_of_a_grpc_call(server: TorchServe) -> None:
    name = NAME.encode()
    ways.predictions(server, data=whole(), target=name, explain=name)
    ways.predictions(server, **{NAME: name})
    with pytest.raises(grpc.RpcError):
        ways.predictions(server, model=NAME, data=whole())


@pytest.mark.parametrize("field", ["name", "datatype", "data"])
def test_no_field_of_a_v2_request(server: TorchServe, field: str) -> None:
    value: object = [f"{NAME}="] if field == "data" else NAME
    entry = {**ways.images([films.HTML]), field: value}
    assert ways.infer(server, {"id": NAME, "inputs": [entry], "parameters": {"patient": NAME}}).status_code >= 400
    if field != "data":
        ways.model_infer(server, [{**entry, "data": []}], NAME)
    ways.infer(server, '{"inputs": [{"name": "' + NAME)
