from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from cxr import network
from tests.training.conftest import LABELS, ROOT, TINY, film, train, write_film
from training.data import Films
from training.recipe import TrainingRecipe
from training.run import best_network
from training.split import Part
from training.train import logits_of

HELD = {
    "recipe.toml",
    "checkpoint.pt",
    "best.pt",
    "history.json",
    "curves.png",
    "classes.png",
    "augmented.png",
    "model.pt",
    "metrics.json",
    "confusion_train.png",
    "confusion_validation.png",
    "confusion_test.png",
}


def no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def metrics(run_folder: Path) -> dict[str, Any]:
    return json.loads((run_folder / "metrics.json").read_text(), parse_constant=no_constant)


def weights(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["network"]


def test_a_run_folder_holds_what_the_documentation_lists(run_folder: Path) -> None:
    assert {path.name for path in run_folder.iterdir()} == HELD
    page = (ROOT / "docs" / "training.md").read_text()
    assert not [name for name in HELD if f"`{name}`" not in page]


def test_the_recipe_is_kept_word_for_word(run_folder: Path) -> None:
    assert (run_folder / "recipe.toml").read_text() == TINY


def test_metrics_say_what_was_trained_and_how(metrics: dict[str, Any], tiny: TrainingRecipe) -> None:
    assert (metrics["recipe"], metrics["seed"]) == ("tiny", 7)
    assert metrics["best_epoch"] in (1, 2)
    assert metrics["split"] == asdict(tiny.split)
    assert (metrics["quick"], metrics["overrides"], metrics["weights"]) == (False, [], "none")
    assert metrics["data"]["films"] == 96
    assert (metrics["broken"], metrics["near_duplicates"]["pairs"]) == ([], 0)
    assert metrics["model_megabytes"] > 1
    assert metrics["class_counts"]["train"].keys() == set(LABELS)
    assert sum(sum(counts.values()) for counts in metrics["class_counts"].values()) == 96
    assert metrics["reading"]["version"] == tiny.version
    assert f"torch=={torch.__version__.split('+')[0]}" in metrics["trained_with"]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_metrics_have_intervals(metrics: dict[str, Any], part: str) -> None:
    figures = metrics[part]
    assert figures["films"] == sum(metrics["class_counts"][part].values())
    assert figures["groups"] < figures["films"]
    for name in ("accuracy", "macro_f1", "weighted_f1", "macro_auc", "ece"):
        assert figures[name]["low"] <= figures[name]["high"]
    assert figures["per_class"].keys() == set(LABELS)
    assert [sum(row) for row in figures["confusion"]] == list(metrics["class_counts"][part].values())
    assert 0 <= figures["confident_share"] <= 1


def test_the_history_has_a_line_for_every_epoch(run_folder: Path) -> None:
    history = json.loads((run_folder / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert history[1]["training_loss"] < history[0]["training_loss"]
    assert all(0 <= entry["training_accuracy"] <= 1 for entry in history)
    assert 0 < history[1]["learning_rate"] < history[0]["learning_rate"] <= 1e-3


def test_the_lowest_validation_loss_is_the_histories(run_folder: Path, metrics: dict[str, Any]) -> None:
    history = json.loads((run_folder / "history.json").read_text())
    assert metrics["lowest_validation_loss"] == min(entry["loss"] for entry in history)


@pytest.mark.parametrize("name", sorted(name for name in HELD if name.endswith(".png")))
def test_plots_are_pictures(run_folder: Path, name: str) -> None:
    with Image.open(run_folder / name) as picture:
        assert min(picture.size) > 300
        low, high = picture.convert("L").getextrema()
    assert high - low > 200


def test_the_exported_model_is_the_best_epochs(
    run_folder: Path, tiny: TrainingRecipe, parts: dict[Part, Films], metrics: dict[str, Any]
) -> None:
    loaded = network.load(run_folder / "model.pt")
    expected = logits_of(best_network(tiny, run_folder / "best.pt", 3), parts["test"], loaded.recipe)
    assert torch.allclose(logits_of(loaded.whole, parts["test"], loaded.recipe), expected, atol=1e-5)
    assert json.loads(loaded.recipe.to_json()) == metrics["reading"]
    assert loaded.novelty.whitening.abs().max() > 0


def test_the_same_seed_gives_the_same_figures_and_weights(
    film_folder: Path, recipe_file: Path, run_folder: Path, tmp_path: Path
) -> None:
    assert train(film_folder, recipe_file, tmp_path) == 0
    for name in ("metrics.json", "history.json"):
        assert (tmp_path / name).read_text() == (run_folder / name).read_text()
    first, second = weights(tmp_path / "best.pt"), weights(run_folder / "best.pt")
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_another_seed_gives_other_weights(film_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "other.toml"
    recipe.write_text(TINY.replace("seed = 7", "seed = 8").replace("epochs = 2", "epochs = 1"))
    assert train(film_folder, recipe, tmp_path / "run") == 0
    first, second = weights(tmp_path / "run" / "best.pt"), weights(run_folder / "best.pt")
    assert not any(torch.equal(first[name], second[name]) for name in second if name.endswith("weight"))


def test_a_finished_run_is_evaluated_anew_without_training(
    film_folder: Path, recipe_file: Path, run_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    for name in ("metrics.json", "model.pt", "curves.png"):
        (tmp_path / "run" / name).unlink()
    assert train(film_folder, recipe_file, tmp_path / "run") == 0
    assert (tmp_path / "run" / "metrics.json").read_text() == (run_folder / "metrics.json").read_text()
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == (run_folder / "checkpoint.pt").read_bytes()


def test_kaggles_layout_trains_alike(film_folder: Path, recipe_file: Path, run_folder: Path, tmp_path: Path) -> None:
    """The same films in `<class>/images/`, with masks beside them, give the same model."""
    manifest, data = (film_folder / "manifest.csv").read_text(), tmp_path / film_folder.name
    for label in LABELS:
        shutil.copytree(film_folder / label, data / label / "images")
        write_film(data / label / "masks" / "00.png", film(0, 0))
        manifest = manifest.replace(f"{label}/", f"{label}/images/")
    (data / "manifest.csv").write_text(manifest)
    assert train(data, recipe_file, tmp_path / "run") == 0
    assert (tmp_path / "run" / "metrics.json").read_text() == (run_folder / "metrics.json").read_text()
