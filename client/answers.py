"""The service's answers as frozen dataclasses. Fields this client does not know are left alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from client.errors import ProtocolError, from_answer


@dataclass(frozen=True)
class Model:
    """Which weights answered; `sha256` is that of the TorchScript file, in hex."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Gate:
    """The quality gate's measure of a film, the bound it is held against, and why it failed, if it did."""

    score: float
    threshold: float
    reason: str | None


@dataclass(frozen=True)
class Attribution:
    """Where the evidence for `target` lies.

    Attributes:
        method: grad_cam, integrated_gradients, gradient_shap or occlusion.
        target: the class explained.
        heat_map: rows of columns, each 0..1, at feature resolution.
        overlay_png: the film under its heat map, a legend below, longest side 1024 px; None if it was not asked for.
        completeness: for integrated gradients, how well the attributions add up to the logit's difference;
            `complete` says whether to 1 % or 0.01.
    """

    method: str
    target: str
    heat_map: tuple[tuple[float, ...], ...] = field(repr=False)
    overlay_png: bytes | None = field(repr=False)
    completeness: Mapping[str, Any] | None


@dataclass(frozen=True)
class Prediction:
    """One film's answer. Research use only, not for diagnosis.

    Attributes:
        prediction: the most probable class.
        probabilities: class -> calibrated probability, 0..1, summing to 1.
        decision: "report", "abstain" (confidence too low) or "reject" (not a frontal chest X-ray).
        json: the answer as it was sent, to be passed on.
    """

    model: Model
    request_id: str
    prediction: str
    probabilities: Mapping[str, float]
    decision: str
    gate: Gate
    warnings: tuple[str, ...]
    notice: str
    json: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def confidence(self) -> float:
        """The predicted class's probability, 0..1."""
        return self.probabilities[self.prediction]


@dataclass(frozen=True)
class Explanation(Prediction):
    """A prediction with its heat map."""

    attribution: Attribution


def read_prediction(body: bytes | str) -> Prediction:
    """The JSON of a prediction.

    Raises:
        ClientError: the JSON is an error object, or (ProtocolError) nothing we understand.
    """
    answer = _read_json(body)
    try:
        return Prediction(**_prediction_fields(answer))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_understood("prediction", error) from error


def read_explanation(body: bytes | str) -> Explanation:
    """The JSON of an explanation. Raises as `read_prediction` does."""
    answer = _read_json(body)
    try:
        return Explanation(**_prediction_fields(answer), attribution=_attribution(answer["attribution"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_understood("explanation", error) from error


def _read_json(body: bytes | str) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise ProtocolError("The server's answer is no JSON.") from error
    if not isinstance(answer, dict):
        raise ProtocolError("The server's answer is no JSON object.")
    if "code" in answer:
        raise from_answer(answer)
    return answer


def _prediction_fields(answer: Mapping[str, Any]) -> dict[str, Any]:
    model, gate = answer["model"], answer["gate"]
    return {
        "model": Model(str(model["name"]), str(model["version"]), str(model["sha256"])),
        "request_id": str(answer["request_id"]),
        "prediction": str(answer["prediction"]),
        "probabilities": {label: float(p) for label, p in answer["probabilities"].items()},
        "decision": str(answer["decision"]),
        "gate": Gate(float(gate["score"]), float(gate["threshold"]), gate["reason"]),
        "warnings": tuple(answer["warnings"]),
        "notice": str(answer["notice"]),
        "json": answer,
    }


def _attribution(part: Mapping[str, Any]) -> Attribution:
    overlay = part.get("overlay_png")
    return Attribution(
        method=str(part["method"]),
        target=str(part["target"]),
        heat_map=tuple(tuple(float(value) for value in row) for row in part["map"]),
        overlay_png=None if overlay is None else base64.b64decode(overlay, validate=True),
        completeness=part.get("completeness"),
    )


def _not_understood(what: str, error: Exception) -> ProtocolError:
    return ProtocolError(f"The server's {what} is not as agreed: {type(error).__name__}: {error}.")
