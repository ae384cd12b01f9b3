"""Command line: `python -m training train|archive`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.recipe import find, parse


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
    train.set_defaults(command=_train)
    archive = commands.add_parser("archive", help="build the .mar of a run")
    archive.add_argument("--run", type=Path, default=Path("runs/default"))
    archive.add_argument("--output", type=Path, default=Path("model_store/cxr.mar"))
    archive.set_defaults(command=_archive)
    return parser.parse_args(argv)


def _train(arguments: argparse.Namespace) -> None:
    from training.run import train_recipe

    text = find(arguments.recipe).read_text()
    recipe = parse(text)
    folder = arguments.run or Path("runs") / recipe.name
    metrics = train_recipe(recipe, text, arguments.data, folder)
    for part in ("validation", "test"):
        figure = metrics[part]["macro_f1"]
        print(f"{part}: macro F1 {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
    print(f"run folder: {folder}; next: make archive RUN={folder}")


def _archive(arguments: argparse.Namespace) -> None:
    from training.archive import build
    from training.export import MODEL_FILE

    model = arguments.run / MODEL_FILE
    if not model.is_file():
        raise FileNotFoundError(f"no {model}: train first (make train DATA=<folder>), or name the run (RUN=<folder>)")
    print(f"{arguments.output}  sha256 {build(model, arguments.output)}")


if __name__ == "__main__":
    sys.exit(main())
