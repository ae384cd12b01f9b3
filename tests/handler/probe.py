"""A bare worker: decodes the files named on the command line, each in a child, and says what it took.

python -m tests.handler.probe FILE... -> one JSON line each: outcome, megabytes, seconds
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from pathlib import Path

from cxr.errors import CxrError
from cxr.film import Limits
from cxr.reading import decode, stretch

CEILING = 6 << 30
"""Bytes of address space beyond the interpreter's own: the machine's neighbours are not to suffer."""
SECONDS = 60


def peak_megabytes() -> float:
    """VmHWM: unlike ru_maxrss it begins anew in a child, after `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def outcome(data: bytes) -> str:
    try:
        return f"read {stretch(decode(data, Limits()), (0.5, 99.5)).shape}"
    except CxrError as error:
        return type(error).__name__


def measure(path: str) -> None:
    data = Path(path).read_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (CEILING + (4 << 30),) * 2)
    signal.alarm(SECONDS)
    forget_peak()
    before = peak_megabytes()
    result = outcome(data)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    answer = {
        "outcome": result,
        "megabytes": round(peak_megabytes() - before),
        "seconds": usage.ru_utime + usage.ru_stime,
    }
    print(json.dumps(answer), flush=True)


def main() -> None:
    for path in sys.argv[1:]:
        child = os.fork()
        if child == 0:
            measure(path)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"outcome": f"died with status {status}", "megabytes": -1, "seconds": -1}), flush=True)


if __name__ == "__main__":
    main()
