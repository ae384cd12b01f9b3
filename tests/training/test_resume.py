from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.conftest import ROOT, TINY, Vary, same, weights_of
from training.data import Films, load_parts
from training.recipe import TrainingRecipe, parse
from training.split import Part
from training.train import BEST, CHECKPOINT, Run, atomic_save

KILLED = """
import os, signal, sys
from pathlib import Path
from training.train import Run
from tests.training.test_resume import demanding, parts_for

class Killed(Run):
    def _step(self, pictures, classes, rate):
        loss = super()._step(pictures, classes, rate)
        self.steps = getattr(self, "steps", 0) + 1
        if self.progress.epoch == 1 and self.steps == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

recipe = demanding()
Killed(recipe, "", parts_for(recipe, Path(sys.argv[1])), Path(sys.argv[2])).train()
"""


def demanding() -> TrainingRecipe:
    """Everything a resumed run has to find again: batch norm, dropout, Adam's moments, average, hidden layers."""
    changes = {
        "squeezenet1_1": "resnet18",
        "epochs = 2": "epochs = 3",
        "seed = 7": 'seed = 7\nhidden = [16]\nclasses = ["Left", "Right"]',
        "size = 64": "size = 64\ncentre = 0.9",
        "[augment]": "[split]\ntest_per_class = 5\nvalidation_per_class = 4\n\n"
        "[stop]\nfirst_epoch = 2\ntraining_accuracy = 1.0\n\n[augment]\nnoise = 0.05\nerase = 0.3",
    }
    text = TINY
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse(text)


def parts_for(recipe: TrainingRecipe, folder: Path) -> dict[Part, Films]:
    return load_parts(folder, recipe.split, recipe.film, classes=recipe.classes)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_run_killed_within_an_epoch_ends_as_if_it_had_not_been(film_folder: Path, tmp_path: Path) -> None:
    recipe = demanding()
    parts = parts_for(recipe, film_folder)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(film_folder), str(tmp_path / "killed")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(json.loads((tmp_path / "killed" / "history.json").read_text())) == 1

    resumed, whole = (
        Run(recipe, "", parts, tmp_path / name, workers) for name, workers in (("killed", 1), ("whole", 0))
    )
    resumed.train()
    whole.train()
    assert resumed.progress == whole.progress
    assert same(weights_of(resumed.network), weights_of(whole.network))
    assert same(weights_of(resumed.best_guess), weights_of(whole.best_guess))
    best = [torch.load(run.folder / BEST, weights_only=True)["network"] for run in (resumed, whole)]
    assert same(*best)


def test_a_run_begun_before_a_setting_existed_goes_on(
    tiny: TrainingRecipe, parts: dict[Part, Films], run_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "older"))
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    del state["precision"], state["recipe"]["hidden"], state["recipe"]["stop"]["first_epoch"]
    torch.save(state, folder / CHECKPOINT)
    run = Run(tiny, "", parts, folder)
    run.begin()
    assert run.progress.epoch == 2


def test_a_kill_while_saving_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / CHECKPOINT
    atomic_save({"epoch": 1}, path)

    def half_written(state: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(KeyboardInterrupt):
        atomic_save({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}


def test_a_finished_run_is_not_trained_again(
    tiny: TrainingRecipe, parts: dict[Part, Films], run_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "finished"))
    run = Run(tiny, "", parts, folder)
    assert run.train() == folder / BEST
    assert (folder / CHECKPOINT).read_bytes() == (run_folder / CHECKPOINT).read_bytes()
    assert run.progress.epoch == 2


def test_a_folder_of_another_recipe_is_refused_and_left_as_it_is(
    vary: Vary, parts: dict[Part, Films], run_folder: Path
) -> None:
    before = {path.name: path.read_bytes() for path in run_folder.iterdir()}
    with pytest.raises(ValueError, match="holds a run of another recipe; choose another folder or remove it"):
        Run(vary(seed=8), "seed = 8", parts, run_folder).train()
    assert {path.name: path.read_bytes() for path in run_folder.iterdir()} == before


def test_a_folder_with_a_run_on_other_films_is_refused(vary: Vary, parts: dict[Part, Films], tmp_path: Path) -> None:
    Run(vary(), "", parts, tmp_path)._save()
    Run(vary(), "", parts, tmp_path).begin()
    brighter = replace(parts["train"], pictures=parts["train"].pictures // 2 + 1)
    renamed = replace(parts["train"], labels=("A", "B", "C"))
    for films in (brighter, renamed):
        with pytest.raises(ValueError, match="holds a run on other films"):
            Run(vary(), "", {**parts, "train": films}, tmp_path).begin()


def test_a_history_lost_between_checkpoint_and_file_is_written_anew(
    vary: Vary, parts: dict[Part, Films], tmp_path: Path
) -> None:
    run = Run(vary(), "", parts, tmp_path)
    run.progress.history = [{"epoch": 1, "loss": 0.5}]
    run._save()
    (tmp_path / "history.json").unlink()
    Run(vary(), "", parts, tmp_path).begin()
    assert json.loads((tmp_path / "history.json").read_text()) == [{"epoch": 1, "loss": 0.5}]
