"""Two small servers that answer what TorchServe was seen to answer, one call after the other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from client.generated import inference_pb2 as inference
from client.generated import inference_pb2_grpc as inference_grpc
from client.generated import open_inference_grpc_pb2 as oip
from client.generated import open_inference_grpc_pb2_grpc as oip_grpc

ANSWER: dict[str, Any] = {
    "model": {"name": "cxr", "version": "1.0", "sha256": "ab" * 32},
    "request_id": "r-1",
    "prediction": "COVID",
    "probabilities": {"COVID": 0.91, "Lung_Opacity": 0.05, "Normal": 0.03, "Viral Pneumonia": 0.01},
    "decision": "report",
    "gate": {"score": 3.5, "threshold": 9.0, "reason": None},
    "warnings": ["upscaled"],
    "notice": "Research use only. Not for diagnosis.",
}
REJECTION = {"code": 415, "type": "UnsupportedImage", "message": "No image.", "request_id": "r-1"}
NO_CAPACITY = (
    'Model "cxr" has no worker to serve inference request. Please use scale workers API to add workers. '
    "If this is a sequence inference, please check if it is closed, or expired; or exceeds "
    "maxSequenceJobQueueSize"
)


@dataclass(frozen=True)
class HttpReply:
    status: int = 200
    body: bytes = b""
    delay_s: float = 0.0
    hang_up: bool = False
    drip_s: float = 0.0


def front_end(status: int, type_name: str, message: str) -> HttpReply:
    """As TorchServe writes its own errors."""
    body = json.dumps({"code": status, "type": type_name, "message": message}, indent=2)
    return HttpReply(status, body.encode())


@dataclass
class FakeRest:
    """Answers `replies` in order, the last one for ever, and remembers what it was sent."""

    url: str
    replies: list[HttpReply] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def next_reply(self) -> HttpReply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def serve_rest() -> Iterator[FakeRest]:
    fake = FakeRest("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fake.seen.append((self.path, dict(self.headers), body))
            _answer(self, fake.next_reply())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        fake.url = f"http://127.0.0.1:{httpd.server_port}"
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        yield fake
        httpd.shutdown()


def _answer(handler: BaseHTTPRequestHandler, reply: HttpReply) -> None:
    time.sleep(reply.delay_s)
    if reply.hang_up:
        handler.close_connection = True
        return
    handler.send_response(reply.status)
    handler.send_header("Content-Length", str(len(reply.body)))
    handler.end_headers()
    try:
        for start in range(0, len(reply.body), 16 if reply.drip_s else len(reply.body)):
            time.sleep(reply.drip_s)
            handler.wfile.write(reply.body[start : start + 16] if reply.drip_s else reply.body)
    except OSError:
        handler.close_connection = True


@dataclass
class FakeRpc:
    """Runs `replies` in order, the last one for ever: each returns a response or aborts the call."""

    target: str
    replies: list[Callable[[Any], Any]] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.seen.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])(context)


@contextmanager
def serve_rpc() -> Iterator[FakeRpc]:
    fake = FakeRpc("")

    class Inference(inference_grpc.InferenceAPIsServiceServicer):
        def Predictions(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
            return fake.answer(request, context)

    class OpenInference(oip_grpc.GRPCInferenceServiceServicer):
        def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
            return fake.answer(request, context)

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 8_000_000)])
    inference_grpc.add_InferenceAPIsServiceServicer_to_server(Inference(), server)
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(OpenInference(), server)
    fake.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    server.stop(None)


def says(answer: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda context: inference.PredictionResponse(prediction=json.dumps(answer).encode())


def aborts(code: grpc.StatusCode, details: str) -> Callable[[Any], Any]:
    return lambda context: context.abort(code, details)


LONGEST_WAIT_S = 60.0


def waits(held: threading.Event) -> Callable[[Any], Any]:
    """Answers once `held` is set: later than any deadline of a test."""

    def reply(context: Any) -> Any:
        held.wait(LONGEST_WAIT_S)
        return says(ANSWER)(context)

    return reply


def v2_outputs(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    count = len(answers)
    probabilities = [p for answer in answers for p in answer.get("probabilities", dict.fromkeys("abcd", -1.0)).values()]
    return [
        {"name": "probabilities", "datatype": "FP32", "shape": [count, 4], "data": probabilities},
        {"name": "answer", "datatype": "BYTES", "shape": [count], "data": [json.dumps(a) for a in answers]},
    ]


def v2_json(answers: list[dict[str, Any]], status: int = 200) -> HttpReply:
    body = {"id": "i", "model_name": "cxr", "model_version": "1.0", "outputs": v2_outputs(answers)}
    return HttpReply(status, json.dumps(body).encode())


def v2_message(answers: list[dict[str, Any]]) -> Callable[[Any], Any]:
    """BYTES elements quoted, as TorchServe's GRPCJob does."""
    quoted = [json.dumps(json.dumps(answer)).encode() for answer in answers]
    output = oip.ModelInferResponse.InferOutputTensor(
        name="answer",
        datatype="BYTES",
        shape=[len(answers)],
        contents=oip.InferTensorContents(bytes_contents=quoted),
    )
    return lambda context: oip.ModelInferResponse(id="i", model_name="cxr", model_version="1.0", outputs=[output])
