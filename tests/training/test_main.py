from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cxr import network
from tests.training.conftest import LABELS, ROOT, TINY, film, train, write_film
from training.__main__ import main
from training.archive import build
from training.recipe import parse
from training.split import part_of


@pytest.fixture
def finished(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of the whole training's folder, to write in."""
    return Path(shutil.copytree(run_folder, tmp_path / "finished"))


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr, progress bars left out."""
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_train_prints_the_figures_and_the_next_command(
    film_folder: Path, recipe_file: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(film_folder, recipe_file, finished) == 0
    out = capsys.readouterr().out
    for words in ("validation: macro F1 0.", "test: macro F1 0.", f"next: make archive RUN={finished}"):
        assert words in out


def test_archive_prints_the_path_and_the_sha256(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new folder" / "cxr.mar"
    assert main(["archive", "--run", str(run_folder), "--output", str(output)]) == 0
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    assert capsys.readouterr().out == f"{output}  sha256 {digest}\n"


def test_an_archive_can_be_built_anew_with_its_own_weights(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "cxr.mar"
    digest = build(run_folder / "model.pt", output)
    with zipfile.ZipFile(output, "a") as archive:
        archive.writestr("cxr/removed_since.py", "")
    assert main(["archive", "--keep-weights", "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}  sha256 {digest}\n"
    assert hashlib.sha256(output.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("content", [None, b"no archive", b"PK\5\6" + bytes(18)])
def test_an_archive_without_weights_cannot_keep_them(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "cxr.mar"
    if content is not None:
        output.write_bytes(content)
    assert main(["archive", "--keep-weights", "--output", str(output)]) == 1
    assert "cxr.mar" in error_of(capsys)


def test_archive_without_a_model_says_what_to_do_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "--run", str(tmp_path), "--output", str(tmp_path / "cxr.mar")]) == 1
    assert "train first (make train DATA=<folder>), or name the run" in error_of(capsys)
    assert not (tmp_path / "cxr.mar").exists()


def test_archive_of_a_broken_model_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.pt").write_bytes(b"broken")
    assert main(["archive", "--run", str(tmp_path), "--output", str(tmp_path / "cxr.mar")]) == 1
    assert "model.pt is broken" in error_of(capsys)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seed = 7", "sedd = 7"), "unknown key sedd"),
        (('name = "tiny"', "name = tiny"), "Invalid value"),
        (("squeezenet1_1", "alexnet"), "unknown architecture 'alexnet'; known: resnet18"),
        (('weights = "none"', 'weights = "runs/x/best.pt"'), "no checkpoint at 'runs/x/best.pt'"),
        (("[augment]", '[distil]\nteacher = "teacher.pt"\n[augment]'), "teacher.pt"),
        (("epochs = 2", "epochs = 3"), "holds a run of another recipe"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_one_sentence(
    film_folder: Path,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    said: str,
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(TINY.replace(*change))
    assert train(film_folder, recipe, finished) == 1
    assert said in error_of(capsys)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ('weights = "none"', 'weights = "old/settled/best.pt + old/long/best.pt"'),
            "settled/best.pt': train the recipe settled first",
        ),
        (
            ("[augment]", '[distil]\nteacher = "old/default/model.pt"\n[augment]'),
            "default/model.pt': train the recipe default first",
        ),
    ],
    ids=["weights", "teacher"],
)
def test_what_a_recipe_goes_on_from_is_looked_for_before_any_film(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(TINY.replace(*change))
    assert train(tmp_path / "no films", recipe, tmp_path / "run") == 1
    assert said in error_of(capsys)


def test_stages_that_come_first_are_trained_first(
    film_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("training.recipe.RECIPES", "training.weights.RECIPES"):
        monkeypatch.setattr(place, tmp_path)
    monkeypatch.chdir(tmp_path)
    short = TINY.replace("epochs = 2", "epochs = 1")
    for name, weights in (("first", "none"), ("second", "runs/first/best.pt"), ("third", "runs/second/best.pt")):
        changed = short.replace('name = "tiny"', f'name = "{name}"').replace(
            'weights = "none"', f'weights = "{weights}"'
        )
        (tmp_path / f"{name}.toml").write_text(changed)
    arguments = ["train", "--data", str(film_folder), "--recipe"]
    assert main([*arguments, "second"]) == 0
    assert "second needs the run of first, which comes first" in capsys.readouterr().out
    first = (tmp_path / "runs/first/best.pt").stat().st_mtime_ns
    (tmp_path / "runs/second/metrics.json").unlink()  # as if the run had been killed
    assert main([*arguments, "third"]) == 0
    assert "third needs the run of second, which comes first" in capsys.readouterr().out
    assert (tmp_path / "runs/second/metrics.json").is_file() and (tmp_path / "runs/third/model.pt").is_file()
    assert (tmp_path / "runs/first/best.pt").stat().st_mtime_ns == first


def test_a_quick_run_is_marked_everywhere(
    film_folder: Path,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--data", str(film_folder), "--recipe", str(recipe_file)]
    assert main([*arguments, "--quick", "--epochs", "1", "--workers", "1"]) == 0
    folder = tmp_path / "runs" / "tiny-quick"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["quick"], metrics["recipe"], metrics["epochs"]) == (True, "tiny-quick", 1)
    assert metrics["overrides"] == ["quick", "epochs 2 -> 1"]
    kept = parse((folder / "recipe.toml").read_text())
    assert kept.quick and kept.optimise.epochs == 1
    assert "recipe=tiny-quick" in network.load(folder / "model.pt").recipe.trained_with
    assert "as published: quick; epochs 2 -> 1" in capsys.readouterr().out


def near_duplicate(film_folder: Path, root: Path) -> Path:
    """The films with one of the test part put into the training part too, under another patient's name."""
    shutil.copytree(film_folder, root)
    split = parse(TINY).split
    groups = {part_of(f"Left-patient-{number}", split): number for number in range(16)}
    test, train = root / "Left" / f"{2 * groups['test']:02}.png", root / "Left" / f"{2 * groups['train']:02}.png"
    shutil.copy(test, train)
    return root


def test_near_duplicates_end_the_run_or_are_counted(
    film_folder: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = near_duplicate(film_folder, tmp_path / "data")
    assert train(data, recipe_file, tmp_path / "run") == 1
    assert "1 pair of films in different parts is nearly the same picture: train Left/" in error_of(capsys)
    arguments = ["train", "--data", str(data), "--recipe", str(recipe_file), "--run", str(tmp_path / "run")]
    assert main([*arguments, "--duplicates", "drop", "--epochs", "1"]) == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["near_duplicates"]
    assert (found["rule"], found["pairs"], found["dropped"]) == ("drop", 1, 1)
    assert "pairs of near-duplicates across the split: 1; films left out: 1" in capsys.readouterr().out


def test_broken_films_are_skipped_with_a_count_where_asked_for(
    film_folder: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(film_folder, tmp_path / "data"))
    (data / "Left" / "05.png").write_bytes(b"<html>")
    arguments = ["train", "--data", str(data), "--recipe", str(recipe_file), "--run", str(tmp_path / "run")]
    assert main([*arguments, "--skip-broken", "--epochs", "1"]) == 0
    (told,) = json.loads((tmp_path / "run" / "metrics.json").read_text())["broken"]
    assert told.startswith("Left/05.png: ")
    assert "unreadable films left out: 1" in capsys.readouterr().out


def test_an_unknown_recipe_lists_those_there_are(
    film_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(film_folder, Path("typo"), tmp_path) == 1
    assert "no recipe 'typo'; there are: " in error_of(capsys)


@pytest.mark.parametrize("films", ["missing folder", "empty folder", "one class", "few films", "broken film"])
def test_films_that_cannot_be_trained_on_are_one_sentence(
    recipe_file: Path, film_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], films: str
) -> None:
    data, said = tmp_path / "data", "data"
    if films != "missing folder":
        data.mkdir()
    if films in ("one class", "few films"):
        for label in LABELS[: 1 if films == "one class" else 3]:
            write_film(data / label / "1.png", film(0, 1))
        said = "alone" if films == "one class" else "too few groups"
    if films == "broken film":
        data, said = tmp_path / "broken", "broken/Left/05.png: "
        data.mkdir()
        (data / "manifest.csv").write_text((film_folder / "manifest.csv").read_text())
        for label in LABELS:
            (data / label).mkdir()
            for path in (film_folder / label).iterdir():
                (data / label / path.name).write_bytes(path.read_bytes())
        (data / "Left" / "05.png").write_bytes(b"<html>")
    assert train(data, recipe_file, tmp_path / "run") == 1
    assert said in error_of(capsys)


@pytest.mark.parametrize("arguments", [[], ["train"], ["train", "--data"], ["trian"], ["archive", "--model", "x"]])
def test_a_wrong_command_line_is_status_2_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m training" in capsys.readouterr().err


def heed_ctrl_c() -> None:
    """A shell that runs the tests in its background lets them, and so what they start, ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    film_folder: Path, recipe_file: Path, run_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "training", "train", "--data", str(film_folder)]
    command += ["--recipe", str(recipe_file), "--run", str(run)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    training = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    assert training.stderr is not None
    shown = ""
    while "epoch 1/2" not in shown:
        character = training.stderr.read(1)
        assert character, f"ended before its first epoch: {shown}"
        shown += character
    training.send_signal(signal.SIGINT)
    rest = training.communicate(timeout=60)[1]
    assert training.returncode == 130
    assert rest.rstrip().endswith("interrupted; the same command goes on where it stopped")
    assert "Traceback" not in rest

    assert train(film_folder, recipe_file, run) == 0
    assert (run / "metrics.json").read_text() == (run_folder / "metrics.json").read_text()
