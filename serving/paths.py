"""Where things lie in a checkout. Every caller may name other places."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config.properties"
ARCHIVE = ROOT / "model_store" / "cxr.mar"
RUN = ROOT / "run"
LOGGING = ROOT / "serving" / "log4j2.xml"

FILM = ROOT / "tests" / "films" / "RG1.png"
"""A real chest film (RG1 of PyPI's pydicom-data, scaled), sent once after every `make serve`."""
