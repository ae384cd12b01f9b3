"""Compile the .proto files into `client/generated`: `python -m client.protos` from the repository's root.

Needs grpcio-tools, which only development does. The compiled stubs are committed, and a test holds them
against what this module makes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGE = "client/generated"
_ENDS = ("pb2.py", "pb2.pyi", "pb2_grpc.py")

# protoc writes a bare Mapping, which mypy's strict mode does not let pass.
_TYPE_HEADER = '# mypy: disable-error-code="type-arg"\n'


def compile_protos(root: Path = ROOT) -> list[Path]:
    """Write the stubs under `root`/client/generated and return their paths.

    The protos are mapped into the package's path, so that imports between the stubs are absolute and the
    descriptor pool, one per process, knows them by a name no other service uses.

    Raises:
        subprocess.CalledProcessError: protoc refused a file; its words are on standard error.
    """
    protos = sorted(HERE.glob("*.proto"))
    outputs = [f"--{kind}_out={root}" for kind in ("python", "pyi", "grpc_python")]
    sources = [f"{PACKAGE}/{proto.name}" for proto in protos]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PACKAGE}={HERE}", *outputs, *sources]
    subprocess.run(command, check=True)
    for proto in protos:
        types = root / PACKAGE / f"{proto.stem}_pb2.pyi"
        types.write_text(_TYPE_HEADER + types.read_text())
    return [root / PACKAGE / f"{proto.stem}_{end}" for proto in protos for end in _ENDS]


if __name__ == "__main__":
    for stub in compile_protos():
        print(stub.relative_to(ROOT))
