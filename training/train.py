"""The training loop: settings on top, one epoch in the middle, the run at the bottom."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, WeightedRandomSampler
from tqdm import tqdm

import cxr.network
import cxr.recipe
from cxr.reading import normalise
from training.augment import Augment
from training.data import Films, TrainingSet, class_weights, in_batches
from training.device import Precision
from training.files import replaced
from training.recipe import OptimiseSettings, ScheduleSettings, TrainingRecipe, from_values
from training.split import Part
from training.weights import new_network

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
"""In the run folder: everything needed to go on after a kill; the weights of the best epoch."""


class Diverged(RuntimeError):
    """The loss is no number any more."""


class AtSize(nn.Module):
    """A teacher shown the student's films, (B, 3, S, S), at its own size."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.size:
            x = nn.functional.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        logits: Tensor = self.network(x)  # (B, classes)
        return logits


class Learned(NamedTuple):
    """What the training films looked like over some batches: means, augmentation and dropout included."""

    loss: float
    accuracy: float


@dataclass
class Progress:
    """What a run knows of itself; saved with every checkpoint."""

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = math.inf
    best_epoch: int = 0


# --- parts -----------------------------------------------------------------------------------------


def model_recipe(recipe: TrainingRecipe, labels: tuple[str, ...]) -> cxr.recipe.Recipe:
    """The serving side of a training recipe, before calibration."""
    return cxr.recipe.Recipe(
        name="cxr",
        architecture=recipe.architecture,
        version=recipe.version,
        labels=labels,
        trained_with=(f"torch=={torch.__version__.split('+')[0]}", f"recipe={recipe.name}"),
        **asdict(recipe.film),
    )


def new_optimiser(network: nn.Module, settings: OptimiseSettings) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=0.9, **options)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(network.parameters(), **options)


