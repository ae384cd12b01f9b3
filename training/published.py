"""Published figures beside measured ones, and what differs between the two."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from training.report.wording import with_interval

PUBLISHED = Path(__file__).with_name("published.toml")
COMMITTED = Path(__file__).parents[1] / "docs" / "recipes"
"""metrics.json of finished runs, by recipe, for those who have not trained."""

Metrics = Mapping[str, Any]
Row = tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """One published number and the place of ours in metrics.json."""

    recipe: str
    what: str
    value: float
    measured: str


@dataclass(frozen=True)
class Publication:
    """What one published system reports, and under which circumstances."""

    name: str
    source: str
    data: str
    weights: str
    split: str
    figures: tuple[Figure, ...]
    contradictions: tuple[str, ...] = ()


def publications(path: Path = PUBLISHED) -> list[Publication]:
    """All of the data file, in its order."""
    return [
        Publication(
            name,
            **{key: entry[key] for key in ("source", "data", "weights", "split")},
            figures=tuple(Figure(**figure) for figure in entry["figures"]),
            contradictions=tuple(entry.get("contradictions", ())),
        )
        for name, entry in tomllib.loads(path.read_text()).items()
    ]


# --- what was measured -----------------------------------------------------------------------------


def measured(runs: Path, committed: Path = COMMITTED) -> dict[str, Metrics]:
    """Metrics by recipe: from a run folder where there is one, else the committed copy; quick runs never count.

    Of several runs of a recipe the one with the fewest overrides counts.
    """
    found: dict[str, Metrics] = {}
    for paths in (sorted(committed.glob("*.json")), sorted(runs.glob("*/metrics.json"))):
        here: dict[str, Metrics] = {}
        for metrics in (json.loads(path.read_text()) for path in paths):
            before = here.get(metrics["recipe"])
            if is_full(metrics) and (before is None or len(overrides(metrics)) < len(overrides(before))):
                here[metrics["recipe"]] = metrics
        found |= here
    return found


def is_full(metrics: Metrics) -> bool:
    """Not cut down by `--quick`."""
    return not metrics.get("quick", False) and "quick" not in overrides(metrics)


def overrides(metrics: Metrics) -> list[str]:
    return list(metrics.get("overrides", ()))


def lookup(document: Mapping[str, Any], place: str) -> Any:
    """The entry at a dotted place, None where there is none; keys may hold spaces but no dots."""
    value: Any = document
    for key in place.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def differences(publication: Publication, metrics: Metrics) -> dict[str, str]:
    """What differs from the published circumstances: data and split always, weights and epochs where they do."""
    data = metrics.get("data", {})
    told = {
        "data": f"{data.get('folder', 'unknown')}, {data.get('films', 'unknown')} films, instead of {publication.data}",
        "split": f"by group, {metrics['test']['films']} test films, instead of {publication.split}",
    }
    weights = metrics.get("weights", publication.weights)
    if weights != publication.weights:
        told["weights"] = f"{weights} instead of {publication.weights}"
    if epochs := [note for note in overrides(metrics) if note.startswith("epochs ")]:
        told["epochs"] = epochs[0].removeprefix("epochs ") + ", a shortened or lengthened run"
    if other := [note for note in overrides(metrics) if not note.startswith(("epochs ", "weights "))]:
        told["settings"] = "; ".join(other)
    return told


# --- the table -------------------------------------------------------------------------------------


def table(runs: Path, committed: Path = COMMITTED) -> str:
    """Everything `make recipes` prints, as Markdown."""
    known = measured(runs, committed)
    blocks = ["Research use only. Not for diagnosis. Measured: value [95 % bootstrap interval by group]."]
    blocks += [_publication(publication, known) for publication in publications()]
    if rows := [row for name, metrics in sorted(known.items()) for row in _per_class(name, metrics)]:
        head = ("recipe", "class", "test films", "accuracy, one against rest", "recall", "precision", "F1")
        blocks.append("## Every measured recipe, per class\n\n" + _markdown(head, rows))
    return "\n\n".join(blocks)


def _publication(publication: Publication, known: Mapping[str, Metrics]) -> str:
    rows: list[Row] = []
    notes: dict[str, None] = {}  # a set that keeps its order
    for figure in publication.figures:
        metrics = known.get(figure.recipe)
        ours, differs = "not measured", ""
        if metrics is not None:
            told = differences(publication, metrics)
            ours, differs = _shown(lookup(metrics, figure.measured)), ", ".join(told)
            notes |= dict.fromkeys(f"{figure.recipe}, {key}: {why}" for key, why in told.items())
        rows.append((figure.recipe, figure.what, f"{figure.value:g}", ours, differs))
    lines = [f"## {publication.name}", "", f"Published: {publication.source}.", ""]
    lines.append(_markdown(("recipe", "figure", "published", "measured", "differs in"), rows))
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    if publication.contradictions:
        lines += ["", "The publication contradicts itself:", ""]
        lines += [f"- {line}" for line in publication.contradictions]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return with_interval(value)
    return "not measured" if value is None else f"{value:.4g}"


def _per_class(name: str, metrics: Metrics) -> Iterable[Row]:
    confusion = metrics["test"]["confusion"]  # rows true
    films = sum(map(sum, confusion))
    for index, (label, figures) in enumerate(metrics["test"]["per_class"].items()):
        wrong = sum(confusion[index]) + sum(row[index] for row in confusion) - 2 * confusion[index][index]
        shares = ((films - wrong) / films, *(figures[key] for key in ("recall", "precision", "f1")))
        yield name, label, f"{figures['support']:.0f}", *(f"{share:.3f}" for share in shares)


def _markdown(head: Row, rows: Iterable[Row]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, tuple("---" for _ in head), *rows))
