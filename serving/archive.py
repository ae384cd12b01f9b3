"""The two registrations of one archive, in a model store of the run's own.

TorchServe takes a queue's length only from the yaml inside the archive, so `cxr-attribution`, with its
short queue, needs an archive of its own. It is made here from the same file; see
docs/adr/0002-attribution-registration.md.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serving.errors import CannotStart

PREDICTION = "cxr"
ATTRIBUTION = "cxr-attribution"

CONFIG_MEMBERS = {PREDICTION: "model-config.yaml", ATTRIBUTION: "model-config-attribution.yaml"}
"""Member of the archive that configures each registration; TorchServe itself reads the first name."""

TORCHSERVE_MEMBER = CONFIG_MEMBERS[PREDICTION]

ModelSettings = Mapping[str, Mapping[str, Any]]
"""Per registration, keys of its yaml that this run sets otherwise, e.g. {"cxr": {"minWorkers": 4}}."""


def fill_model_store(store: Path, archive: Path, settings: ModelSettings) -> None:
    """Write `<registration>.mar` for each registration into the empty folder `store`."""
    unknown = set(settings) - set(CONFIG_MEMBERS)
    if unknown:
        raise ValueError(f"No such registration: {', '.join(sorted(unknown))}.")
    for registration, member in CONFIG_MEMBERS.items():
        target = store / f"{registration}.mar"
        changes = settings.get(registration, {})
        if member == TORCHSERVE_MEMBER and not changes:
            target.symlink_to(archive.resolve())
        else:
            write_with_config(target, archive, configuration(archive, member) | dict(changes))


def configuration(archive: Path, member: str) -> dict[str, Any]:
    """One of the archive's model configurations, parsed."""
    with zipfile.ZipFile(archive) as source:
        if member not in source.namelist():
            raise CannotStart(f"{archive} carries no {member}: build it anew with `make archive`.")
        parsed = yaml.safe_load(source.read(member))
    return dict(parsed)


def write_with_config(target: Path, archive: Path, model_config: Mapping[str, Any]) -> None:
    """Copy `archive` with another model-config.yaml; nothing is compressed, as it is unpacked at once."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as copy:
        for entry in source.infolist():
            if entry.filename == TORCHSERVE_MEMBER or entry.is_dir():
                continue
            with source.open(entry) as reader, copy.open(entry.filename, "w", force_zip64=False) as writer:
                shutil.copyfileobj(reader, writer)
        copy.writestr(TORCHSERVE_MEMBER, yaml.safe_dump(dict(model_config), sort_keys=False))
