"""The command as a whole, on the tiny training."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from sklearn import metrics

from tests.training.conftest import LABELS
from tests.training.report.conftest import OUTSIDE, command
from training.__main__ import main
from training.data import Films
from training.report.build import without_nan
from training.report.drawings import DRAWINGS
from training.report.material import open_run
from training.report.readings import RememberingReader
from training.split import Part


def test_the_figures_are_those_of_the_served_network(
    evaluated: Path, report: dict[str, Any], parts: dict[Part, Films]
) -> None:
    run = open_run(evaluated)
    films = [path.read_bytes for path in parts["test"].paths]
    probabilities = run.reader.read("test", films, explain=True).probabilities(run.network.recipe.temperature)
    true, said = parts["test"].classes, probabilities.argmax(axis=1)
    test = report["parts"]["test"]
    assert test["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(true, said))
    assert test["macro_f1"]["value"] == pytest.approx(metrics.f1_score(true, said, average="macro"))
    assert test["balanced_accuracy"]["value"] == pytest.approx(metrics.balanced_accuracy_score(true, said))
    for index, label in enumerate(LABELS):
        area = metrics.roc_auc_score(true == index, probabilities[:, index])
        assert test["per_class"][label]["auc"]["value"] == pytest.approx(area)
    assert test["confusion"] == metrics.confusion_matrix(true, said, labels=range(3)).tolist()


def test_training_and_report_agree(evaluated: Path, report: dict[str, Any]) -> None:
    trained = json.loads((evaluated / "metrics.json").read_text())
    for part in ("validation", "test"):
        assert report["parts"][part]["macro_f1"]["value"] == pytest.approx(trained[part]["macro_f1"]["value"])
        assert report["calibration"][part]["after"]["ece"]["value"] == pytest.approx(
            trained[part]["ece"]["value"], abs=1e-4
        )
    assert report["data"]["class_counts"]["train"] == trained["class_counts"]["train"]


def test_the_report_holds_every_part_of_the_audit(report: dict[str, Any]) -> None:
    assert report["audit"]["blacked_out"].keys() == {"whole", "lungs_removed", "border_only"}
    assert report["audit"]["field"] == "ellipse"
    assert report["external"]["class_counts"] == OUTSIDE
    assert sum(row["pictures"] for row in report["gate"]["strangers"].values()) > 40
    assert 0 <= report["gate"]["auroc"]["value"] <= 1
    assert [form["file"] for form in report["forms"]] == ["model.pt"]
    assert report["forms"][0]["milliseconds_per_film"]["1"]["median"] > 0


def test_the_page_needs_nothing_else(evaluated: Path, report: dict[str, Any]) -> None:
    page = (evaluated / "report.html").read_text()
    assert "Not for diagnosis" in page and "<script" not in page
    links = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert page.count("data:image/svg+xml") == len(DRAWINGS)
    assert page.count("data:image/jpeg") >= 3
    assert f"{report['parts']['test']['macro_f1']['value']:.3f}" in page
    assert page.count("<figcaption>") == page.count("<figure>")


def test_a_second_report_reads_no_film(
    evaluated: Path, film_folder: Path, outside_folder: Path, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a film was read again")

    monkeypatch.setattr(RememberingReader, "_read", fail)
    assert main(command(evaluated, film_folder, outside_folder)) == 0
    again = json.loads((evaluated / "report.json").read_text())
    assert {key: value for key, value in again.items() if key != "forms"} == {
        key: value for key, value in report.items() if key != "forms"
    }


def test_numbers_that_json_does_not_know_become_null() -> None:
    assert without_nan({"a": float("nan"), "b": [1.0, float("inf")], "c": "nan"}) == {
        "a": None,
        "b": [1.0, None],
        "c": "nan",
    }


# --- errors ----------------------------------------------------------------------------------------


def test_an_unfinished_run_is_named(tmp_path: Path, film_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--run", str(tmp_path), "--data", str(film_folder)]) == 1
    assert "train first" in capsys.readouterr().err


def test_data_of_other_classes_are_refused(
    run_folder: Path, film_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    data = Path(shutil.copytree(film_folder, tmp_path / "data"))
    (data / "Left").rename(data / "Links")
    manifest = (data / "manifest.csv").read_text().replace("Left/", "Links/")
    (data / "manifest.csv").write_text(manifest)
    assert main(["evaluate", "--run", str(run), "--data", str(data)]) == 1
    assert "the network knows Hilum, Left, Right" in capsys.readouterr().err


def test_films_from_elsewhere_of_an_unknown_class_are_refused(
    evaluated: Path, film_folder: Path, outside_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(outside_folder, tmp_path / "other"))
    (other / "Left").rename(other / "Up")
    assert main(command(evaluated, film_folder, other)) == 1
    assert "holds Up; the network knows" in capsys.readouterr().err


def test_the_same_run_twice_is_no_spread(
    evaluated: Path, film_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--run", str(evaluated), "--run", str(evaluated)]
    assert main(["evaluate", *runs, "--data", str(film_folder)]) == 1
    assert "different seeds" in capsys.readouterr().err
