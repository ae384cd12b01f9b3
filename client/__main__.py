"""Send one film from the command line.

    python -m client predict film.dcm
    python -m client explain film.dcm --method integrated_gradients --target COVID --output overlay.png

Prints the answer as JSON. The exit status is 1, and one sentence goes to standard error, where there is none.
A bearer token is read from the environment variable CXR_TOKEN, where no list of processes shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from client import ClientError, Explanation, GrpcClient, Prediction, RestClient, Service

REST_PORT = 8080
GRPC_PORT = 7070


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        answer = _ask(options, options.file.read_bytes())
        shown = _shown(answer, options)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}.")
    except ClientError as error:
        return _fail(f"{error.message} ({error.type}{f', {error.status}' if error.status else ''})")
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m client", description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="print the prediction of a film")
    explain = commands.add_parser("explain", help="the same with a heat map, and write its overlay")
    for command in (predict, explain):
        _add_common(command)
    explain.add_argument("--method", help="grad_cam, integrated_gradients, gradient_shap or occlusion")
    explain.add_argument("--target", help="class to explain, by default the predicted one")
    explain.add_argument("--output", type=Path, default=Path("overlay.png"), help="where the overlay goes")
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, help="PNG, JPEG, TIFF or DICOM")
    command.add_argument("--grpc", action="store_true", help="ask over gRPC instead of REST")
    command.add_argument("--host", default="127.0.0.1")
    command.add_argument("--port", type=int, help=f"by default {REST_PORT}, with --grpc {GRPC_PORT}")
    command.add_argument("--tls", action="store_true", help="encrypt, and verify the server's certificate")
    command.add_argument("--timeout", type=float, help="seconds, retries included; by default the server's own limit")
    command.add_argument("--request-id", help="repeated in the answer, written to no log")


def _ask(options: argparse.Namespace, film: bytes) -> Prediction:
    with _connect(options) as service:
        if options.command == "predict":
            return service.predict(film, request_id=options.request_id)
        return service.explain(film, method=options.method, target=options.target, request_id=options.request_id)


def _connect(options: argparse.Namespace) -> Service:
    token = os.environ.get("CXR_TOKEN")
    if options.grpc:
        credentials = grpc.ssl_channel_credentials() if options.tls else None
        target = f"{options.host}:{options.port or GRPC_PORT}"
        return GrpcClient(target, timeout_s=options.timeout, credentials=credentials, token=token)
    scheme = "https" if options.tls else "http"
    url = f"{scheme}://{options.host}:{options.port or REST_PORT}"
    return RestClient(url, timeout_s=options.timeout, token=token)


def _shown(answer: Prediction, options: argparse.Namespace) -> Mapping[str, Any]:
    """The answer's JSON; of an explanation with the overlay in a file and the heat map told by its size."""
    if not isinstance(answer, Explanation):
        return answer.json
    found = answer.attribution
    options.output.write_bytes(found.overlay_png or b"")
    size = f"{len(found.heat_map)} x {len(found.heat_map[0])} values, 0..1"
    shown = {**answer.json["attribution"], "map": size, "overlay_png": str(options.output)}
    return {**answer.json, "attribution": shown}


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
