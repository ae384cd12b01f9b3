"""Command line: `python -m training train|recipes|evaluate|card|archive`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from training.overrides import Overrides
from training.recipe import find, parse, stands_alone
from training.report.wording import with_interval


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, 1 with one sentence, 2 for a wrong command line, 130 after Ctrl-C."""
    arguments = _arguments(argv)
    try:
        arguments.command(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train, calibrate, evaluate and export one recipe")
    train.add_argument("--data", type=Path, required=True, help="folder of <class>/*.png or <class>/images/*.png")
    train.add_argument("--recipe", default="default", help="name in training/recipes, or a TOML file")
    train.add_argument("--run", type=Path, help="run folder (default runs/<recipe>); an unfinished run goes on")
    train.add_argument("--quick", action="store_true", help="few films, small, two epochs: only to see that it runs")
    train.add_argument("--epochs", type=int, help="instead of the recipe's; such a run is marked")
    train.add_argument("--weights", help="instead of the recipe's: imagenet, none, or a checkpoint")
    train.add_argument("--duplicates", choices=("refuse", "drop", "allow"), help="near-duplicates across the split")
    train.add_argument("--skip-broken", action="store_true", help="leave out films that cannot be read, and count them")
    train.add_argument("--workers", type=int, default=0, help="processes that augment; the result is the same")
    train.set_defaults(command=_train)
    _add_report(commands)
    archive = commands.add_parser("archive", help="build the .mar of a run, or anew with this checkout's handler")
    weights = archive.add_mutually_exclusive_group()
    weights.add_argument("--run", type=Path, default=Path("runs/default"))
    weights.add_argument("--keep-weights", action="store_true", help="those that --output holds, not those of a run")
    archive.add_argument("--output", type=Path, default=Path("model_store/cxr.mar"))
    archive.set_defaults(command=_archive)
    recipes = commands.add_parser("recipes", help="table of published figures beside measured ones")
    recipes.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders")
    recipes.set_defaults(command=_recipes)
    return parser.parse_args(argv)


def _add_report(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="report.html and report.json of one run, or of several seeds")
    evaluate.add_argument("--run", type=Path, action="append", required=True, help="run folder; several: also spread")
    evaluate.add_argument("--data", type=Path, required=True, help="the folder that was trained on")
    evaluate.add_argument("--external", type=Path, help="folder of films of other origin, the same class names")
    evaluate.add_argument("--strangers", type=Path, action="append", default=[], help="folder of no chest films")
    evaluate.add_argument("--copy-column", help="column of manifest.csv that names a film's source")
    evaluate.add_argument(
        "--retrain", action="append", default=[], choices=("lungs_removed", "border_only"),
        help="first train the recipe anew on films blacked out like this (as long as the training itself)",
    )  # fmt: skip
    evaluate.set_defaults(command=_evaluate)
    card = commands.add_parser("card", help="model card, figures and archive's README from a run's report.json")
    card.add_argument("--run", type=Path, default=Path("runs/default"))
    card.add_argument("--docs", type=Path, default=Path("docs"), help="gets model-card.md and report/")
    card.add_argument("--archive-readme", type=Path, default=Path("model_store/README.md"))
    card.set_defaults(command=_card)


def _train(arguments: argparse.Namespace) -> None:
    from training.weights import stages_before

    overrides = Overrides(arguments.quick, arguments.epochs, arguments.weights, arguments.duplicates)
    recipe = overrides.apply(parse(find(arguments.recipe).read_text()))
    for stage in stages_before(recipe):
        print(f"{recipe.name} needs the run of {stage}, which comes first")
        _train_one(arguments, stage, Overrides(duplicates=arguments.duplicates), None)
    _train_one(arguments, arguments.recipe, overrides, arguments.run)


def _train_one(arguments: argparse.Namespace, name: str, overrides: Overrides, folder: Path | None) -> None:
    from training.run import train_recipe

    text = find(name).read_text()
    recipe = overrides.apply(parse(text))
    folder = folder or Path("runs") / recipe.name
    options = {"workers": arguments.workers, "skip_broken": arguments.skip_broken}
    metrics = train_recipe(recipe, stands_alone(text, recipe), arguments.data, folder, **options)
    if metrics["broken"]:
        print(f"unreadable films left out: {len(metrics['broken'])}, named in metrics.json")
    if metrics["near_duplicates"]["pairs"]:
        found = metrics["near_duplicates"]
        print(f"pairs of near-duplicates across the split: {found['pairs']}; films left out: {found['dropped']}")
    for part in ("validation", "test"):
        print(f"{part}: macro F1 {with_interval(metrics[part]['macro_f1'])}")
    if recipe.overrides:
        print(f"this is not {find(name).stem} as published: {'; '.join(recipe.overrides)}")
    print(f"run folder: {folder}; next: make archive RUN={folder}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from training.report.build import Options
    from training.report.command import evaluate
    from training.report.page import PAGE_FILE
    from training.report.retrain import retrain
    from training.report.wording import headline

    for run in arguments.run:
        for variant in arguments.retrain:
            retrain(run, arguments.data, variant)
    options = Options(arguments.copy_column, tuple(arguments.strangers))
    reports = evaluate(arguments.run, arguments.data, arguments.external, options)
    for run, report in zip(arguments.run, reports, strict=True):
        for row in headline(report):
            print(f"{row['title']}: {row['figure']}  ({row['against']})")
        print(run / PAGE_FILE)
    for row in (reports[0]["seeds"] or {"figures": {}})["figures"].values():
        print(f"{row['title']}: mean {row['mean']:.3f}, standard deviation {row['deviation']:.3f}")


def _card(arguments: argparse.Namespace) -> None:
    from training.report.card import write_card

    for path in write_card(arguments.run, arguments.docs, arguments.archive_readme):
        print(path)


def _recipes(arguments: argparse.Namespace) -> None:
    from training.published import table

    print(table(arguments.runs))


def _archive(arguments: argparse.Namespace) -> None:
    from training.archive import build, rebuild
    from training.export import MODEL_FILE

    if arguments.keep_weights:
        print(f"{arguments.output}  sha256 {rebuild(arguments.output)}")
        return
    model = arguments.run / MODEL_FILE
    if not model.is_file():
        raise FileNotFoundError(f"no {model}: train first (make train DATA=<folder>), or name the run (RUN=<folder>)")
    print(f"{arguments.output}  sha256 {build(model, arguments.output)}")


if __name__ == "__main__":
    sys.exit(main())
