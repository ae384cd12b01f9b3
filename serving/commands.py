"""The commands behind `make serve`, `make start`, `make stop` and `make status`."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path

from serving import paths
from serving.archive import PREDICTION, ModelSettings
from serving.errors import ServingError, StartFailed
from serving.interruption import Interrupted, Interruption
from serving.properties import Ports, read_properties
from serving.torchserve import TorchServe


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status. What goes wrong is one sentence on standard error and status 1."""
    interruption = Interruption()
    interruption.catch()
    options = _parser().parse_args(arguments)
    try:
        return int(options.run_command(_server(options), interruption))
    except ServingError as error:
        _say(f"error: {error}")
    except BrokenPipeError:  # the reader of our output has gone
        pass
    except OSError as error:
        _say(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}.")
    return 1


def serve(server: TorchServe, interruption: Interruption) -> int:
    """Serve in the foreground until Ctrl-C, SIGTERM or the terminal closes; all are a normal end, status 0."""
    started = False
    try:
        with interruption.allowed():
            _announce(server)
        server.start()
        started = True
        with interruption.allowed():
            _wait(server)
            _show(server)
            _say("\nServing until Ctrl-C.")
            _watch(server)
    except Interrupted:
        pass
    finally:
        if started:
            _say("Stopping ...")
            server.stop()
    _say("Stopped.")
    return 0


def start(server: TorchServe, interruption: Interruption) -> int:
    """Start in the background; nothing to do where it runs already. Interrupted, nothing runs: status 1."""
    if server.is_running():
        _say(f"TorchServe runs already: {server.inference_url}")
        return 0
    _announce(server)
    server.start()
    try:
        with interruption.allowed():
            _wait(server)
    except BaseException as error:
        server.stop()
        if isinstance(error, Interrupted):
            _say("Interrupted: nothing runs.")
            return 1
        raise
    print(_addresses(server))
    return 0


def stop(server: TorchServe, interruption: Interruption) -> int:
    """Stop what `start` or `serve` started in this run folder; nothing to do where nothing runs."""
    was_running = server.is_running()
    clean = server.stop()
    _say(("Stopped." if clean else "Stopped; a process had to be killed.") if was_running else "Nothing was running.")
    return 0


def status(server: TorchServe, interruption: Interruption) -> int:
    """Say whether it runs and how many workers are ready; status 0 if all are, 3 if nothing runs, else 1."""
    if not server.is_running():
        print("TorchServe does not run.")
        return 3  # as the status action of LSB init scripts: program is not running
    counts = server.worker_counts()
    for model, (ready, wanted) in counts.items():
        print(f"{model}: {ready} of {wanted if wanted >= 0 else '?'} workers ready")
    return 0 if all(ready == wanted for ready, wanted in counts.values()) else 1


def _announce(server: TorchServe) -> None:
    _say(f"Starting TorchServe with {server.archive} ...")


def _wait(server: TorchServe) -> None:
    begun = time.monotonic()
    server.wait_ready(progress=lambda state: _say(f"  {state}"))
    _say(f"Ready after {time.monotonic() - begun:.0f} s.\n")


def _show(server: TorchServe) -> None:
    from serving.demonstration import demonstrate

    demonstrate(server)
    print(f"\n{_addresses(server)}", flush=True)


def _addresses(server: TorchServe) -> str:
    from serving.demonstration import addresses

    return addresses(server)


def _watch(server: TorchServe) -> None:
    """Return only by an exception: Interrupted, or StartFailed when Java is gone."""
    while server.is_running():
        time.sleep(0.5)
    raise StartFailed(f"TorchServe's Java process has ended: see {server.log_folder}.")


def _say(words: str) -> None:
    """Progress goes to standard error, answers to standard output.

    Nobody may listen any more (the terminal was closed): what has to be stopped is stopped nevertheless.
    """
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)


def _server(options: argparse.Namespace) -> TorchServe:
    models: ModelSettings = {}
    if options.workers:
        models = {PREDICTION: {"minWorkers": options.workers, "maxWorkers": options.workers}}
    return TorchServe(options.run, archive=options.archive, config=options.config, ports=_ports(options), models=models)


def _ports(options: argparse.Namespace) -> Ports | None:
    if not options.port_offset:
        return None
    return Ports.of(read_properties(options.config)).shifted(options.port_offset)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for run_command in (serve, start, stop, status):
        text = (run_command.__doc__ or "").splitlines()[0]
        command = commands.add_parser(run_command.__name__, help=text, description=text)
        command.set_defaults(run_command=run_command)
        _add_options(command)
    return parser


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--archive", type=Path, default=paths.ARCHIVE, help="model archive (.mar)")
    command.add_argument("--config", type=Path, default=paths.CONFIG, help="config.properties to start from")
    command.add_argument("--run", type=Path, default=paths.RUN, help="folder for logs, process id, temporary files")
    command.add_argument("--port-offset", type=int, default=0, help="added to every port of the configuration")
    command.add_argument("--workers", type=int, help="processes for `cxr`, instead of the archive's number")
