"""From a TorchScript file to one reproducible .mar: same input, same sha256."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cxr.network

HANDLER = Path(__file__).parent.parent / "handler"
LEFT_OUT = ("__pycache__", "*.pyc", ".*", "*.orig", "*.rej", "*~", "metrics.yaml")
"""Of the handler folder: caches, what editors leave, and the front end's own file."""
MANIFEST = "MAR-INF/MANIFEST.json"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date a zip entry can carry."""
CREATED_ON = "01/01/1980 00:00:00"


def build(model: Path, output: Path) -> str:
    """Archive `model` with the handler of this checkout; returns the archive's sha256.

    torch-model-archiver stages under a fixed name in its temporary folder and writes the time of day into
    the manifest: it gets a private folder, and the result is written anew with fixed order and dates.

    Raises:
        ValueError: `model` is no TorchScript file of this project.
    """
    version = _version(model)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cxr-archive-", dir=output.parent) as name:
        folder = Path(name)
        built = _run_archiver(model, version, folder)
        whole = folder / "whole.mar"
        _normalise(built, whole)
        digest = hashlib.sha256(whole.read_bytes()).hexdigest()
        os.replace(whole, output)  # the same disk: whoever reads `output` sees the old archive or the new one
    return digest


def rebuild(archive: Path) -> str:
    """Build `archive` anew from the weights that it holds and the handler of this checkout; returns its sha256.

    Raises:
        ValueError: there is no such archive, or it holds no weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(archive) as old:
                model = Path(old.extract("model.pt", folder))
        except (FileNotFoundError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{archive} is no archive with a model.pt: build it from a run (make archive RUN=<folder>)"
            ) from error
        return build(model, archive)


def _version(model: Path) -> str:
    try:
        return cxr.network.load(model, optimise=False).recipe.version
    except RuntimeError as error:
        raise ValueError(f"{model} is broken or no TorchScript file: export it anew (make train)") from error


def _run_archiver(model: Path, version: str, folder: Path) -> Path:
    handler, out, temporary = folder / "handler", folder / "out", folder / "tmp"
    shutil.copytree(HANDLER, handler, ignore=shutil.ignore_patterns(*LEFT_OUT))
    out.mkdir()
    temporary.mkdir()
    serialized = shutil.copy(model, folder / "model.pt")
    command = [
        sys.executable, "-m", "model_archiver.model_packaging",
        "--model-name", "cxr", "--version", version,
        "--serialized-file", str(serialized),
        "--handler", str(handler / "xray_handler.py"),
        "--config-file", str(handler / "model-config.yaml"),
        "--extra-files", str(handler),
        "--export-path", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"torch-model-archiver failed: {done.stderr.strip()[-500:]}")
    return out / "cxr.mar"


def _normalise(source: Path, target: Path) -> None:
    """Stored, not deflated: other builds of zlib compress to other bytes, and weights hardly shrink."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(name for name in old.namelist() if not name.endswith("/")):
            data = old.read(name)
            if name == MANIFEST:
                data = _undated(data)
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            new.writestr(entry, data)


def _undated(manifest: bytes) -> bytes:
    document = json.loads(manifest)
    document["createdOn"] = CREATED_ON
    return json.dumps(document, indent=2, sort_keys=True).encode()
