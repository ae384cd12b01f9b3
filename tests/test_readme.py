"""The README's commands, run as they stand there; and every make target but those that install (`pins` too)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pytest
from PIL import Image

from serving import paths
from serving.errors import CannotStart
from serving.preflight import check_ports
from serving.properties import Ports, free_ports, read_properties
from serving.torchserve import TorchServe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DEFAULT_URL = "http://127.0.0.1:8080"
COMMAND_TIMEOUT_S = 600
STAMPS = [argument for stamp in (".serving", ".testing") for argument in ("-o", f"{sys.prefix}/{stamp}")]
"""make takes a stamp named by -o for up to date, whatever it is: nothing is installed where the tests run."""
MAKE = ["make", "--no-print-directory", f"VENV={sys.prefix}", *STAMPS]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def make(*arguments: str, offset: int = 0, run: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`make` with this interpreter's virtual environment, on ports and in a folder of its own."""
    command = [*MAKE, *arguments, f"PORT_OFFSET={offset}", *([f"RUN_FOLDER={run}"] if run else [])]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)


def free_offset() -> int:
    """A PORT_OFFSET that brings every port of config.properties to where nothing listens."""
    properties = read_properties(paths.CONFIG)
    for _ in range(50):
        ports = Ports.of(properties)
        offset = free_ports().inference - ports.inference
        try:
            check_ports(properties | ports.shifted(offset).entries(properties))
        except CannotStart:
            continue
        return offset
    raise AssertionError("no offset has all its ports free")


def ignored() -> list[str]:
    """Patterns of names that .gitignore keeps out of the repository."""
    return [line.strip("/") for line in (ROOT / ".gitignore").read_text().split() if not line.startswith("#")]


def targets_in(text: str) -> set[str]:
    return set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))


def test_every_make_target_the_readme_names_exists() -> None:
    known = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = targets_in(README) | targets_in((ROOT / "CONTRIBUTING.md").read_text())
    assert {"serve", "test", "predict", "explain", "train", "archive"} <= named <= known


def test_every_path_the_readme_links_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_map_names_every_top_level_folder() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    folders -= {name for name in folders for pattern in ignored() if fnmatch(name, pattern)}
    assert len(folders) >= 7
    assert [folder for folder in sorted(folders) if f"\n{folder}/" not in README] == []


def test_the_curl_line_answers_what_the_readme_shows(server: TorchServe) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    line = next(line for block in blocks("sh") for line in block.splitlines() if line.startswith("curl "))
    done = subprocess.run(
        line.replace(DEFAULT_URL, server.inference_url), shell=True, cwd=ROOT, capture_output=True, check=True
    )
    answer, shown = json.loads(done.stdout), json.loads(blocks("json")[0])
    assert answer.keys() == shown.keys()
    assert answer["model"] == shown["model"]
    assert answer["prediction"] == shown["prediction"] and answer["decision"] == shown["decision"]
    assert answer["probabilities"] == pytest.approx(shown["probabilities"], abs=1e-3)


def test_the_python_example_runs(server: TorchServe) -> None:
    code = blocks("python")[0].replace(DEFAULT_URL, server.inference_url)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(blocks("json")[0])["prediction"] in done.stdout


@pytest.mark.parametrize("name", ["cxr.mar", "resnet18/cxr.mar"])
def test_the_archives_hold_the_code_of_this_checkout(name: str) -> None:
    """A change of handler/ without a new archive would be served by nobody."""
    with zipfile.ZipFile(ROOT / "model_store" / name) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist()}
    own = [*(ROOT / "handler").rglob("*.py"), *(ROOT / "handler").glob("model-config*.yaml")]
    stale = [
        path.name for path in own if shipped.get(path.relative_to(ROOT / "handler").as_posix()) != path.read_bytes()
    ]
    assert stale == []


# --- make targets ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """`make start` ... `make stop`, with the folder and the port offset in between."""
    run, offset = tmp_path_factory.mktemp("make"), free_offset()
    started = make("start", offset=offset, run=run)
    assert started.returncode == 0, started.stderr
    yield run, offset
    stopped = make("stop", offset=offset, run=run)
    assert stopped.returncode == 0, stopped.stderr


def test_make_installs_nothing_where_the_tests_run() -> None:
    done = make("-n", "serve", "test", "check")
    assert done.returncode == 0, done.stderr
    assert "-m pytest" in done.stdout
    assert "serving.install" not in done.stdout and "-m venv" not in done.stdout


def test_make_recipes_prints_every_published_system() -> None:
    done = make("recipes")
    assert done.returncode == 0, done.stderr
    for system in ("conchari2021", "gyiernahfu2021", "chan2020", "vivek2020"):
        assert system in done.stdout


def test_make_status_names_both_registrations(background: tuple[Path, int]) -> None:
    run, offset = background
    done = make("status", offset=offset, run=run)
    assert done.returncode == 0
    assert re.findall(r"^(\S+): ", done.stdout, re.MULTILINE) == ["cxr", "cxr-attribution"], done.stdout


def test_make_predict_prints_the_answer(background: tuple[Path, int]) -> None:
    run, offset = background
    done = make("predict", "FILE=tests/films/RG1.png", offset=offset, run=run)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["notice"] == "Research use only. Not for diagnosis."


