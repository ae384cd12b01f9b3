"""The model card (Mitchell et al. 2019, arXiv:1810.03993), written from report.json alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from training.files import write
from training.recipe import parse
from training.report.build import REPORT_FILE
from training.report.drawings import drawings
from training.report.page import TEMPLATES, environment
from training.report.wording import number

CARD, FIGURES = "model-card.md", "report"
DATA_SETS = {frozenset({"COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"}): "data-crd.md"}
"""By the labels: what there is to say of where the films come from."""
NOTABLE = 0.05
"""Share of a class's films mistaken for one other class that is worth a sentence."""


def write_card(run: Path, docs: Path, archive_readme: Path) -> list[Path]:
    """Write the card, report.json and its curves under `docs`, and the archive's README; returns their paths.

    Raises:
        FileNotFoundError: the run has no report yet.
    """
    path = run / REPORT_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: make evaluate RUN={run} DATA=<folder> first")
    text = path.read_text()
    report = json.loads(text)
    folder = docs / FIGURES
    written = [docs / CARD, archive_readme, folder / REPORT_FILE]
    write(docs / CARD, render("model-card.md.j2", report))
    card = Path(os.path.relpath(docs / CARD, archive_readme.parent)).as_posix()
    write(archive_readme, render("archive-readme.md.j2", report, card=card))
    write(folder / REPORT_FILE, text)
    for name, drawing in drawings(report).items():
        written.append(folder / f"{name}.svg")
        write(written[-1], drawing.decode())
    return written


def render(template: str, report: dict[str, Any], **more: str) -> str:
    """One of the Markdown templates."""
    made = environment(escape=False)
    data = DATA_SETS.get(frozenset(report["model"]["labels"]), "data-other.md")
    made.globals |= {
        "distil": parse(report["run"]["recipe_text"]).distil,
        "mistakes": mistakes,
        "surprises": surprises,
        "data": (TEMPLATES / data).read_text().strip(),
    }
    return made.get_template(template).render(report=report, **more)


def mistakes(report: dict[str, Any]) -> list[str]:
    """Sentences on which class is taken for which, the most frequent first; test films."""
    labels, matrix = report["model"]["labels"], report["parts"]["test"]["confusion"]
    found = [
        (matrix[true][said] / sum(matrix[true]), labels[true], labels[said], matrix[true][said], sum(matrix[true]))
        for true in range(len(labels))
        for said in range(len(labels))
        if true != said and sum(matrix[true]) and matrix[true][said] / sum(matrix[true]) >= NOTABLE
    ]
    return [
        f"{true} is called {said} in {count} of {films} test films ({share:.0%})."
        for share, true, said, count, films in sorted(found, reverse=True)
    ]


def surprises(report: dict[str, Any]) -> list[str]:
    """Sentences on what the audits found; each says which way it points."""
    audit, sentences = report["audit"], []
    for variant, words in (("lungs_removed", "the lungs removed"), ("border_only", "nothing but the border")):
        figure = audit["blacked_out"][variant]["network"]["balanced_accuracy"]
        probe = audit["blacked_out"][variant]["probe"]["balanced_accuracy"]
        chance = number(audit["chance"], 2)
        sentences.append(
            f"With {words}, balanced accuracy is {number(figure['value'], 2)} (chance {chance}), and "
            f"{number(probe['value'], 2)} for a probe trained on such films: {_verdict(probe, audit['chance'])}"
        )
    for name, found in audit["findings_without_lungs"].items():
        if found:
            where = "films from elsewhere" if name == "external" else "test films"
            share, stopped = found["reported_as_finding"]["value"], found["decisions"].get("reject", 0)
            sentences.append(
                f"Of {found['films']} {where} without lungs {share:.0%} are reported as a finding; "
                f"the gate stops {stopped}, whatever the classifier says of them."
            )
    return sentences + _elsewhere(report)


def _elsewhere(report: dict[str, Any]) -> list[str]:
    outside = report["external"]
    if not outside:
        return ["It was not tried on films from elsewhere: nothing is known of other hospitals."]
    home, there = report["parts"]["test"]["balanced_accuracy"]["value"], outside["balanced_accuracy"]["value"]
    kept = outside["abstention"]
    helps = "helps" if (kept["gain"]["low"] or 0) > 0 else "does not help for certain"
    return [
        f"On films from elsewhere its balanced accuracy is {there:.2f}, at home {home:.2f}.",
        f"Abstaining {helps} there: {number(kept['accuracy_reported']['value'], 2)} of the reported films are right, "
        f"{number(kept['accuracy_all']['value'], 2)} of all.",
    ]


def _verdict(figure: dict[str, float], chance: float) -> str:
    if figure["low"] > chance:
        return "the data set gives its classes away outside of the lungs."
    return "no sign that the classes can be told without lungs."
