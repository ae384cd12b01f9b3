"""`python -m serving` as a process, and what it leaves behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from serving import paths, processes
from serving.properties import free_ports, read_properties

PATIENCE_S = 300.0


def placed(folder: Path, archive: Path, **entries: str) -> list[str]:
    """Options that put a server on free ports into a folder of its own; `entries` are of its configuration."""
    config = folder / "config.properties"
    found = read_properties(paths.CONFIG) | {"metrics_config": str(paths.ROOT / "handler" / "metrics.yaml")}
    found |= free_ports().entries(found) | entries
    config.write_text("".join(f"{key}={value}\n" for key, value in found.items()))
    places = {"--run": folder / "run", "--config": config, "--archive": archive, "--workers": 1}
    return [str(part) for option in places.items() for part in option]


def command(name: str, *arguments: str, limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end; `limit` in the process, before it begins."""
    return subprocess.run(
        [sys.executable, "-m", "serving", name, *arguments],
        cwd=paths.ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False, preexec_fn=limit,
    )  # fmt: skip


def members(run: Path) -> list[psutil.Process]:
    """Every live process that carries the run's mark, whatever its pid file says."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(processes.MARK) == str(run) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
