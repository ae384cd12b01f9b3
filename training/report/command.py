"""One command from run folders to report.json and report.html."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.files import write
from training.report.build import REPORT_FILE, Options, build
from training.report.gallery import gallery
from training.report.material import gather, open_run
from training.report.page import PAGE_FILE, page
from training.report.seeds import check, spread


def evaluate(runs: list[Path], data: Path, external: Path | None, options: Options) -> list[dict[str, Any]]:
    """Write both files into every run folder; several runs get their mean and spread as well.

    Raises:
        FileNotFoundError: no finished training in a folder, or no films.
        ValueError: data of other classes, or several runs that are not one recipe with different seeds.
    """
    opened = [open_run(run) for run in runs]
    if len(opened) > 1:
        check([(run.recipe.name, run.recipe.seed) for run in opened])  # before the long reading
    materials = [gather(run, data, external) for run in opened]
    reports = [build(material, options) for material in materials]
    seeds = spread(reports) if len(reports) > 1 else None
    for material, report in zip(materials, reports, strict=True):
        report["seeds"] = seeds
        write(material.run.folder / REPORT_FILE, json.dumps(report, indent=1, allow_nan=False))
        write(material.run.folder / PAGE_FILE, page(report, gallery(material)))
    return reports
