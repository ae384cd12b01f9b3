"""One real film through a server that has just started: over REST, over gRPC, and its heat map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from serving import paths
from serving.errors import StartFailed
from serving.torchserve import TorchServe

if TYPE_CHECKING:
    from client import Prediction

CLOSE = 1e-4
"""REST and gRPC carry the same JSON; batches of other sizes may round the last digits otherwise."""


def demonstrate(server: TorchServe, film: Path = paths.FILM) -> None:
    """Print what the server says about `film` and write the overlay into the run folder.

    Raises StartFailed if it does not answer, or answers differently over the two protocols.
    """
    from client import ClientError, GrpcClient, RestClient  # seconds of import that `stop` need not pay for

    try:
        data = film.read_bytes()
        with RestClient(server.inference_url) as rest, GrpcClient(server.grpc_target) as grpc:
            over_rest, over_grpc, explained = rest.predict(data), grpc.predict(data), rest.explain(data)
    except OSError as error:
        raise StartFailed(f"{film} could not be read: {error.strerror}.") from None
    except ClientError as error:
        raise StartFailed(f"{film} got no answer: {error} (logs in {server.log_folder})") from None
    overlay = server.run / "overlay.png"
    overlay.write_bytes(explained.attribution.overlay_png or b"")
    print(f"{film} over REST:\n{json.dumps(over_rest.json, indent=2, ensure_ascii=False)}")
    print(f"Over gRPC: {_comparison(over_rest, over_grpc)}.")
    print(f"Heat map:  {overlay}")


def addresses(server: TorchServe, film: Path = paths.FILM) -> str:
    """Where the server listens, and one command to try."""
    return "\n".join(
        [
            f"REST        {server.inference_url}",
            f"gRPC        {server.grpc_target}",
            f"Metrics     {server.metrics_url}/metrics",
            f"Management  {server.management_url} (keep it private)",
            f"Logs        {server.log_folder}",
            "",
            f"    curl -T {film} {server.inference_url}/predictions/cxr",
        ]
    )


def _comparison(over_rest: Prediction, over_grpc: Prediction) -> str:
    first, second = over_rest.probabilities, over_grpc.probabilities
    largest = max(abs(first[label] - second.get(label, 2.0)) for label in first)
    if over_rest.prediction != over_grpc.prediction or largest > CLOSE:
        raise StartFailed(f"REST and gRPC disagree: {dict(first)} against {dict(second)}.")
    return f"the same, {over_grpc.prediction} at {second[over_grpc.prediction]:.3f}"
