from __future__ import annotations

import json
from pathlib import Path

import pytest

from cxr.reading import Reader
from cxr.request import Explain, Request
from tests.handler import films
from tests.handler.asking import ask, run_tensors
from tests.handler.films import RG1_PNG, chest

RG1 = RG1_PNG.read_bytes()
GREY = chest(bits=8)


# --- patient data ----------------------------------------------------------------------------------

PATIENT = {
    "PatientName": "DOE^JOHN", "PatientID": "DOE-1956", "PatientBirthDate": "19560304", "InstitutionName": "DOE CLINIC",
    "StudyDescription": "DOE THORAX", "ReferringPhysicianName": "DOE^JANE", "PatientComments": "DOE",
}  # fmt: skip


def patients_films() -> dict[str, bytes]:
    """Good ones, and ones whose broken elements a careless reader quotes."""
    plain = films.dicom(
        chest(), **PATIENT, WindowCenter="2000.25", WindowWidth="1000.25", RescaleSlope="1.125", RescaleIntercept=0
    )
    short = films.dicom(chest(), **PATIENT, SOPClassUID="DOE^JOHN", PixelData=None)
    return {
        "good": plain, "truncated": plain[:-5000], "cut in a name": plain[: plain.index(b"DOE^JANE") + 4],
        "name as window": plain.replace(b"2000.25 ", b"DOE^JOHN"), "name as slope": plain.replace(b"1.125 ", b"DOE^JO"),
        "name as syntax": plain.replace(b"1.2.840.10008.1.2.1\0", b"DOE^JOHN 19560304  \0"), "name as class": short,
        "name as date": plain.replace(b"19560304", b"DOE^JOHN"), "name as photometric": films.dicom(
            chest(), **PATIENT, PhotometricInterpretation="DOE^JOHN"),
        "frames": films.dicom(chest(), **PATIENT, NumberOfFrames=2), "broken VR": plain.replace(b"PN\x08\x00DOE", b"US\x08\x00DOE"),
        "no VR": plain.replace(b"PN\x08\x00DOE", b"??\x08\x00DOE"), "charset": plain.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x05\x00CS"),
        "compressed": films.LOSSLESS["JPEG 2000"](plain)[:-3000],
    }  # fmt: skip


def test_no_patient_data_reaches_a_log_or_an_answer(tmp_path: Path) -> None:
    contents = patients_films()
    for name, data in contents.items():
        assert b"DOE" in data
        (tmp_path / name).write_bytes(data)
    answers, everything = run_tensors([tmp_path / name for name in contents], "0")
    assert len(answers) == len(contents) and len(answers[0]) == 64
    assert "DOE" not in everything and "19560304" not in everything


def test_no_patient_data_reaches_the_readers_answer(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    rows = ask(reader, *(Request(film, "r", Explain(overlay=False)) for film in patients_films().values()))
    told = json.dumps([row.answer if row.error is None else row.error.as_json("r") for row in rows])
    assert "DOE" not in told + caplog.text and "19560304" not in told + caplog.text
