"""The curves of report.json as SVG: from its numbers alone, so that they show no film and can be drawn again."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Report = dict[str, Any]

LINES = (("-", "0.0"), ("--", "0.0"), ("-", "0.55"), (":", "0.0"), ("-.", "0.35"), ("--", "0.55"))
"""Line style and grey of each class: told apart in a black and white print."""
HATCHES = ("", "///", "...", "xx")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "svg.hashsalt": "cxr",  # the same numbers give the same file
    "figure.constrained_layout.use": True,
}


def drawings(report: Report) -> dict[str, bytes]:
    """Every figure that the report has numbers for, by name: SVG bytes."""
    drawn = {}
    with matplotlib.rc_context(STYLE):
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


# --- classes ---------------------------------------------------------------------------------------


def class_frequencies(report: Report) -> Figure:
    counts = report["data"]["class_counts"]
    labels = report["model"]["labels"]
    figure, axis = plt.subplots(figsize=(6.5, 2.8))
    width = 0.8 / len(counts)
    for index, (part, by_class) in enumerate(counts.items()):
        places = [place + (index - (len(counts) - 1) / 2) * width for place in range(len(labels))]
        bars = axis.bar(
            places, [by_class[label] for label in labels], width,
            label=part, color=str(0.45 + 0.15 * index), hatch=HATCHES[index % 4], edgecolor="black", linewidth=0.6,
        )  # fmt: skip
        axis.bar_label(bars, fontsize=7)
    axis.set_xticks(range(len(labels)), labels)
    axis.set_ylabel("films")
    axis.grid(axis="x", visible=False)
    axis.legend()
    return figure


def confusion(report: Report) -> Figure:
    parts = ["train", "test", *(["external"] if report["external"] else [])]
    figure, axes = plt.subplots(1, len(parts), figsize=(3.4 * len(parts), 3.5), squeeze=False)
    for axis, part in zip(axes[0], parts, strict=True):
        matrix = report["external"]["confusion"] if part == "external" else report["parts"][part]["confusion"]
        _matrix(axis, matrix, report["model"]["labels"], part)
    return figure


def _matrix(axis: Axes, matrix: list[list[int]], labels: list[str], title: str) -> None:
    shares = [[value / max(1, sum(row)) for value in row] for row in matrix]
    axis.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="predicted", ylabel="true", title=title)
    axis.grid(visible=False)
    for y, row in enumerate(matrix):
        for x, value in enumerate(row):
            axis.text(x, y, str(value), ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black")


# --- curves ----------------------------------------------------------------------------------------


def roc_and_precision_recall(report: Report) -> Figure:
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


def history(report: Report) -> Figure | None:
    entries = report["history"]
    if not entries:
        return None
    epochs = [entry["epoch"] for entry in entries]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    left.plot(epochs, [entry["training_loss"] for entry in entries], "o--", color="0.55", label="training")
    left.plot(epochs, [entry["loss"] for entry in entries], "o-", color="black", label="validation")
    left.set(xlabel="epoch", ylabel="cross entropy")
    for key, label, style, grey in (
        ("macro_f1", "validation macro F1", "o-", "black"),
        ("accuracy", "validation accuracy", "s:", "0.3"),
        ("training_accuracy", "training accuracy", "o--", "0.55"),
    ):
        if all(key in entry for entry in entries):
            right.plot(epochs, [entry[key] for entry in entries], style, color=grey, label=label, markersize=4)
    right.set(xlabel="epoch", ylabel="share")
    for axis in (left, right):
        axis.axvline(report["run"]["best_epoch"], color="0.7", label="kept epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
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
