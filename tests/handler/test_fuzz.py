from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxr.errors import CxrError
from cxr.film import Limits
from cxr.reading import decode
from tests.handler import films
from tests.handler.films import chest

ROUNDS = int(os.environ.get("CXR_FUZZ_ROUNDS", "2400"))
"""Broken inputs in all."""
WORKERS = 2
PEAK_MEGABYTES = 1500
"""Of a worker, the interpreter with torch (600) included."""


def run(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{films.ROOT}:{films.ROOT / 'handler'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.handler.fuzzing", str(first), str(count), str(folder)]
    return subprocess.Popen(
        command, env=environment, cwd=films.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_broken_films_give_declared_errors_in_bounded_memory_and_time(tmp_path: Path) -> None:
    share = ROUNDS // WORKERS
    workers = [run(tmp_path, number * share, share) for number in range(WORKERS)]
    for worker in workers:
        out, err = worker.communicate(timeout=120 + ROUNDS)
        assert worker.returncode == 0, f"a worker died of the input in {tmp_path}/current-*:\n{err[-2000:]}"
        *findings, summary = map(json.loads, out.splitlines())
        assert findings == [], f"the inputs lie in {tmp_path}"
        assert summary["done"] == share
        assert summary["peak"] < PEAK_MEGABYTES


PIXELS = chest(16, 16)
US = st.integers(0, 65535)
HEADER = st.fixed_dictionaries(
    {},
    optional={
        "Rows": US, "Columns": US, "BitsAllocated": st.sampled_from((1, 8, 12, 16, 32)) | US, "BitsStored": st.integers(0, 17),
        "HighBit": st.integers(0, 17), "PixelRepresentation": st.integers(0, 2), "SamplesPerPixel": st.integers(0, 5),
        "PhotometricInterpretation": st.sampled_from(("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "PALETTE COLOR", "X")),
        "PlanarConfiguration": st.integers(0, 2), "PixelPaddingValue": st.integers(0, 32767), "PixelPaddingRangeLimit": st.integers(0, 32767),
        "WindowCenter": st.floats(-1e5, 1e5).map("{:.6g}".format), "WindowWidth": st.floats(-10, 1e5).map("{:.6g}".format),
        "RescaleSlope": st.floats(-1e3, 1e3).map("{:.6g}".format), "RescaleIntercept": st.floats(-1e5, 1e5).map("{:.6g}".format),
        "VOILUTFunction": st.sampled_from(("LINEAR", "LINEAR_EXACT", "SIGMOID", "")),
        "PresentationLUTShape": st.sampled_from(("IDENTITY", "INVERSE", "LIN OD")),
    },
)  # fmt: skip


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HEADER)
def test_any_header_gives_a_film_of_its_size_or_a_declared_error(header: dict[str, Any]) -> None:
    try:
        film = decode(films.dicom(PIXELS, **header), Limits())
    except CxrError as error:
        assert error.status in (413, 415, 422)
    else:
        assert film.pixels.shape == (header.get("Rows", 16), header.get("Columns", 16))
        assert film.pixels.max() < len(film.tone)


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", bytes(128) + b"DICM", b"\xff\xd8\xff\xd9"]
)
def test_signatures_alone_are_unreadable(data: bytes) -> None:
    with pytest.raises(CxrError) as refused:
        decode(data, Limits())
    assert refused.value.status == 422