def rate_at(step: int, steps: int, per_epoch: int, schedule: ScheduleSettings) -> float:
    """Learning rate at a step as a share of the recipe's."""
    if schedule.kind == "step":
        return float(schedule.factor ** (step // per_epoch // schedule.every))
    if schedule.kind == "constant":
        return 1.0
    warmup = max(1, int(steps * schedule.warmup))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def order_of(films: Films, recipe: TrainingRecipe, epoch: int) -> list[int]:
    """Positions of the films in the order of an epoch; it depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
    weights = class_weights(films) if recipe.balance == "sampler" else torch.ones(len(films.labels))
    sampler = WeightedRandomSampler(
        weights[torch.from_numpy(films.classes)].tolist(),
        len(films),
        replacement=recipe.balance == "sampler",
        generator=generator,
    )
    return list(sampler)


def loader(films: Films, recipe: TrainingRecipe, epoch: int, workers: int = 0) -> DataLoader[tuple[Tensor, int]]:
    """One epoch of augmented films, the same for any number of worker processes, so a resumed run repeats it."""
    dataset = TrainingSet(films, Augment(recipe.augment), order_of(films, recipe, epoch), recipe.seed * 1000 + epoch)
    batch = recipe.optimise.batch
    return DataLoader(dataset, batch, num_workers=workers, drop_last=len(films) > batch)


def logits_of(network: nn.Module, films: Films, recipe: cxr.recipe.Recipe) -> Tensor:
    """(N, classes) float32, without augmentation."""
    network.eval()
    return in_batches(films, recipe, network, next(network.parameters()).device)


# --- the run ---------------------------------------------------------------------------------------


class Run:
    """One training in one folder; `train` goes on where a killed run stopped."""

    def __init__(
        self, recipe: TrainingRecipe, recipe_text: str, parts: dict[Part, Films], folder: Path, workers: int = 0
    ) -> None:
        self.recipe, self.recipe_text, self.folder, self.workers = recipe, recipe_text, folder, workers
        self.films = parts["train"]
        self.validation = parts["validation"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = Precision(self.device)
        self.reading = model_recipe(recipe, self.films.labels)
        seed_everything(recipe.seed)
        self.network = new_network(recipe, len(self.films.labels)).to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = self._new_average()
        self.optimiser = new_optimiser(self.network, recipe.optimise)
        self.criterion = self._new_criterion()
        self.teacher = self._load_teacher()
        self.progress = Progress()

    def begin(self) -> None:
        """Open the run folder and go to where a run in it stopped.

        Raises:
            ValueError: the folder holds a run of another recipe, or on other films.
        """
        self._resume()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "recipe.toml").write_text(self.recipe_text)
        self._write_history()  # a kill may have come between the checkpoint and it

    def train(self) -> Path:
        """Train to the end; returns the path of the best weights.

        Raises:
            ValueError: as `begin`.
            Diverged: the loss is no number any more.
        """
        self.begin()
        epochs = self.recipe.optimise.epochs
        while self.progress.epoch < epochs and not self._stopped_early():
            learned = self._epoch(self.progress.epoch)
            if not math.isfinite(learned.loss):
                raise Diverged(
                    f"the training loss is {learned.loss}: lower optimise.learning_rate, in another run folder"
                )
            self.progress.epoch += 1
            self._validate(learned)
            self._save()
        return self.folder / BEST

    def _epoch(self, epoch: int) -> Learned:
        """One pass over the films."""
        seed_everything(self.recipe.seed * 1000 + epoch)
        batches = loader(self.films, self.recipe, epoch, self.workers)
        steps = self.recipe.optimise.epochs * len(batches)
        self.network.train()
        done: list[Learned] = []
        bar = tqdm(batches, desc=f"epoch {epoch + 1}/{self.recipe.optimise.epochs}", unit="batch", mininterval=2)
        for index, (pictures, classes) in enumerate(bar):
            rate = rate_at(epoch * len(batches) + index, steps, len(batches), self.recipe.schedule)
            done.append(self._step(pictures, classes, rate))
            bar.set_postfix(loss=f"{_mean(done).loss:.3f}", accuracy=f"{_mean(done).accuracy:.3f}")
        return _mean(done)

    def _step(self, pictures: Tensor, classes: Tensor, rate: float) -> Learned:
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.optimise.learning_rate * rate
        x = normalise(pictures.to(self.device), self.reading)  # (B, 3, S, S)
        x = x.contiguous(memory_format=torch.channels_last)
        classes = classes.to(self.device)
        with self.precision.autocast():
            logits = self.network(x)
            loss = self._loss(logits, x, classes)
        self.optimiser.zero_grad(set_to_none=True)
        self.precision.step(loss, self.optimiser)
        if self.average is not None:
            self.average.update_parameters(self.network)
        right = (logits.detach().argmax(1) == classes).float().mean()
        return Learned(float(loss.detach()), float(right))

    def _loss(self, logits: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        loss: Tensor = self.criterion(logits, classes)
        if self.teacher is None:
            return loss
        t, weight = self.recipe.distil.temperature, self.recipe.distil.weight
        with torch.no_grad():
            soft = torch.softmax(self.teacher(x) / t, dim=1)
        distance = nn.functional.kl_div(torch.log_softmax(logits / t, dim=1), soft, reduction="batchmean")
        return (1 - weight) * loss + weight * t * t * distance

    def _validate(self, learned: Learned) -> None:
        logits = logits_of(self.best_guess, self.validation, self.reading)
        classes = torch.from_numpy(self.validation.classes)
        entry = {
            "epoch": self.progress.epoch,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "training_loss": learned.loss,
            "training_accuracy": learned.accuracy,
            "loss": float(nn.functional.cross_entropy(logits, classes)),
            "macro_f1": float(f1_score(classes, logits.argmax(1), average="macro")),
            "accuracy": float((logits.argmax(1) == classes).float().mean()),
        }
        self.progress.history.append(entry)
        tqdm.write("  ".join(f"{key} {value:.4g}" for key, value in entry.items()))
        score = {"loss": entry["loss"], "macro_f1": -entry["macro_f1"], "last": -entry["epoch"]}[
            self.recipe.stop.metric
        ]
        if score < self.progress.best and self.progress.epoch >= self.recipe.stop.first_epoch:
            self.progress.best, self.progress.best_epoch = score, self.progress.epoch
            atomic_save({"network": self.best_guess.state_dict()}, self.folder / BEST)

    @property
    def best_guess(self) -> nn.Module:
        """The network that is judged and kept: the moving average where there is one."""
        return self.average.module if self.average is not None else self.network

    def _stopped_early(self) -> bool:
        stop, epoch = self.recipe.stop, self.progress.epoch
        if epoch < stop.first_epoch:
            return False
        if 0 < stop.patience <= epoch - self.progress.best_epoch:
            return True
        return 0 < stop.training_accuracy <= self.progress.history[-1]["training_accuracy"]

    # --- set-up and resume -----------------------------------------------------------------------

    def _new_average(self) -> AveragedModel | None:
        if not self.recipe.optimise.ema:
            return None
        average = get_ema_multi_avg_fn(self.recipe.optimise.ema)  # type: ignore[no-untyped-call]
        return AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)

    def _new_criterion(self) -> nn.Module:
        weight = class_weights(self.films).to(self.device) if self.recipe.balance == "loss" else None
        return nn.CrossEntropyLoss(weight=weight, label_smoothing=self.recipe.optimise.label_smoothing)

    def _load_teacher(self) -> nn.Module | None:
        if not self.recipe.distil.teacher:
            return None
        teacher = cxr.network.load(Path(self.recipe.distil.teacher), self.device, optimise=False)
        for name in ("labels", "mean", "std"):
            theirs, ours = getattr(teacher.recipe, name), getattr(self.reading, name)
            if theirs != ours:
                raise ValueError(f"the teacher's {name} {theirs} are not the recipe's {ours}")
        return AtSize(teacher.whole, self.recipe.distil.size or teacher.recipe.size)

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimiser": self.optimiser.state_dict(),
            "precision": self.precision.state_dict(),
            "progress": asdict(self.progress),
            "recipe": asdict(self.recipe),
            "films": self._fingerprints(),
        }
        atomic_save(state, self.folder / CHECKPOINT)
        self._write_history()

    def _write_history(self) -> None:
        (self.folder / "history.json").write_text(json.dumps(self.progress.history, indent=1))

    def _fingerprints(self) -> list[str]:
        return [self.films.fingerprint(), self.validation.fingerprint()]

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if from_values(state["recipe"]) != self.recipe:
            raise ValueError(f"{self.folder} holds a run of another recipe; choose another folder or remove it")
        if state.get("films", self._fingerprints()) != self._fingerprints():
            raise ValueError(f"{self.folder} holds a run on other films; choose another folder or remove it")
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.precision.load_state_dict(state.get("precision", {}))
        self.progress = Progress(**state["progress"])


def _mean(steps: list[Learned]) -> Learned:
    """The last batch may be smaller in a set below one batch only, so batches weigh the same."""
    count = max(1, len(steps))
    return Learned(sum(step.loss for step in steps) / count, sum(step.accuracy for step in steps) / count)


def atomic_save(state: Any, path: Path) -> None:
    """A kill in the middle leaves the old file."""
    with replaced(path) as partial:
        torch.save(state, partial)


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
