"""One running TorchServe: Java started directly, watched until its models are READY, stopped without a trace.

Java is not started through the `torchserve` command: that is a Python parent that forwards no SIGTERM,
keeps its pid file in the shared temporary folder and so allows one instance per machine.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from serving import logs, paths, preflight, processes
from serving.archive import ATTRIBUTION, PREDICTION, ModelSettings, fill_model_store
from serving.errors import CannotStart, StartFailed
from serving.java import find_java
from serving.properties import Ports, host_of, reachable, read_properties, write_properties

REGISTRATIONS = (PREDICTION, ATTRIBUTION)
POLL_S = 0.2
READY_TIMEOUT_S = 240.0
"""Three workers load torch and warm up: 10 s on two free cores, a minute and more on busy ones."""
STOP_GRACE_S = 45.0
LONGEST_SOCKET_PATH = 100
"""A UNIX socket's path may have 107 bytes (sun_path in unix(7), 103 on macOS)."""


class TorchServe:
    """TorchServe with both registrations of one archive, in a run folder of its own.

        with TorchServe(run, ports=free_ports()) as server:
            requests.post(f"{server.inference_url}/predictions/cxr", data=film)

    `overrides` are entries of config.properties; `models` are keys of the archive's model configurations, as
    {"cxr": {"minWorkers": 1, "maxWorkers": 1}}. Nothing is started before `start`.
    """

    def __init__(
        self,
        run: Path = paths.RUN,
        *,
        archive: Path = paths.ARCHIVE,
        config: Path = paths.CONFIG,
        ports: Ports | None = None,
        overrides: Mapping[str, str] | None = None,
        models: ModelSettings | None = None,
    ) -> None:
        self.run = run.resolve()
        self.archive = archive
        self.config = config
        self.models = models or {}
        self.properties = _effective(config, ports, overrides or {})
        self._java: subprocess.Popen[bytes] | None = None
        self._http = requests.Session()
        self._http.trust_env = False  # a proxy named in the environment has no part in talking to this machine

    # --- where it is ---

    @property
    def inference_url(self) -> str:
        return self._url("inference_address", self.ports.inference)

    @property
    def management_url(self) -> str:
        return self._url("management_address", self.ports.management)

    @property
    def metrics_url(self) -> str:
        return self._url("metrics_address", self.ports.metrics)

    @property
    def grpc_target(self) -> str:
        return f"{reachable(host_of(self.properties, 'grpc_inference_address'))}:{self.ports.grpc_inference}"

    @property
    def ports(self) -> Ports:
        return Ports.of(self.properties)

    @property
    def log_folder(self) -> Path:
        return self.run / "logs"

    @property
    def leader(self) -> processes.Leader | None:
        """Java, if this run has one alive."""
        leader = processes.recall(self.run)
        return leader if leader is not None and leader.is_alive() else None

    # --- its life ---

    def start(self) -> None:
        """Start Java; returns at once. Raises CannotStart, and then nothing has been started."""
        try:
            with self._alone():
                self._check()
                self._prepare()
                self._java = self._launch()
                self._remember(self._java)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise CannotStart(
                f"{self.run} could not be prepared ({where}{error.strerror or error}): free some space, "
                "or name another folder with RUN_FOLDER=."
            ) from error

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S, progress: Callable[[str], None] = lambda _: None) -> None:
        """Return when every registration has all its workers READY.

        Raises StartFailed with the reason from the logs as soon as it is clear that this will not happen:
        Java ended, an archive was not accepted, a worker died a second time; or after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        said = ""
        while True:
            counts = self.worker_counts()
            if (now := _counted(counts)) != said:
                progress(said := now)
            if all(ready == wanted for ready, wanted in counts.values()):
                return
            self._fail_if_hopeless()
            if time.monotonic() > deadline:
                raise StartFailed(f"TorchServe was not ready after {timeout_s:g} s: see {self.log_folder}.")
            time.sleep(POLL_S)

    def stop(self, grace_s: float = STOP_GRACE_S) -> bool:
        """End every process of the run; False if one had to be killed. Does nothing where nothing runs."""
        leader = processes.recall(self.run)
        clean = leader is None or processes.end(leader, grace_s)
        if self._java is not None:
            self._java.wait(timeout=grace_s)
            self._java = None
        processes.forget(self.run)
        self._remove_leftovers()
        return clean

    def __enter__(self) -> TorchServe:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what it says about itself ---

    def describe(self, model: str) -> dict[str, Any] | None:
        """Management's answer about one registration; None while nothing answers.

        Raises StartFailed for an unknown one: TorchServe listens only once it has taken in all archives.
        """
        try:
            answer = self._http.get(f"{self.management_url}/models/{model}", timeout=10)
        except requests.RequestException:
            return None
        if answer.status_code == 404:
            reason = logs.failed_registration(self.log_folder)
            raise StartFailed(f"TorchServe did not accept the archive of {model}: {reason}")
        return dict(answer.json()[0]) if answer.ok else None

    def worker_pids(self, model: str) -> list[int]:
        """Process ids of the READY workers of one registration."""
        described = self.describe(model) or {"workers": []}
        return sorted(worker["pid"] for worker in described["workers"] if worker["status"] == "READY")

    def is_running(self) -> bool:
        """Whether this run's Java is alive."""
        return self.leader is not None

    def worker_counts(self) -> dict[str, tuple[int, int]]:
        """(READY workers, workers wanted) per registration; (0, -1) while nothing answers."""
        described = {model: self.describe(model) for model in REGISTRATIONS}
        return {model: _count(answer) if answer else (0, -1) for model, answer in described.items()}

    def _fail_if_hopeless(self) -> None:
        if not self.is_running():
            raise StartFailed(f"TorchServe's Java process ended: {logs.last_words(self.log_folder)}")
        if logs.keeps_dying(self.log_folder):
            raise StartFailed(f"A worker keeps dying while it loads the model: {logs.worker_error(self.log_folder)}")

    # --- how it is started ---

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two starts in one run folder at the same moment: the second finds the first one running."""
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _check(self) -> None:
        if (running := self.leader) is not None:
            raise CannotStart(f"TorchServe already runs here (process {running.pid}): `make stop` ends it.")
        stale = processes.recall(self.run)
        if stale is not None:  # Java was killed: its workers may have outlived it and hold memory
            processes.end(stale, grace_s=0)
        preflight.check_archive(self.archive)
        preflight.check_file(self.properties, "metrics_config")
        preflight.check_space(
            self.run, preflight.RUN_SPACE_GB, "free some space, or name another folder with RUN_FOLDER=."
        )
        preflight.check_ports(self.properties)

    def _prepare(self) -> None:
        """Lay out the run folder anew; the logs of the run before are kept as logs.before/."""
        self._remove_leftovers()
        shutil.rmtree(self.run / "logs.before", ignore_errors=True)
        if self.log_folder.exists():
            self.log_folder.rename(self.run / "logs.before")
        self.log_folder.mkdir()
        store = self.run / "models"
        store.mkdir()
        fill_model_store(store, self.archive, self.models)
        write_properties(self.run / "config.properties", self.properties | {"model_store": str(store)})

    def _launch(self) -> subprocess.Popen[bytes]:
        temporary = self._temporary_folder()
        command = _command(find_java(), self.run / "config.properties", temporary, self.properties)
        with (self.log_folder / "console.log").open("wb") as console:
            return subprocess.Popen(
                command,
                cwd=self.run,
                env=self._environment(temporary),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal reaches us, and we stop Java in order
            )

    def _remember(self, java: subprocess.Popen[bytes]) -> None:
        """Write the pid file. Where it cannot be written `stop` would not find Java: it does not go on."""
        try:
            processes.remember(self.run, java.pid)
        except BaseException:
            java.kill()
            java.wait()
            self._java = None
            raise

    def _environment(self, temporary: Path) -> dict[str, str]:
        """Ours, without what would steer TorchServe past its configuration or workers past their archive."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TS_") and k != "PYTHONPATH"}
        folders = {key: str(temporary) for key in ("TMPDIR", "TEMP", "TMP")}
        places = {key: str(self.log_folder) for key in ("LOG_LOCATION", "METRICS_LOCATION")}
        return inherited | folders | places | {processes.MARK: str(self.run)}

    def _temporary_folder(self) -> Path:
        """For unpacked archives and worker sockets: in the run folder, unless its path is too long."""
        folder = self.run / "tmp"
        if len(os.fsencode(folder / ".ts.sock.65535")) > LONGEST_SOCKET_PATH:
            folder.symlink_to(tempfile.mkdtemp(prefix="cxr-"))
            return folder.resolve()
        folder.mkdir()
        return folder

    def _remove_leftovers(self) -> None:
        """Unpacked archives and the private model store, of this run or of one that was killed."""
        temporary = self.run / "tmp"
        if temporary.is_symlink():
            shutil.rmtree(temporary.resolve(), ignore_errors=True)
            temporary.unlink()
        for folder in (temporary, self.run / "models"):
            shutil.rmtree(folder, ignore_errors=True)

    def _url(self, key: str, port: int) -> str:
        return f"http://{reachable(host_of(self.properties, key))}:{port}"


