from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.parts import shared
from tests.training.conftest import film, write_film
from training.report.strangers import of_folder, other_films, patterns, photographs, strangers


def test_photographs_are_those_of_the_installed_packages() -> None:
    found = {stranger.name: stranger for stranger in photographs()}
    assert {"astronaut.png", "camera.png", "china.jpg", "china.jpg in grey"} <= found.keys()
    assert found["camera.png"].kind == "grey photograph" and "camera.png in grey" not in found
    with Image.open(io.BytesIO(found["astronaut.png in grey"].source())) as grey:
        assert grey.mode == "L" and grey.size == (512, 512)


def test_other_films_are_one_of_a_family_and_never_the_chest_film() -> None:
    names = [stranger.name for stranger in other_films()]
    assert len([name for name in names if name.startswith("RG3_")]) == 1
    assert not [name for name in names if name.startswith("RG1_")]
    assert len(names) > 10


def test_patterns_differ_and_are_always_the_same() -> None:
    drawn = [stranger.source() for stranger in patterns()]
    assert len(set(drawn)) == len(drawn) >= 6
    assert drawn == [stranger.source() for stranger in patterns()]
    with Image.open(io.BytesIO(drawn[0])) as noise:
        assert np.asarray(noise).std() > 50


def test_a_list_says_which_films_are_no_chest(tmp_path: Path) -> None:
    for name in ("chest", "untold", "hand", "scout", "unlisted"):
        write_film(tmp_path / f"{name}.png", film(0, 0))
    (tmp_path / "list.csv").write_text(
        "file,modality,body_part\nchest.png,CR,CHEST\nuntold.png,DX,\nhand.png,CR,HAND\nscout.png,OT,\n"
    )
    assert [stranger.name for stranger in of_folder(tmp_path)] == ["hand.png", "scout.png", "unlisted.png"]


def test_the_odd_ones_of_the_shared_films_are_found() -> None:
    names = {stranger.name for stranger in of_folder(shared("dicom"))}
    assert names == {
        "NOT_DICOM_html_named_dcm.dcm",
        "RG3_J2KI.dcm",
        "highdicom_dx_dog_thorax_mono1.dcm",
        "nhsx_OT_sample.dcm",
    }


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        strangers((tmp_path / "nowhere",))
