"""Install a requirements file into the virtual environment that runs this; called by the Makefile.

Standard library only. A shell between make and pip would leave pip running after a SIGTERM.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from serving.errors import CannotStart
from serving.interruption import Interrupted, Interruption

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
FROM_TORCH_INDEX = re.compile(r"^torch(vision)?==", re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, 1 with one sentence after pip's own words, 143 after SIGINT, SIGTERM or SIGHUP."""
    parser = argparse.ArgumentParser(prog="python -m serving.install", description=__doc__)
    parser.add_argument("requirements", type=Path)
    parser.add_argument("--stamp", type=Path, required=True, help="file to touch when all is installed")
    parser.add_argument("--torch-index", help="package index that torch and torchvision alone are taken from")
    arguments = parser.parse_args(argv)
    interruption = Interruption()
    interruption.catch()
    try:
        if arguments.torch_index:
            lines = [line for line in arguments.requirements.read_text().splitlines() if FROM_TORCH_INDEX.match(line)]
            install(interruption, "--no-deps", "--index-url", arguments.torch_index, *lines)
        install(interruption, "-r", str(arguments.requirements))
    except CannotStart as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        return 143
    arguments.stamp.touch()
    return 0


def install(interruption: Interruption, *arguments: str) -> None:
    """Run pip to its end, its words passed on.

    Raises:
        CannotStart: pip failed.
        Interrupted: a signal came; pip has ended.
    """
    pip = subprocess.Popen([*PIP, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert pip.stderr is not None
    said = []
    try:
        with interruption.allowed():
            for line in pip.stderr:
                sys.stderr.write(line)
                said.append(line)
            pip.wait()
    finally:
        with suppress(ProcessLookupError):  # what pip started has no other parent
            os.killpg(pip.pid, signal.SIGTERM)
        pip.wait()
    if pip.returncode:
        raise CannotStart(remedy("".join(said)))


def remedy(said: str) -> str:
    """What to do about a pip that failed with these words."""
    if os.strerror(errno.ENOSPC) in said:
        return (
            f"The disk is full: make room where {sys.prefix}, {tempfile.gettempdir()} (TMPDIR) and pip's cache "
            "(PIP_CACHE_DIR) lie, or install a CPU-only torch (TORCH_INDEX), then run make again."
        )
    return "Packages could not be installed: check the network and pip's words above, then run make again."


if __name__ == "__main__":
    sys.exit(main())
