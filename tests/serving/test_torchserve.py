from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from client import RestClient
from serving import paths, processes
from serving.errors import CannotStart, StartFailed
from serving.properties import Ports, free_ports, read_properties
from serving.torchserve import REGISTRATIONS, TorchServe
from tests.parts import extracted
from tests.serving.command_line import PATIENCE_S, command, members, placed
from tests.serving.conftest import MANIFEST

RESNET18 = paths.ROOT / "model_store" / "resnet18" / "cxr.mar"
"""The second archive that the repository ships."""
CAUGHT = "signals are caught"
Make = Callable[..., TorchServe]
Write = Callable[..., Path]

BROKEN_HANDLER = """
from ts.torch_handler.base_handler import BaseHandler

class StandIn(BaseHandler):
    def initialize(self, context):
        raise RuntimeError("the weights are not for this architecture")
"""


# --- one server ---


def test_ready_means_that_every_worker_is(server: TorchServe) -> None:
    assert len(server.worker_pids("cxr")) == 2
    assert len(server.worker_pids("cxr-attribution")) == 1
    assert all(psutil.pid_exists(pid) for pid in server.worker_pids("cxr"))


def test_its_files_stay_in_its_run_folder(server: TorchServe) -> None:
    assert server.leader is not None
    java = psutil.Process(server.leader.pid)

    assert Path(java.environ()["TMPDIR"]).is_relative_to(server.run)
    assert Path(java.cwd()) == server.run
    assert {path.name for path in server.log_folder.iterdir()} >= {
        "ts_log.log",
        "model_log.log",
        "console.log",
    }


def test_workers_see_the_archives_code_alone(server: TorchServe) -> None:
    (worker, _) = server.worker_pids("cxr")
    entries = [entry for entry in psutil.Process(worker).environ()["PYTHONPATH"].split(":") if entry]

    assert all(Path(entry).is_relative_to(server.run) for entry in entries)


def test_two_instances_side_by_side(server: TorchServe, torchserve: Make, archive: Path, tmp_path: Path) -> None:
    film = paths.FILM.read_bytes()
    with torchserve(RESNET18) as second:
        assert not set(second.worker_pids("cxr")) & set(server.worker_pids("cxr"))
        for instance, served in ((server, archive), (second, RESNET18)):
            clients = [RestClient(instance.inference_url, model=model) for model in REGISTRATIONS]
            answers = [answer for client in clients for answer in (client.predict(film), client.explain(film))]
            model = extracted(served, tmp_path / str(instance.run.name)).read_bytes()
            assert {answer.model.sha256 for answer in answers} == {hashlib.sha256(model).hexdigest()}
        folder = second.run
    assert members(folder) == []
    assert len(server.worker_pids("cxr")) == 2


# --- starts that fail ---


def test_a_worker_that_keeps_dying_ends_the_start(torchserve: Make, stand_in: Write) -> None:
    broken = torchserve(stand_in(BROKEN_HANDLER))
    begun = time.monotonic()

    with pytest.raises(StartFailed, match="the weights are not for this architecture"), broken:
        pass
    assert time.monotonic() - begun < 120, "waited for the time-out instead of watching the workers"
    assert members(broken.run) == []


def test_an_archive_that_torchserve_refuses_is_named(torchserve: Make, stand_in: Write) -> None:
    model = {key: value for key, value in MANIFEST["model"].items() if key != "handler"}  # type: ignore[attr-defined]
    refused = torchserve(stand_in(manifest=MANIFEST | {"runtime": "cobol", "model": model}))

    with (
        pytest.raises(StartFailed, match=r"did not accept .* of cxr: \n.*Failed to load model"),
        refused,
    ):
        pass
    assert members(refused.run) == []


def test_a_java_that_ends_is_quoted(torchserve: Make) -> None:
    hopeless = torchserve(overrides={"vmargs": "-XX:+NoSuchOption"})

    with pytest.raises(StartFailed, match="Unrecognized VM option 'NoSuchOption'"), hopeless:
        pass


def test_an_exhausted_patience_says_where_to_look(torchserve: Make) -> None:
    impatient = torchserve()
    impatient.start()

    with pytest.raises(StartFailed, match=r"not ready after 0\.1 s: see .*/logs"):
        impatient.wait_ready(timeout_s=0.1)