def _effective(config: Path, ports: Ports | None, overrides: Mapping[str, str]) -> dict[str, str]:
    """Entries of the file, then ports, then overrides; paths in the file are relative to the file."""
    if not config.is_file():
        raise CannotStart(f"{config} is missing: name a config.properties with CONFIG=<file>.")
    properties = read_properties(config)
    if "metrics_config" in properties:
        properties["metrics_config"] = str(config.resolve().parent / properties["metrics_config"])
    if ports is not None:
        properties |= ports.entries(properties)
    return properties | dict(overrides)


def _command(java: Path, config: Path, temporary: Path, properties: Mapping[str, str]) -> list[str]:
    """What ts/model_server.py would run, without its `.` on the class path and with our logging.

    Token authorization and the model API are governed by config.properties alone: neither flag is given.
    """
    home = _torchserve_home()
    return [
        str(java),
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={temporary}",
        f"-Dlog4j.configurationFile={paths.LOGGING.as_uri()}",
        *properties.get("vmargs", "").split(),
        *("-cp", str(home / "ts" / "frontend" / "*")),
        "org.pytorch.serve.ModelServer",
        *("--python", sys.executable),
        *("--ts-config-file", str(config)),
        "--no-config-snapshot",
    ]


def _torchserve_home() -> Path:
    """site-packages; `ts` itself is not imported, its import takes seconds."""
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise CannotStart("The package torchserve is not installed: run `make serve`, which installs it.")
    return Path(spec.origin).resolve().parent.parent


def _counted(counts: Mapping[str, tuple[int, int]]) -> str:
    return "workers ready: " + ", ".join(
        f"{model} {ready}/{wanted if wanted >= 0 else '?'}" for model, (ready, wanted) in counts.items()
    )


def _count(described: Mapping[str, Any]) -> tuple[int, int]:
    ready = sum(worker["status"] == "READY" for worker in described["workers"])
    wanted = int(described["minWorkers"])
    return min(ready, wanted), wanted
