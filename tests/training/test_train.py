from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxr.network import build, save, to_torchscript
from cxr.reading import normalise
from tests.training.conftest import LABELS, Vary, random_films, same, weights_of
from training.recipe import ScheduleSettings, TrainingRecipe
from training.train import (
    BEST,
    Diverged,
    Learned,
    Run,
    loader,
    model_recipe,
    new_optimiser,
    order_of,
    rate_at,
)


def a_batch(run: Run, count: int = 16) -> tuple[Tensor, Tensor]:
    films = run.films.select(np.arange(0, len(run.films), max(1, len(run.films) // count))[:count])
    return torch.from_numpy(films.pictures).float(), torch.from_numpy(films.classes)


# --- balance ---------------------------------------------------------------------------------------

UNEVEN = (160, 32, 8)


def drawn(recipe: TrainingRecipe, epoch: int = 0) -> list[int]:
    """Positions of the films in the order in which an epoch shows them."""
    return order_of(random_films(UNEVEN, side=8), recipe, epoch)


def test_the_sampler_draws_every_class_about_as_often(vary: Vary) -> None:
    classes = random_films(UNEVEN, side=8).classes
    shares = np.bincount([classes[film] for epoch in range(20) for film in drawn(vary(balance="sampler"), epoch)])
    assert np.abs(shares / shares.sum() - 1 / 3).max() < 0.04


@pytest.mark.parametrize("balance", ["none", "loss"])
def test_without_the_sampler_an_epoch_shows_every_film_once(vary: Vary, balance: str) -> None:
    assert sorted(drawn(vary(balance=balance))) == list(range(sum(UNEVEN)))


def test_a_last_batch_that_is_not_full_is_left_out(vary: Vary) -> None:
    """Batch norm over one film is no statistic."""
    batches = list(loader(random_films((20, 13), side=32), vary(), 0))
    assert [len(classes) for _, classes in batches] == [16, 16]


def test_films_fewer_than_a_batch_are_one_batch(vary: Vary) -> None:
    assert [len(classes) for _, classes in loader(random_films((3, 4), side=32), vary(), 0)] == [7]


def test_an_epoch_looks_the_same_whatever_the_number_of_workers(vary: Vary) -> None:
    films, recipe = random_films((9, 9), side=32), vary(augment={"noise": 0.1, "erase": 0.5})
    epochs = [list(loader(films, recipe, 4, workers)) for workers in (0, 1, 2)]
    for other in epochs[1:]:
        for (pictures, classes), (others, other_classes) in zip(epochs[0], other, strict=True):
            assert torch.equal(pictures, others) and torch.equal(classes, other_classes)


def test_augmentation_takes_nothing_from_the_random_numbers_of_others(vary: Vary) -> None:
    films, recipe = random_films((9, 9), side=32), vary()
    torch.manual_seed(1)
    batches = iter(loader(films, recipe, 0))
    before = torch.get_rng_state()
    next(batches)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epochs_order_depends_on_seed_and_epoch(vary: Vary) -> None:
    assert drawn(vary(seed=1), 3) == drawn(vary(seed=1), 3)
    assert drawn(vary(seed=1), 3) != drawn(vary(seed=1), 4)
    assert drawn(vary(seed=1), 3) != drawn(vary(seed=2), 3)


def test_a_rare_class_weighs_more_in_the_loss(vary: Vary, tmp_path: Path) -> None:
    films = random_films(UNEVEN, side=32)
    run = Run(vary(balance="loss"), "", {"train": films, "validation": films, "test": films}, tmp_path)
    logits = torch.tensor([[5.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    right, wrong = nn.functional.cross_entropy(logits, torch.tensor([0, 2]), reduction="none").tolist()
    loss = run._loss(logits, torch.empty(0), torch.tensor([0, 2]))
    assert loss.item() == pytest.approx((right + 20 * wrong) / 21)  # 160 films of the one, 8 of the other


# --- optimiser and schedule ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_is_the_recipes(vary: Vary, name: str, kind: type) -> None:
    settings = vary(optimise={"optimiser": name, "learning_rate": 0.25, "weight_decay": 0.5}).optimise
    optimiser = new_optimiser(nn.Linear(1, 1), settings)
    group = optimiser.param_groups[0]
    assert type(optimiser) is kind
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.5)
    assert group.get("momentum", 0.9) == 0.9


def test_a_step_schedule_divides_by_ten_every_three_epochs() -> None:
    schedule = ScheduleSettings(kind="step", every=3, factor=0.1)
    rates = [rate_at(epoch * 10 + 9, 90, 10, schedule) for epoch in range(9)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_a_cosine_warms_up_in_a_line_and_falls_to_nothing() -> None:
    rates = [rate_at(step, 100, 10, ScheduleSettings(kind="cosine", warmup=0.1)) for step in range(100)]
    assert rates[:10] == pytest.approx(np.linspace(0.1, 1, 10))
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert all(np.diff(rates[10:]) < 0)
    assert 0 <= rates[-1] < 0.001


def test_a_constant_schedule_is_one() -> None:
    assert {rate_at(step, 50, 10, ScheduleSettings(kind="constant")) for step in range(50)} == {1.0}


def test_a_step_is_taken_at_the_scheduled_rate(vary: Vary, new_run: Callable[..., Run]) -> None:
    run = new_run(vary(optimise={"optimiser": "sgd", "learning_rate": 0.1, "weight_decay": 0.0}))
    before = weights_of(run.network)
    run._step(*a_batch(run), rate=0.0)
    assert same(before, weights_of(run.network))
    run._step(*a_batch(run), rate=0.5)
    assert run.optimiser.param_groups[0]["lr"] == pytest.approx(0.05)
    assert not same(before, weights_of(run.network))


# --- loss ------------------------------------------------------------------------------------------


def test_label_smoothing_spreads_a_share_of_the_target(vary: Vary, new_run: Callable[..., Run]) -> None:
    run = new_run(vary(optimise={"label_smoothing": 0.3}))
    logits = torch.tensor([[4.0, 0.0, 1.0]])
    log_p = torch.log_softmax(logits, 1)[0]
    expected = -(0.8 * log_p[0] + 0.1 * log_p[1] + 0.1 * log_p[2])
    assert run._loss(logits, torch.empty(0), torch.tensor([0])).item() == pytest.approx(expected.item())


def distance_to_teacher(run: Run) -> float:
    """Mean KL divergence from the teacher's answers to the kept network's, on validation films."""
    x = normalise(torch.from_numpy(run.validation.pictures), run.reading)
    guess = run.best_guess.eval()
    with torch.no_grad():
        teacher = torch.softmax(run.teacher(x), 1)
        return float(nn.functional.kl_div(torch.log_softmax(guess(x), 1), teacher, reduction="batchmean"))


def test_distillation_brings_the_answers_nearer_to_the_teachers(
    vary: Vary, new_run: Callable[..., Run], run_folder: Path
) -> None:
    distil = {"teacher": str(run_folder / "model.pt"), "weight": 1.0, "temperature": 2.0}
    run = new_run(vary(seed=11, distil=distil, optimise={"ema": 0.0}))
    before = distance_to_teacher(run)
    run.train()
    assert distance_to_teacher(run) < 0.6 * before


def test_distillation_mixes_labels_and_teacher_by_its_weight(
    vary: Vary, new_run: Callable[..., Run], run_folder: Path
) -> None:
    teacher = str(run_folder / "model.pt")
    run = new_run(vary(distil={"teacher": teacher, "weight": 1.0, "temperature": 3.0}))
    pictures, classes = a_batch(run)
    x = normalise(pictures, run.reading)
    with torch.no_grad():
        answers, other = run.teacher(x), torch.randn(len(x), 3)
    assert run._loss(answers, x, classes).item() == pytest.approx(0, abs=1e-5)
    pure = run._loss(other, x, classes).item()
    run.recipe = vary(distil={"teacher": teacher, "weight": 0.25, "temperature": 3.0})
    labels = nn.functional.cross_entropy(other, classes).item()
    assert run._loss(other, x, classes).item() == pytest.approx(0.75 * labels + 0.25 * pure, rel=1e-5)


def test_a_teacher_is_shown_films_at_its_own_size(vary: Vary, new_run: Callable[..., Run], run_folder: Path) -> None:
    teacher = str(run_folder / "model.pt")
    assert new_run(vary(distil={"teacher": teacher})).teacher.size == 64  # that of the run
    run = new_run(vary(distil={"teacher": teacher, "size": 96}))
    small = normalise(a_batch(run)[0], run.reading)  # (B, 3, 64, 64)
    large = nn.functional.interpolate(small, (96, 96), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.equal(run.teacher(small), run.teacher.network(large))


@pytest.mark.parametrize(
    ("change", "why"), [({"labels": ("A", "B", "C")}, "labels"), ({"mean": (0.0, 0.0, 0.0)}, "mean")]
)
def test_a_teacher_of_other_films_is_refused(
    vary: Vary, new_run: Callable[..., Run], tmp_path: Path, change: dict[str, object], why: str
) -> None:
    recipe = vary(distil={"teacher": str(tmp_path / "teacher.pt")})
    reading = replace(model_recipe(recipe, LABELS), **change)
    save(to_torchscript(build("squeezenet1_1", 3), 64), tmp_path / "teacher.pt", reading)
    with pytest.raises(ValueError, match=f"the teacher's {why}"):
        new_run(recipe)


# --- what is kept ----------------------------------------------------------------------------------


def test_the_moving_average_follows_the_weights(vary: Vary, new_run: Callable[..., Run]) -> None:
    run = new_run(vary(architecture="resnet18", optimise={"ema": 0.75}))
    assert run.average is not None
    run._step(*a_batch(run), rate=1.0)
    expected = weights_of(run.network)
    for _ in range(2):
        run._step(*a_batch(run), rate=1.0)
        now = weights_of(run.network)
        expected = {name: 0.75 * value + 0.25 * now[name] for name, value in expected.items()}
    kept = weights_of(run.best_guess)
    for name in ("features.0.weight", "head.3.bias", "features.1.running_var"):
        assert torch.allclose(kept[name], expected[name], rtol=1e-4, atol=1e-7), name
        assert not torch.equal(kept[name], now[name])


def test_without_an_average_the_network_itself_is_kept(vary: Vary, new_run: Callable[..., Run]) -> None:
    run = new_run(vary(optimise={"ema": 0.0}))
    assert run.best_guess is run.network


def scripted(
    run: Run, losses: list[float], monkeypatch: pytest.MonkeyPatch, accuracies: Sequence[float] = ()
) -> list[int]:
    """Let the run's epochs give these validation losses; returns the epochs whose weights were written."""
    written: list[int] = []
    accuracies = list(accuracies)
    given = iter(losses)
    monkeypatch.setattr(Run, "_epoch", lambda self, epoch: Learned(1.0, accuracies.pop(0) if accuracies else 0.5))
    monkeypatch.setattr(nn.functional, "cross_entropy", lambda logits, classes: torch.tensor(next(given, math.inf)))
    monkeypatch.setattr(
        "training.train.atomic_save",
        lambda state, path: written.append(run.progress.epoch) if path.name == BEST else None,
    )
    run.train()
    return written


@pytest.mark.parametrize(
    ("patience", "epochs"), [(0, 8), (1, 3), (2, 6)], ids=["never stops", "at once", "two worse in a row"]
)
def test_training_stops_after_epochs_without_a_better_one(
    vary: Vary,
    new_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    patience: int,
    epochs: int,
) -> None:
    run = new_run(vary(stop={"patience": patience}, optimise={"epochs": 8}))
    scripted(run, [3, 2, 2.5, 1, 2, 2, 2, 2], monkeypatch)
    assert run.progress.epoch == epochs


def test_the_best_epoch_is_kept(vary: Vary, new_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(vary(optimise={"epochs": 5}))
    assert scripted(run, [3, 2, 2.5, 1, 2], monkeypatch) == [1, 2, 4]
    assert (run.progress.best_epoch, run.progress.best) == (4, 1)


def test_epochs_before_the_first_one_are_not_kept(
    vary: Vary, new_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(vary(stop={"first_epoch": 3}, optimise={"epochs": 5}))
    assert scripted(run, [1, 2, 4, 5, 3], monkeypatch) == [3, 5]
    assert (run.progress.best_epoch, run.progress.best) == (5, 3)


def test_the_last_epoch_is_kept_where_the_recipe_says_so(
    vary: Vary, new_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(vary(stop={"metric": "last"}, optimise={"epochs": 3}))
    assert scripted(run, [1, 2, 3], monkeypatch)[-1] == 3
    assert run.progress.best_epoch == 3


@pytest.mark.parametrize(("first_epoch", "epochs"), [(1, 2), (4, 4)], ids=["at once", "not before the first kept"])
def test_training_stops_at_a_training_accuracy(
    vary: Vary, new_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, first_epoch: int, epochs: int
) -> None:
    run = new_run(vary(stop={"training_accuracy": 0.95, "first_epoch": first_epoch}, optimise={"epochs": 6}))
    scripted(run, [3.0] * 6, monkeypatch, accuracies=[0.94, 0.95, 0.96, 0.97, 0.5, 0.5])
    assert run.progress.epoch == epochs


def test_training_accuracy_counts_the_films_told_right(vary: Vary, new_run: Callable[..., Run]) -> None:
    run = new_run(vary(optimise={"dropout": 0.0, "ema": 0.0}))
    pictures, classes = a_batch(run, 12)
    run.network.train()
    with torch.no_grad():
        right = run.network(normalise(pictures, run.reading)).argmax(1) == classes
    assert run._step(pictures, classes, rate=0.0).accuracy == pytest.approx(right.float().mean().item())


def test_a_loss_that_is_no_number_ends_the_run_with_advice(vary: Vary, new_run: Callable[..., Run]) -> None:
    run = new_run(vary(optimise={"optimiser": "sgd", "learning_rate": 1e9}))
    with pytest.raises(Diverged, match=r"lower optimise\.learning_rate"):
        run.train()
    assert not (run.folder / BEST).exists()