def test_the_second_start_in_a_run_folder_is_refused(server: TorchServe, archive: Path) -> None:
    second = TorchServe(server.run, archive=archive, ports=free_ports())

    with pytest.raises(CannotStart, match=r"already runs here .*make stop"):
        second.start()
    assert len(server.worker_pids("cxr")) == 2


# --- stopping ---


def test_a_long_run_folder_still_holds_worker_sockets(torchserve: Make, tmp_path: Path) -> None:
    deep = TorchServe(
        tmp_path / ("long" * 30),
        archive=torchserve().archive,
        ports=free_ports(),
        models={"cxr": {"minWorkers": 1}},
    )
    with deep:
        temporary = (deep.run / "tmp").resolve()
        assert deep.worker_pids("cxr")

    assert not temporary.exists()


def test_workers_of_a_killed_java_are_found(torchserve: Make) -> None:
    with torchserve() as running:
        assert running.leader is not None
        os.kill(running.leader.pid, signal.SIGKILL)
        running.stop()

        assert members(running.run) == []


def test_a_stale_pid_file_harms_nobody(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        stale = {"pid": bystander.pid, "created": time.time() - 86400, "run": str(tmp_path)}
        (tmp_path / processes.PID_FILE).write_text(json.dumps(stale))
        server = TorchServe(tmp_path)

        assert not server.is_running()
        assert server.stop()
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("content", ["", "4711", "{}", '{"pid": 1}', "[]"])
def test_an_unreadable_pid_file_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / processes.PID_FILE).write_text(content)

    assert TorchServe(tmp_path).stop()


# --- the command line ---


@pytest.fixture
def arguments(tmp_path: Path, archive: Path) -> list[str]:
    return placed(tmp_path, archive)


@contextmanager
def serving(arguments: list[str], run: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m serving serve` as a process; whatever happens, nothing of its run is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "serve", *arguments],
        cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        TorchServe(run).stop()


def test_serve_answers_a_real_film_until_sigterm(arguments: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with serving(arguments, run) as process:
        assert process.stderr is not None
        heard = []
        while "Serving until Ctrl-C" not in "".join(heard[-1:]):
            heard.append(process.stderr.readline())
            assert heard[-1], "".join(heard)
        ports = Ports.of(read_properties(run / "config.properties"))
        film = paths.FILM.read_bytes()
        answer = requests.post(f"http://127.0.0.1:{ports.inference}/predictions/cxr", data=film, timeout=PATIENCE_S)
        assert answer.json()["prediction"]
        assert (run / "overlay.png").read_bytes().startswith(b"\x89PNG")

        process.send_signal(signal.SIGTERM)
        said, complaints = process.communicate(timeout=PATIENCE_S)
        assert members(run) == []

    assert process.returncode == 0
    assert "Traceback" not in complaints
    assert answer.json()["prediction"] in said
    assert f"{run}/overlay.png" in said
    assert f"curl -T {paths.FILM} http://127.0.0.1:{ports.inference}/predictions/cxr" in said


def caught(process: subprocess.Popen[str]) -> bool:
    """Whether the process has a handler of its own for SIGTERM (proc(5): SigCgt), the later of its two."""
    found = re.search(r"SigCgt:\s+([0-9a-f]+)", Path(f"/proc/{process.pid}/status").read_text())
    return found is not None and bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


def wait_for(process: subprocess.Popen[str], stage: str) -> None:
    """Until the process catches signals, or until it has said the words of a later stage."""
    deadline = time.monotonic() + PATIENCE_S
    while stage == CAUGHT and not caught(process):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert process.stderr is not None
    heard = ""
    while stage != CAUGHT and stage not in heard:
        heard += (line := process.stderr.readline())
        assert line, heard


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        (CAUGHT, signal.SIGINT),
        (CAUGHT, signal.SIGTERM),
        ("Starting TorchServe", signal.SIGTERM),
        ("workers ready: cxr 0/1", signal.SIGINT),
        ("Ready after", signal.SIGTERM),
    ],
)
def test_an_interrupted_start_leaves_nothing(
    arguments: list[str], tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    with serving(arguments, run) as process:
        wait_for(process, stage)
        process.send_signal(number)
        _, complaints = process.communicate(timeout=PATIENCE_S)
        assert members(run) == []

    assert process.returncode == 0
    assert "Traceback" not in complaints


def test_what_prevents_a_start_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    answer = command("serve", *arguments, "--archive", str(tmp_path / "none.mar"))

    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/none.mar is missing: build it with")
    assert "Traceback" not in answer.stderr
