"""The curves of report.json as SVG: from its numbers alone, so that they show no film and can be drawn again."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen
from matplotlib.figure import Figure

from training import plots

Report = dict[str, Any]

LINES = (("-", "0.0"), ("--", "0.0"), ("-", "0.55"), (":", "0.0"), ("-.", "0.35"), ("--", "0.55"))
"""Line style and grey of each class: told apart in a black and white print."""


def drawings(report: Report) -> dict[str, bytes]:
    """Every figure that the report has numbers for, by name: SVG bytes.

    Args:
        report: what report.json holds.

    Raises:
        KeyError: it is no whole report.
    """
    drawn = {}
    with matplotlib.rc_context(plots.STYLE):
        for name, draw in DRAWINGS.items():
            figure = draw(report)
            if figure is not None:
                drawn[name] = _svg(figure)
    return drawn


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def _lines(labels: Any) -> Iterator[tuple[str, dict[str, str]]]:
    for index, label in enumerate(labels):
        style, grey = LINES[index % len(LINES)]
        yield label, {"linestyle": style, "color": grey, "label": label}


# --- as in the run folder --------------------------------------------------------------------------


def class_frequencies(report: Report) -> Figure:
    """Films of each class in each part, those from elsewhere included."""
    return plots.class_frequencies(report["data"]["class_counts"])


def confusion(report: Report) -> Figure:
    """Train and test films and those from elsewhere, side by side."""
    found = {part: report["parts"][part]["confusion"] for part in ("train", "test")}
    if report["external"]:
        found["external"] = report["external"]["confusion"]
    return plots.confusion(found, report["model"]["labels"])


def history(report: Report) -> Figure | None:
    """Over the epochs; None where the run kept no history."""
    return plots.history(report["history"], report["run"]["best_epoch"]) if report["history"] else None


# --- curves ----------------------------------------------------------------------------------------


def roc_and_precision_recall(report: Report) -> Figure:
    """Each class against the rest, test films; the areas in the legends."""
    test = report["parts"]["test"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
    for label, style in _lines(test["roc"]):
        area = test["per_class"][label]["auc"]["value"]
        left.plot(test["roc"][label]["fpr"], test["roc"][label]["tpr"], **style | {"label": f"{label} {area:.3f}"})
    left.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC (area)")
    for label, style in _lines(test["precision_recall"]):
        area, curve = test["per_class"][label]["average_precision"]["value"], test["precision_recall"][label]
        right.step(curve["recall"], curve["precision"], where="post", **style | {"label": f"{label} {area:.3f}"})
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall (average precision)", ylim=(0, 1.03))
    left.legend(loc="lower right")
    right.legend(loc="lower left")
    return figure


def reliability(report: Report) -> Figure:
    """Accuracy over confidence in equal-mass bins of test films, before and after temperature scaling."""
    calibration = report["calibration"]["test"]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True)
    for axis, when in zip(axes, ("before", "after"), strict=True):
        bins, ece = calibration[when]["bins"], calibration[when]["ece"]
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
        axis.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o-", color="black", markersize=4)
        axis.set(xlabel="mean confidence of the bin", title=f"{when} temperature: ECE {ece['value']:.3f}")
        lowest = min(0.5, *(min(b["confidence"], b["accuracy"]) for b in bins))
        axis.set(xlim=(lowest - 0.02, 1.01), ylim=(lowest - 0.02, 1.02))
    axes[0].set_ylabel("accuracy of the bin")
    return figure


def risk_coverage(report: Report) -> Figure:
    """Share of wrong films among those kept, over the share kept; a dot at the shipped threshold."""
    figure, axis = plt.subplots(figsize=(6, 3.6))
    curves = [("test films", report["abstention"]["risk_coverage"])]
    if report["external"]:
        curves.append(("films from elsewhere", report["external"]["risk_coverage"]))
    threshold = report["abstention"]["threshold"]
    for (name, curve), (style, grey) in zip(curves, LINES, strict=False):
        axis.plot(curve["coverage"], curve["risk"], linestyle=style, color=grey, label=name)
        kept = [place for place, value in enumerate(curve["threshold"]) if value >= threshold]
        if kept:
            axis.plot(curve["coverage"][kept[-1]], curve["risk"][kept[-1]], "o", color="black", markersize=7)
    axis.plot([], [], "o", color="black", label=f"shipped threshold {threshold:.3f}")
    axis.set(xlabel="coverage: share of films kept", ylabel="risk: share of wrong ones among them", xlim=(0, 1.01))
    axis.set_ylim(bottom=0)
    axis.legend()
    return figure


# --- audits ----------------------------------------------------------------------------------------


def blacked_out(report: Report) -> Figure:
    """The network, and a probe that may learn anew, on ever less of the lungs."""
    audit = report["audit"]
    titles = {"whole": "whole film", "lungs_removed": "lungs removed", "border_only": "border only"}
    figure, axis = plt.subplots(figsize=(6.5, 3))
    for index, (who, grey) in enumerate((("network", "0.35"), ("probe", "0.75"))):
        rows = [entry[who]["balanced_accuracy"] for entry in audit["blacked_out"].values()]
        values = [row["value"] for row in rows]
        errors = [[r["value"] - r["low"] for r in rows], [r["high"] - r["value"] for r in rows]]
        errors = [[max(0.0, error) for error in side] for side in errors]
        places = [place + (index - 0.5) * 0.38 for place in range(len(rows))]
        label = {"network": "network as it is", "probe": "probe trained on such films"}[who]
        axis.bar(places, values, 0.36, yerr=errors, color=grey, edgecolor="black", capsize=3, label=label)
    axis.axhline(audit["chance"], color="black", linestyle="--", linewidth=1, label=f"chance {audit['chance']:.2f}")
    axis.set_xticks(range(len(audit["blacked_out"])), [titles[name] for name in audit["blacked_out"]])
    axis.set(ylabel="balanced accuracy", ylim=(0, 1.25))
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper right", fontsize=8)
    return figure


DRAWINGS: dict[str, Callable[[Report], Figure | None]] = {
    "blacked_out": blacked_out,
    "confusion": confusion,
    "roc_pr": roc_and_precision_recall,
    "reliability": reliability,
    "risk_coverage": risk_coverage,
    "history": history,
    "class_frequencies": class_frequencies,
}
