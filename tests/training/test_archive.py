from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydicom.data import get_testdata_file

from cxr import network
from cxr.reading import normalise
from tests.parts import shared
from tests.training.conftest import ROOT, film, write_film
from training import archive
from training.data import UnreadableFilm, load, picture
from training.recipe import FilmSettings
from training.split import Sample


@pytest.fixture(scope="module")
def model(run_folder: Path) -> Path:
    return run_folder / "model.pt"


@pytest.fixture(scope="module")
def built(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An archive and the sha256 that its building told."""
    output = tmp_path_factory.mktemp("archive") / "cxr.mar"
    return output, archive.build(model, output)


@pytest.fixture(scope="module")
def unpacked(built: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(built[0]) as file:
        file.extractall(folder)
    return folder


# --- what is in it ---------------------------------------------------------------------------------


def test_the_manifest_names_model_version_handler_and_configuration(unpacked: Path) -> None:
    manifest = json.loads((unpacked / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["runtime"] == "python"
    assert manifest["model"] == {
        "modelName": "cxr",
        "modelVersion": "3.1",
        "serializedFile": "model.pt",
        "handler": "xray_handler.py",
        "configFile": "model-config.yaml",
    }
    assert all((unpacked / manifest["model"][name]).is_file() for name in ("serializedFile", "handler", "configFile"))


def test_it_holds_the_model_the_whole_package_and_both_configurations(unpacked: Path, model: Path) -> None:
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    package = {f"cxr/{path.name}" for path in (ROOT / "handler" / "cxr").glob("*.py")}
    assert "cxr/__init__.py" in package
    assert held == package | {
        "MAR-INF/MANIFEST.json",
        "model.pt",
        "xray_handler.py",
        "model-config.yaml",
        "model-config-attribution.yaml",
    }
    assert (unpacked / "model.pt").read_bytes() == model.read_bytes()
    for name in ("model-config.yaml", "model-config-attribution.yaml"):
        assert yaml.safe_load((unpacked / name).read_text())["handler"]["methods"]


def test_it_holds_no_path_of_this_machine(unpacked: Path, built: tuple[Path, str]) -> None:
    places = [str(place).encode() for place in (ROOT, sys.prefix, built[0].parent)]
    with zipfile.ZipFile(unpacked / "model.pt") as inner:
        content = {f"model.pt/{name}": inner.read(name) for name in inner.namelist()}
    content |= {path.name: path.read_bytes() for path in unpacked.rglob("*") if path.is_file()}
    assert not [name for name, data in content.items() for place in places if place in data]


# --- the same bytes --------------------------------------------------------------------------------


def test_the_sha256_told_is_that_of_the_file(built: tuple[Path, str]) -> None:
    output, digest = built
    assert hashlib.sha256(output.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_same_model_gives_the_same_bytes_anywhere_and_any_time(
    built: tuple[Path, str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: str
) -> None:
    elsewhere = tmp_path / "another checkout"
    shutil.copytree(ROOT / "handler", elsewhere, ignore=shutil.ignore_patterns("__pycache__"))
    for cache in ("__pycache__", "cxr/__pycache__", "cxr/.ruff_cache", ".mypy_cache"):
        (elsewhere / cache).mkdir()
        (elsewhere / cache / "leftover.pyc").write_text(seed)
    (elsewhere / "cxr" / ".DS_Store").write_text(seed)
    (elsewhere / "cxr" / "reading.py").chmod(0o755)
    moved = tmp_path / "renamed.pt"
    shutil.copy(model, moved)
    for path in (moved, *elsewhere.rglob("*")):
        os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(archive, "HANDLER", elsewhere)
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.chdir(tmp_path)
    assert archive.build(moved, Path("out/cxr.mar")) == built[1]


def test_the_order_of_the_entries_is_fixed(tmp_path: Path) -> None:
    entries = {"b.py": "b", archive.MANIFEST: "{}", "a/c.py": "c"}
    for name, order in {"one": list(entries), "two": sorted(entries)}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            for entry in order:
                file.writestr(entry, entries[entry])
        archive._normalise(tmp_path / name, tmp_path / f"{name}.mar")
    assert (tmp_path / "one.mar").read_bytes() == (tmp_path / "two.mar").read_bytes()


def test_another_handler_gives_other_bytes(
    built: tuple[Path, str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "handler"
    shutil.copytree(ROOT / "handler", changed)
    with (changed / "cxr" / "reading.py").open("a") as file:
        file.write("# changed\n")
    monkeypatch.setattr(archive, "HANDLER", changed)
    assert archive.build(model, tmp_path / "cxr.mar") != built[1]


def test_parallel_builds_do_not_collide(built: tuple[Path, str], model: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "same.mar"] * 3 + [tmp_path / "other.mar"]
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda output: archive.build(model, output), outputs))
    assert digests == [built[1]] * 4
    assert {path.name for path in tmp_path.iterdir()} == {"same.mar", "other.mar"}
    assert (tmp_path / "same.mar").read_bytes() == (tmp_path / "other.mar").read_bytes() == built[0].read_bytes()


def test_everybody_may_read_it(built: tuple[Path, str]) -> None:
    assert built[0].stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("content", [b"", b"no model", "half"], ids=["empty", "text", "half"])
def test_a_broken_model_is_one_sentence_and_leaves_the_old_archive(
    model: Path, tmp_path: Path, content: bytes | str
) -> None:
    broken, output = tmp_path / "model.pt", tmp_path / "out" / "cxr.mar"
    whole = model.read_bytes()
    broken.write_bytes(content if isinstance(content, bytes) else whole[: len(whole) // 2])
    output.parent.mkdir()
    output.write_text("the old archive")
    with pytest.raises(ValueError, match=r"model\.pt is broken or no TorchScript file") as caught:
        archive.build(broken, output)
    assert "\n" not in str(caught.value)
    assert [path.name for path in output.parent.iterdir()] == ["cxr.mar"]
    assert output.read_text() == "the old archive"


# --- no skew between training and serving ----------------------------------------------------------

ALONE = """
import importlib.util, sys
from pathlib import Path

archive, target, *films = sys.argv[1:]
sys.path.insert(0, archive)
import torch
import cxr
from cxr import network, reading, request

assert Path(cxr.__file__).is_relative_to(archive), cxr.__file__
assert importlib.util.find_spec("training") is None
reader = reading.Reader(network.load(Path(archive, "model.pt")))
rows = reader.read([request.Request(Path(film).read_bytes()) for film in films])
torch.save({film: row.tensor for film, row in zip(films, rows)}, target)
"""


def served_tensors(unpacked: Path, films: list[Path], folder: Path) -> dict[str, torch.Tensor]:
    """What the archive alone makes of these films: isolated Python, another folder, nothing of this checkout."""
    target = folder / "tensors.pt"
    command = [sys.executable, "-I", "-c", ALONE, str(unpacked), str(target), *map(str, films)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tensors: dict[str, torch.Tensor] = torch.load(target, weights_only=True)
    return tensors


def assert_no_skew(unpacked: Path, films: list[Path], folder: Path) -> None:
    recipe = network.load(unpacked / "model.pt", optimise=False).recipe
    settings = FilmSettings(recipe.size, recipe.stretch, recipe.mean, recipe.std)
    trained = load([Sample(path, "A", str(path)) for path in films], ("A",), settings, "skew")
    served = served_tensors(unpacked, films, folder)
    for path, pixels in zip(films, trained.pictures, strict=True):
        assert torch.equal(served[str(path)], normalise(torch.from_numpy(pixels), recipe)), path.name


def dicom_film(path: Path, source: str) -> Path:
    found = get_testdata_file(source, download=False)
    assert isinstance(found, str), f"{source} is not in pydicom-data"
    return Path(shutil.copy(found, path))


def test_training_and_the_archive_alone_see_the_same_tensor_bit_for_bit(unpacked: Path, tmp_path: Path) -> None:
    grey = film(1, 1, side=301)
    deep = (grey.astype(np.uint16) * 200) + np.random.default_rng(0).integers(0, 200, grey.shape, np.uint16)
    films = [
        ROOT / "tests" / "films" / "RG1.png",
        write_film(tmp_path / "grey.png", grey),
        write_film(tmp_path / "wide.jpg", film(2, 1, side=256)[:90]),
        dicom_film(tmp_path / "RG1.dcm", "RG1_UNCR.dcm"),
        dicom_film(tmp_path / "RG1_J2K.dcm", "RG1_J2KR.dcm"),
    ]
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        films.append(tmp_path / name)
    assert_no_skew(unpacked, films, tmp_path)


def test_the_same_holds_for_the_shared_films(unpacked: Path, tmp_path: Path) -> None:
    films = [next(folder.glob("*.png")) for folder in sorted(shared("cxr4").iterdir()) if folder.is_dir()]
    for path in sorted(shared("dicom").glob("*.dcm")):
        try:
            picture(path, FilmSettings(size=64))
        except UnreadableFilm:
            continue
        films.append(path)
    assert len(films) > 12
    assert_no_skew(unpacked, films, tmp_path)
