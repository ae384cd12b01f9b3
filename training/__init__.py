"""From a folder of films to one archive: data, train, evaluate, export, archive."""

import sys
from pathlib import Path

# The package cxr lies in handler/, as in the archive, and is never installed (pyproject.toml says why).
sys.path.insert(0, str(Path(__file__).parent.parent / "handler"))
