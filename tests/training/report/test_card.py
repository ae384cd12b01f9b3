from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.report.card import mistakes, render, surprises
from training.report.page import page
from training.report.seeds import spread
from training.report.wording import headline, with_interval


@pytest.fixture(scope="module")
def docs(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    readme = folder / "archive.md"
    assert main(["card", "--run", str(evaluated), "--docs", str(folder), "--archive-readme", str(readme)]) == 0
    return folder


def test_card_and_readme_show_every_headline_figure(docs: Path, report: dict[str, Any]) -> None:
    for name in ("model-card.md", "archive.md"):
        text = (docs / name).read_text()
        assert "Not for diagnosis" in text and text.endswith("\n")
        for row in headline(report):
            assert f"| {row['title']} | {row['figure']} |" in text


def test_the_archives_readme_leads_to_the_card(evaluated: Path, tmp_path: Path) -> None:
    readme = tmp_path / "store" / "small" / "README.md"
    docs = tmp_path / "docs" / "small"
    assert main(["card", "--run", str(evaluated), "--docs", str(docs), "--archive-readme", str(readme)]) == 0
    (link,) = re.findall(r"\[the model card\]\(([^)]+)\)", readme.read_text())
    assert (readme.parent / link).samefile(docs / "model-card.md")


def test_every_picture_of_the_card_is_written(docs: Path) -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (docs / "model-card.md").read_text())
    assert len(pictures) == 6
    assert [name for name in pictures if not (docs / name).read_text().startswith("<?xml")] == []


def test_no_film_leaves_the_run_folder(docs: Path, evaluated: Path) -> None:
    written = [path for path in docs.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} == {".md", ".json", ".svg"}
    assert "data:image/jpeg" in (evaluated / "report.html").read_text()
    assert [path for path in written if "data:image" in path.read_text() and path.name != "confusion.svg"] == []


def test_the_same_report_gives_the_same_files(docs: Path, evaluated: Path, tmp_path: Path) -> None:
    again = ["card", "--run", str(evaluated), "--docs", str(tmp_path), "--archive-readme", str(tmp_path / "archive.md")]
    assert main(again) == 0
    for path in docs.rglob("*.*"):
        assert (tmp_path / path.relative_to(docs)).read_bytes() == path.read_bytes()


def test_a_run_without_a_report_is_told_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "--run", str(tmp_path), "--docs", str(tmp_path)]) == 1
    assert "make evaluate RUN=" in capsys.readouterr().err


def test_failures_are_told_in_words(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    changed["parts"]["test"]["confusion"] = [[90, 10, 0], [1, 48, 1], [0, 20, 60]]
    assert mistakes(changed) == [
        "Right is called Left in 20 of 80 test films (25%).",
        "Hilum is called Left in 10 of 100 test films (10%).",
    ]


def test_the_verdict_follows_the_probe(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    probe = changed["audit"]["blacked_out"]["lungs_removed"]["probe"]
    probe["balanced_accuracy"] = {"value": 0.5, "low": 0.45, "high": 0.55}
    assert "gives its classes away" in surprises(changed)[0]
    probe["balanced_accuracy"] = {"value": 0.35, "low": 0.25, "high": 0.45}
    assert "no sign" in surprises(changed)[0]


def test_a_report_without_films_from_elsewhere_says_so(report: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(report)) | {"external": None}
    assert "nothing is known of other hospitals" in render("model-card.md.j2", changed)
    assert "| Films from elsewhere | - |" in render("archive-readme.md.j2", changed, card="card.md")


def test_several_seeds_have_a_table_on_page_and_card(report: dict[str, Any]) -> None:
    other = copy.deepcopy(report)
    other["run"]["seed"] = 8
    shown = copy.deepcopy(report) | {"seeds": spread([report, other])}
    row = shown["seeds"]["figures"]["macro_f1"]
    assert f"| Macro F1 | {row['mean']:.3f} | 0.000 |" in render("model-card.md.j2", shown)
    assert "2 seeds (7, 8)" in page(shown, {})


def test_a_run_with_overrides_is_marked_on_page_and_card(
    report: dict[str, Any], film_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    assert "not the recipe as its file has it" not in page(report, {}) + render("model-card.md.j2", report)
    run, data = tmp_path / "run", ["--data", str(film_folder)]
    assert main(["train", *data, "--recipe", str(recipe_file), "--run", str(run), "--epochs", "1"]) == 0
    assert main(["evaluate", *data, "--run", str(run)]) == 0
    assert "not the recipe as its file has it: epochs 2 -&gt; 1." in (run / "report.html").read_text()
    card = render("model-card.md.j2", json.loads((run / "report.json").read_text()))
    assert "not the recipe as its file has it (epochs 2 -> 1)." in card


def test_the_figures_of_a_quick_run_stand_for_nothing(report: dict[str, Any]) -> None:
    marked = copy.deepcopy(report)
    marked["run"]["marks"] = ["quick"]
    assert "(quick): its figures stand for nothing." in render("model-card.md.j2", marked)
    assert "quick. Its figures stand for nothing." in page(marked, {})


def test_the_card_names_the_recipe_once(docs: Path, report: dict[str, Any]) -> None:
    (line,) = [line for line in (docs / "model-card.md").read_text().splitlines() if line.startswith("Recipe `")]
    assert line.count("tiny") == 1 and "torch==" in line
    assert "recipe=tiny" not in page(report, {})


def test_a_teacher_is_named(report: dict[str, Any]) -> None:
    taught = copy.deepcopy(report)
    assert "distillation" not in render("model-card.md.j2", taught)
    taught["run"]["recipe_text"] += '\n[distil]\nteacher = "runs/strong/model.pt"\n'
    for shown in (render("model-card.md.j2", taught), render("archive-readme.md.j2", taught, card="card.md")):
        assert "answers of `runs/strong/model.pt` as well (distillation, weight 0.8" in shown


def test_the_commands_leave_the_default_archive_alone(report: dict[str, Any]) -> None:
    other = copy.deepcopy(report)
    for recipe, archive in (("default", ""), ("small", " ARCHIVE=model_store/small/cxr.mar")):
        other["run"]["recipe"] = recipe
        assert f"make archive RUN=runs/{recipe}{archive}\n" in render("model-card.md.j2", other)


def test_the_source_probe_is_shown(report: dict[str, Any]) -> None:
    shown = copy.deepcopy(report)
    figure = {"value": 0.636, "low": 0.5, "high": 0.775}
    probe = {"sources": {"a": 20, "b": 30}, "balanced_accuracy": figure, "chance": 0.5}
    shown["audit"]["copy_probe"] = {"column": "source", "classes": {"Normal": probe}}
    assert "a (20), b (30)" in page(shown, {})
    assert "| Source told from the features, within Normal | 0.636 [0.500, 0.775] | chance 0.50 |" in render(
        "model-card.md.j2", shown
    )


def test_a_figure_that_does_not_exist_is_a_dash() -> None:
    assert with_interval({"value": None, "low": None, "high": None}) == "-"
    assert with_interval({"value": 0.51234, "low": 0.4, "high": 0.6}) == "0.512 [0.400, 0.600]"