@pytest.mark.parametrize("method", ["", "integrated_gradients"])
def test_make_explain_writes_an_overlay(background: tuple[Path, int], tmp_path: Path, method: str) -> None:
    run, offset = background
    overlay = tmp_path / "overlay.png"
    arguments = ["FILE=tests/films/RG1.png", f"OUTPUT={overlay}", *([f"METHOD={method}"] if method else [])]
    done = make("explain", *arguments, offset=offset, run=run)
    assert done.returncode == 0, done.stderr
    assert max(Image.open(overlay).size) == 1024


def test_make_predict_of_no_film_is_one_sentence(background: tuple[Path, int], tmp_path: Path) -> None:
    run, offset = background
    page = tmp_path / "page.dcm"
    page.write_text("<html></html>")
    done = make("predict", f"FILE={page}", offset=offset, run=run)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr and "415" in done.stderr


TINY_RECIPE = """
    name = "tiny"
    architecture = "squeezenet1_1"
    weights = "none"
    [film]
    size = 64
    [optimise]
    epochs = 1
    batch = 8
"""


def test_make_train_and_archive_make_a_servable_archive(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for label in ("bright", "dark"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(40):
            level = 150 if label == "bright" else 90
            pixels = generator.normal(level, 30, (64, 64)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(textwrap.dedent(TINY_RECIPE))
    trained = make("train", f"DATA={tmp_path / 'data'}", f"RECIPE={recipe}", f"RUN={tmp_path / 'run'}")
    assert trained.returncode == 0, trained.stderr
    run = tmp_path / "run"
    evaluated = make("evaluate", f"RUN={run}", f"DATA={tmp_path / 'data'}", run=tmp_path / "server")
    assert evaluated.returncode == 0, evaluated.stderr
    assert (
        evaluated.stdout.endswith(f"{run / 'report.html'}\n") and "Balanced accuracy, lungs removed" in evaluated.stdout
    )
    card = make("card", f"RUN={run}", f"DOCS={tmp_path / 'docs'}", f"ARCHIVE={tmp_path / 'tiny.mar'}")
    assert card.returncode == 0, card.stderr
    assert (tmp_path / "docs" / "model-card.md").is_file() and (tmp_path / "README.md").is_file()
    archived = make("archive", f"RUN={tmp_path / 'run'}", f"ARCHIVE={tmp_path / 'tiny.mar'}")
    assert archived.returncode == 0, archived.stderr
    with zipfile.ZipFile(tmp_path / "tiny.mar") as archive:
        assert {"MAR-INF/MANIFEST.json", "model.pt", "xray_handler.py", "cxr/reading.py"} <= set(archive.namelist())


def test_make_serve_shows_a_film_and_ends_with_its_signal(tmp_path: Path) -> None:
    offset = free_offset()
    with make_serve(offset, tmp_path) as served:
        assert served.stdout is not None
        shown = "".join(iter_until(served.stdout, "curl "))
        children = psutil.Process(served.pid).children(recursive=True)
        os.killpg(served.pid, signal.SIGINT)  # Ctrl-C goes to the whole group of the terminal
        served.wait(timeout=COMMAND_TIMEOUT_S)
    assert '"notice": "Research use only. Not for diagnosis."' in shown and "Over gRPC" in shown
    assert max(Image.open(tmp_path / "overlay.png").size) == 1024
    assert len(children) >= 4, "make's child, Java and three workers were there"
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []


@contextmanager
def make_serve(offset: int, run: Path) -> Iterator[subprocess.Popen[str]]:
    """`make serve`, killed after COMMAND_TIMEOUT_S: what reads its output then finds the end of it."""
    command = [*MAKE, "serve", f"PORT_OFFSET={offset}", f"RUN_FOLDER={run}"]
    served = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    limit = threading.Timer(COMMAND_TIMEOUT_S, end, [served])
    limit.start()
    try:
        yield served
    finally:
        limit.cancel()
        end(served)
        served.communicate()
        make("stop", offset=offset, run=run)  # Java has a process group of its own


def end(served: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(served.pid, signal.SIGKILL)


def iter_until(lines: IO[str], word: str) -> Iterator[str]:
    for line in lines:
        yield line
        if word in line:
            return


def test_make_test_runs_pytest() -> None:
    done = make("test", "ARGS=--collect-only -q tests/test_readme.py")
    assert done.returncode == 0, done.stderr
    assert "test_make_test_runs_pytest" in done.stdout


def test_make_format_leaves_this_checkout_as_it_is_and_clean_leaves_no_cache(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    for name in re.findall(r"^SOURCES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split():
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(*ignored()))
    before = {path: path.read_bytes() for path in copy.rglob("*.py")}
    done = subprocess.run([*MAKE, "format"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in copy.rglob("*.py")} == before
    (copy / "handler" / "__pycache__").mkdir()
    cleaned = subprocess.run([*MAKE, "clean"], cwd=copy, capture_output=True, text=True)
    assert cleaned.returncode == 0, cleaned.stderr
    assert list(copy.rglob("__pycache__")) == [] and not (copy / "run").exists()


def test_make_check_finds_nothing() -> None:
    done = make("check")
    assert done.returncode == 0, done.stdout + done.stderr
