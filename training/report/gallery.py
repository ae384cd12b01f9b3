"""Films with their Grad-CAM. What is made here shows films of the data set and stays in the run folder."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.attribution import overlay
from cxr.reading import NOTICE
from training.report.material import Material

SIDE = 300
"""Of a picture on the page, pixels."""
PER_KIND = 8


@dataclass(frozen=True)
class Picture:
    """One film of the gallery, as three JPEGs of side SIDE."""

    caption: str
    film: bytes
    heat: bytes
    overlay: bytes


def gallery(material: Material) -> dict[str, list[Picture]]:
    """Films that were right, wrong and abstained from; the test part's, and the films from elsewhere.

    Right and abstained ones are drawn by a hash of their name, class by class; the wrong ones are the surest.
    """
    result = {}
    for name, where in (("test", ""), ("external", ", films from elsewhere")):
        if name in material.films:
            for kind, chosen in _choose(material, name).items():
                result[f"{kind}{where}"] = [_picture(material, name, index) for index in chosen]
    return {kind: pictures for kind, pictures in result.items() if pictures}


def _choose(material: Material, name: str) -> dict[str, list[int]]:
    films, readings = material.films[name], material.readings[name]
    right = readings.logits.argmax(axis=1) == films.classes
    confidence = readings.probabilities(material.run.network.recipe.temperature).max(axis=1)
    drawn = sorted(range(len(films)), key=lambda index: hashlib.sha256(films.paths[index].name.encode()).digest())
    reported = readings.decision == "report"
    surest = sorted(range(len(films)), key=lambda index: -confidence[index])
    return {
        "Right": _by_class([i for i in drawn if right[i] and reported[i]], films.classes),
        "Wrong and reported, the surest first": [i for i in surest if not right[i] and reported[i]][:PER_KIND],
        "Abstained": _by_class([i for i in drawn if readings.decision[i] == "abstain"], films.classes),
        "Rejected by the gate": [i for i in drawn if readings.decision[i] == "reject"][: PER_KIND // 2],
    }


def _by_class(indices: list[int], classes: NDArray[np.int64]) -> list[int]:
    """PER_KIND of them, the classes in turn."""
    turns: dict[int, int] = {}
    ranked = []
    for index in indices:
        label = int(classes[index])
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], label, index))
    return [index for _, _, index in sorted(ranked)[:PER_KIND]]


def _picture(material: Material, name: str, index: int) -> Picture:
    films, readings = material.films[name], material.readings[name]
    probabilities = readings.probabilities(material.run.network.recipe.temperature)[index]
    said = int(probabilities.argmax())
    caption = (
        f"{films.paths[index].stem}: {films.labels[films.classes[index]]}, called {films.labels[said]} "
        f"at {probabilities[said]:.2f}, {readings.decision[index]}"
    )
    shown, heat = films.pictures[index], readings.heat_maps[index]
    grey = np.rint(heat * 255).astype(np.uint8)
    coloured = overlay(shown, heat, f"{films.labels[said]} {probabilities[said]:.2f}", NOTICE)
    return Picture(
        caption,
        _jpeg(Image.fromarray(shown)),
        _jpeg(Image.fromarray(grey)),
        _jpeg(Image.open(io.BytesIO(coloured))),
    )


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
