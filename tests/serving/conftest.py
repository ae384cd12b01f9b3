from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving import paths
from serving.properties import free_ports
from serving.torchserve import TorchServe

SMALL = {"cxr": {"minWorkers": 1, "maxWorkers": 1}}
"""One worker for predictions: half the memory, for tests of starting and stopping."""

MANIFEST = {
    "runtime": "python",
    "archiverVersion": "0.12.0",
    "model": {
        "modelName": "cxr",
        "handler": "stand_in.py",
        "modelVersion": "1.0",
        "configFile": "model-config.yaml",
    },
}

WORKING_HANDLER = """
from ts.torch_handler.base_handler import BaseHandler

class StandIn(BaseHandler):
    def initialize(self, context):
        self.initialized = True

    def handle(self, data, context):
        return ["ok" for row in data]
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small archive: a handler's source, the repository's own model configurations, no model."""

    def write(handler: str = WORKING_HANDLER, manifest: object = MANIFEST) -> Path:
        target = tmp_path / "stand_in.mar"
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("stand_in.py", handler)
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
            for name in ("model-config.yaml", "model-config-attribution.yaml"):
                archive.write(paths.ROOT / "handler" / name, name)
        return target

    return write


@pytest.fixture
def torchserve(tmp_path: Path, stand_in: Callable[..., Path]) -> Iterator[Callable[..., TorchServe]]:
    """Makes a TorchServe on free ports that is stopped after the test, whatever happened."""
    made: list[TorchServe] = []

    def make(archive: Path | None = None, **options: object) -> TorchServe:
        chosen: dict[str, object] = {"ports": free_ports(), "models": SMALL, "archive": archive or stand_in()}
        made.append(TorchServe(tmp_path / f"run{len(made)}", **(chosen | options)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for server in made:
        server.stop()
