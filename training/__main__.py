"""Command line: `python -m training train|archive`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.recipe import find, parse


def main() -> int:
    arguments = _arguments()
    try:
        return int(arguments.command(arguments) or 0)
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train, calibrate, evaluate and export one recipe")
    train.add_argument("--data", type=Path, required=True, help="folder of <class>/*.png")
    train.add_argument("--recipe", default="default", help="name in training/recipes, or a TOML file")
    train.add_argument("--run", type=Path, help="run folder (default runs/<recipe>); an unfinished run goes on")
    train.set_defaults(command=_train)
    return parser.parse_args()


def _train(arguments: argparse.Namespace) -> None:
    from training.train import prepare

    text = find(arguments.recipe).read_text()
    recipe = parse(text)
    folder = arguments.run or Path("runs") / recipe.name
    run, parts = prepare(recipe, text, arguments.data, folder)
    run.train()


if __name__ == "__main__":
    sys.exit(main())
