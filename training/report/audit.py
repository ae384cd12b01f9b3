"""Is it the lungs? Tests that a network which reads the hospital off a film would pass and should not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data import Films
from training.figures import balanced_accuracy, interval, resamples
from training.report import data_set
from training.report.field import VARIANTS, field_seen, mask_path
from training.report.material import Material
from training.report.readings import Readings

COPY_COLUMNS = ("source", "source_repo")
"""Of `manifest.csv`: where a film was copied from; the first that has values is used."""
FEWEST = 20
"""Films of each source, in training and in test part, that a probe is worth training on."""


def audit(material: Material, copy_column: str | None) -> dict[str, Any]:
    """All audits of one network, on the test part unless said otherwise."""
    return {
        "chance": 1 / len(material.labels),
        "field": field_kind(material.films["test"]),
        "blacked_out": blacked_out(material),
        "copy_probe": copy_probe(material, copy_column),
        "attribution": attribution_share(material.films["test"], material.readings["test"], material),
        "findings_without_lungs": {
            name: findings(material, f"{name}_lungs_removed", material.films[name])
            for name in ("test", "external")
            if name in material.films
        },
    }


def field_kind(films: Films) -> str:
    """`masks`, `ellipse` or how many films of how many have a mask."""
    found = sum(mask_path(path) is not None for path in films.paths)
    return {0: "ellipse", len(films): "masks"}.get(found, f"masks for {found} of {len(films)} films, else ellipse")


# --- lungs removed, border only --------------------------------------------------------------------


def probe() -> Pipeline:
    """Multinomial logistic regression on pooled features; a fixed, strong penalty: there are more features than
    the films of a small data set could choose one by.
    """
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))


def blacked_out(material: Material) -> dict[str, Any]:
    """For the whole film and each of VARIANTS: the network as it is, and a probe trained on such films."""
    films, temperature = material.films["test"], material.run.network.recipe.temperature
    samples = resamples(films.groups)
    result = {}
    for variant in ("", *VARIANTS):
        name = f"_{variant}" if variant else ""
        train, test = material.readings[f"train{name}"], material.readings[f"test{name}"]
        trained = probe().fit(train.features, material.films["train"].classes)
        said = {"network": test.probabilities(temperature), "probe": trained.predict_proba(test.features)}
        result[variant or "whole"] = {who: _right(films.classes, p, samples) for who, p in said.items()}
    return result


def _right(classes: NDArray[Any], probabilities: NDArray[Any], samples: list[NDArray[np.int64]]) -> dict[str, Any]:
    right = probabilities.argmax(axis=1) == classes
    return {
        "accuracy": interval(lambda r: float(r.mean()), samples, right),
        "balanced_accuracy": interval(balanced_accuracy, samples, classes, probabilities),
    }


def findings(material: Material, name: str, films: Films) -> dict[str, Any] | None:
    """Share of blacked-out films that are reported as anything but normal; None without a normal class."""
    normal = [index for index, label in enumerate(material.labels) if label.lower() == "normal"]
    if not normal:
        return None
    readings = material.readings[name]
    finding = (readings.decision == "report") & (readings.logits.argmax(axis=1) != normal[0])
    share = interval(lambda f: float(f.mean()), resamples(films.groups), finding)
    decisions, counts = np.unique(readings.decision, return_counts=True)
    return {
        "films": len(films),
        "reported_as_finding": share,
        "decisions": dict(zip(decisions.tolist(), counts.tolist(), strict=True)),
    }


# --- the source copy -------------------------------------------------------------------------------


def copy_probe(material: Material, wanted: str | None) -> dict[str, Any] | None:
    """Can the source of a film be told from its features, within one class? None where no class has two sources."""
    for name in (wanted,) if wanted else COPY_COLUMNS:
        columns = {part: data_set.column(material.data, name, material.films[part]) for part in ("train", "test")}
        probes = {
            label: found
            for index, label in enumerate(material.labels)
            if (found := _probe_class(material, index, {part: np.array(values) for part, values in columns.items()}))
        }
        if probes:
            return {"column": name, "classes": probes}
    return None


def _probe_class(material: Material, index: int, columns: dict[str, NDArray[np.str_]]) -> dict[str, Any] | None:
    chosen = {
        part: (material.films[part].classes == index) & (values != "") & _common(values, columns, material, index)
        for part, values in columns.items()
    }
    sources = sorted(set(columns["train"][chosen["train"]].tolist()))
    if len(sources) < 2:
        return None
    trained = probe().fit(material.readings["train"].features[chosen["train"]], columns["train"][chosen["train"]])
    scores = trained.predict_proba(material.readings["test"].features[chosen["test"]])
    true = np.searchsorted(trained.classes_, columns["test"][chosen["test"]])
    groups = tuple(np.array(material.films["test"].groups)[chosen["test"]].tolist())
    counts = np.bincount(true, minlength=len(sources)).tolist()
    return {
        "sources": dict(zip(sources, counts, strict=True)),
        "balanced_accuracy": interval(balanced_accuracy, resamples(groups), true, scores),
        "chance": 1 / len(sources),
    }


def _common(
    values: NDArray[np.str_], columns: dict[str, NDArray[np.str_]], material: Material, index: int
) -> NDArray[np.bool_]:
    """Films whose source has FEWEST films of the class in both parts."""
    enough: set[str] | None = None
    for part, column in columns.items():
        names, counts = np.unique(column[material.films[part].classes == index], return_counts=True)
        here = set(names[counts >= FEWEST].tolist())
        enough = here if enough is None else enough & here
    return np.isin(values, sorted(enough or ()))


# --- attribution -----------------------------------------------------------------------------------


def attribution_share(films: Films, readings: Readings, material: Material) -> dict[str, Any]:
    """Share of Grad-CAM's evidence for the predicted class that lies inside the lung field, beside its area.

    1 of `ratio` is what a heat map that knows nothing of the lungs would get. Films without any evidence for
    their class are counted and left out.
    """
    recipe = material.run.network.recipe
    inside, area = np.full(len(films), np.nan), np.full(len(films), np.nan)
    for index, path in enumerate(films.paths):
        field = field_seen(path, recipe)
        heat = np.asarray(
            Image.fromarray(readings.heat_maps[index]).resize((recipe.size, recipe.size), Image.Resampling.BILINEAR)
        )
        area[index] = field.mean()
        if heat.sum() > 0:
            inside[index] = (heat * field).sum() / heat.sum()
    known = np.isfinite(inside)
    samples = resamples(tuple(np.array(films.groups)[known].tolist()))
    inside, area = inside[known], area[known]
    return {
        "films": int(known.sum()),
        "without_evidence": int((~known).sum()),
        "inside": interval(lambda share: float(share.mean()), samples, inside),
        "area": float(area.mean()),
        "ratio": interval(lambda share, whole: float(share.mean() / whole.mean()), samples, inside, area),
    }
