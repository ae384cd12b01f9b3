"""Films of other origin: the row that the headline number has to stand beside."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from training.figures import auc, balanced_accuracy, expected_calibration_error, interval, resamples
from training.report.curves import abstention, risk_coverage
from training.report.material import Material


def external(material: Material) -> dict[str, Any] | None:
    """Figures on films from elsewhere; None where there are none.

    Returns:
        Accuracy and balanced accuracy of the answer among all classes; `among_present`: the same when only the
        probabilities of the classes that occur there are compared; what abstention does.
    """
    if "external" not in material.films:
        return None
    films, readings = material.films["external"], material.readings["external"]
    probabilities = readings.probabilities(material.run.network.recipe.temperature)
    samples = resamples(films.groups)
    right = probabilities.argmax(axis=1) == films.classes
    return {
        "films": len(films),
        "groups": len(set(films.groups)),
        "class_counts": {label: count for label, count in films.class_counts().items() if count},
        "accuracy": interval(lambda r: float(r.mean()), samples, right),
        "balanced_accuracy": interval(balanced_accuracy, samples, films.classes, probabilities),
        "ece": interval(expected_calibration_error, samples, films.classes, probabilities),
        "confusion": confusion_matrix(
            films.classes, probabilities.argmax(axis=1), labels=range(len(material.labels))
        ).tolist(),
        "among_present": _among_present(material, probabilities, samples),
        "abstention": abstention(right, readings.decision == "report", samples),
        "risk_coverage": risk_coverage(films.classes, probabilities),
        "accepted": interval(lambda d: float((d != "reject").mean()), samples, readings.decision),
    }


def _among_present(material: Material, probabilities: Any, samples: Any) -> dict[str, Any] | None:
    classes = material.films["external"].classes
    present = np.unique(classes)
    if len(present) < 2:
        return None
    compared, true = probabilities[:, present], np.searchsorted(present, classes)
    result = {
        "labels": [material.labels[index] for index in present],
        "balanced_accuracy": interval(balanced_accuracy, samples, true, compared),
    }
    if len(present) == 2:
        share = compared[:, 1] / compared.sum(axis=1)
        result["auc"] = interval(auc, samples, true == 1, share)
    return result
