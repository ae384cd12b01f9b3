from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import paths, preflight
from serving.errors import CannotStart
from serving.properties import free_ports, read_properties
from serving.torchserve import TorchServe


@pytest.mark.parametrize(
    ("key", "port"),
    [
        ("inference_address", "inference"),
        ("metrics_address", "metrics"),
        ("grpc_inference_port", "grpc_inference"),
    ],
)
def test_a_taken_port_is_named_with_the_key_to_change(key: str, port: str) -> None:
    properties = read_properties(paths.CONFIG)
    ports = free_ports()
    number = getattr(ports, port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", number))
        other.listen()

        with pytest.raises(CannotStart, match=rf"Port {number} is in use: .* change {key} .* PORT_OFFSET"):
            preflight.check_ports(properties | ports.entries(properties))


def test_free_ports_pass() -> None:
    preflight.check_ports(free_ports().entries({}))


def test_an_offset_beyond_all_ports_is_named() -> None:
    with pytest.raises(CannotStart, match="65535 is no port"):
        preflight.check_ports({"inference_address": "http://127.0.0.1:65535"})


def test_a_missing_archive_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"none\.mar is missing: build it with `make archive`"):
        preflight.check_archive(tmp_path / "none.mar")


def test_an_archive_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.mar").write_text("<html>Not found</html>")

    with pytest.raises(CannotStart, match="is no model archive"):
        preflight.check_archive(tmp_path / "page.mar")


def test_a_truncated_archive_is_refused(tmp_path: Path, stand_in: Callable[..., Path]) -> None:
    whole = stand_in().read_bytes()
    (tmp_path / "half.mar").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(CannotStart, match="is no model archive"):
        preflight.check_archive(tmp_path / "half.mar")


def test_a_zip_without_manifest_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        archive.writestr("film.png", b"")

    with pytest.raises(CannotStart, match=r"MAR-INF/MANIFEST\.json"):
        preflight.check_archive(tmp_path / "films.zip")


def test_a_full_disk_says_how_much_is_needed(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"GB are free under .*, 1e\+06 GB are needed: free some space"):
        preflight.check_space(tmp_path / "not" / "yet", 1e6, "free some space.")


def test_a_missing_metrics_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"metrics\.yaml is missing: correct metrics_config"):
        preflight.check_file({"metrics_config": str(tmp_path / "metrics.yaml")}, "metrics_config")


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"CONFIG=<file>"):
        TorchServe(tmp_path, config=tmp_path / "none.properties")


# --- make, before there is a virtual environment ---

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments],
        cwd=paths.ROOT, env=inherited, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def fake_python(tmp_path: Path) -> Path:
    """A Python that finds itself too old."""
    program = tmp_path / "python3.8"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    return program


def errors(answer: subprocess.CompletedProcess[str]) -> list[str]:
    """What make says, less its own last word."""
    return [line for line in answer.stderr.splitlines() if not line.startswith("make")]


@needs_make
@pytest.mark.parametrize("target", ["serve", "test"])
def test_an_old_python_is_refused_in_one_sentence(fake_python: Path, tmp_path: Path, target: str) -> None:
    answer = make(target, f"PYTHON={fake_python}", f"VENV={tmp_path / 'venv'}")

    assert answer.returncode != 0
    assert errors(answer) == [
        f"error: {fake_python} is missing or older than 3.10: name a newer one, as in make PYTHON=python3.11"
    ]
    assert not (tmp_path / "venv").exists()


@needs_make
def test_too_full_a_disk_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    answer = make("serve", f"PYTHON={sys.executable}", f"VENV={tmp_path / 'venv'}", "NEEDED_GB=1000000")

    assert answer.returncode != 0
    assert len(errors(answer)) == 1
    assert re.match(r"error: [\d.]+ GB are free under .*, 1e\+06 GB are needed", errors(answer)[0])
    assert not (tmp_path / "venv").exists()


@needs_make
@pytest.mark.parametrize(("target", "variable"), [("predict", "FILE"), ("explain", "FILE"), ("train", "DATA")])
def test_a_target_that_lacks_its_variable_names_it(tmp_path: Path, target: str, variable: str) -> None:
    (tmp_path / ".serving").touch()  # as if everything were installed
    answer = make(target, f"VENV={tmp_path}", f"{variable}=")

    assert answer.returncode != 0
    assert len(errors(answer)) == 1
    assert f"make {target} {variable}=" in errors(answer)[0]


@needs_make
@pytest.mark.parametrize("target", ["predict", "explain"])
@pytest.mark.parametrize(
    ("lines", "offset", "port"),
    [
        ("inference_address=http://0.0.0.0:9443\n", "0", "9443"),
        ("# inference_address=http://127.0.0.1:1\ninference_address = http://127.0.0.1:8090\n", "100", "8190"),
        ("metrics_address=http://127.0.0.1:9082\n", "5", "8085"),
    ],
)
def test_a_film_is_sent_to_the_port_of_the_configuration(
    tmp_path: Path, target: str, lines: str, offset: str, port: str
) -> None:
    config = tmp_path / "other.properties"
    config.write_text(lines)
    (tmp_path / ".serving").touch()
    answer = make("-n", target, f"VENV={tmp_path}", "FILE=film.dcm", f"CONFIG={config}", f"PORT_OFFSET={offset}")

    assert f'"film.dcm" --port {port}' in answer.stdout


@needs_make
def test_make_alone_lists_every_target() -> None:
    text = (paths.ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    listed = {line.split()[1] for line in make().stdout.splitlines()}

    assert listed == set(phony[1].split())
