"""The service over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from client import v2
from client.contract import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, MODEL, Options, check_size, is_loopback, timeout_for
from client.errors import from_rpc
from client.generated.inference_pb2 import PredictionResponse, PredictionsRequest
from client.generated.inference_pb2_grpc import InferenceAPIsServiceStub
from client.generated.open_inference_grpc_pb2_grpc import GRPCInferenceServiceStub
from client.retry import RetryPolicy
from client.service import Service

T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

# Room for the option entries and the framing around a film of the largest size.
_ENVELOPE_BYTES = 64 * 1024

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES + _ENVELOPE_BYTES),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # A channel whose server is away fails every call at once until it tries again, by default after up to two
    # minutes. Our own retries are to find a restarted server sooner.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 3000),  # in spite of its name how long one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class GrpcClient(Service):
    """Predictions and explanations over gRPC. The arguments that are not told of here are those of `Service`.

    Args:
        target: host and port of the gRPC inference API. A proxy of the environment has no part in loopback addresses.
        credentials: of a TLS channel, `grpc.ssl_channel_credentials(...)`; by default the channel is plain.
        token: bearer token, sent as the metadata `authorization`.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:7070",
        *,
        timeout_s: float | None = None,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        model: str = MODEL,
        version: str | None = None,
    ) -> None:
        super().__init__(timeout_s=timeout_s, retry=retry, model=model, version=version)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else None
        self._channel = _channel(target, credentials)
        self._torchserve = InferenceAPIsServiceStub(self._channel)
        self._oip = GRPCInferenceServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def _send(self, model: str, data: bytes, options: Options, parse: Callable[[bytes], T]) -> T:
        entries = {"data": data, **options.as_entries()}
        request = PredictionsRequest(model_name=model, model_version=self._version or "", input=entries)
        timeout_s = timeout_for(options.explain, self._timeout_s)
        return self._call(self._torchserve.Predictions, request, lambda response: parse(_body(response)), timeout_s)

    def _infer(self, films: v2.Films, request_id: str, timeout_s: float) -> list[v2.Row]:
        request = v2.as_message(films, request_id, self._model, self._version or "")
        return self._call(self._oip.ModelInfer, request, v2.rows_of_message, timeout_s)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        read: Callable[[Response], T],
        timeout_s: float,
    ) -> T:
        check_size(request.ByteSize() - _ENVELOPE_BYTES)

        def attempt(left_s: float) -> T:
            try:
                response = method(request, timeout=left_s, metadata=self._metadata)
            except grpc.RpcError as error:
                raise from_rpc(*_status(error), sent_bytes=request.ByteSize()) from error
            return read(response)

        return self._retry.run(attempt, timeout_s)


def _channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    host = urlsplit(f"//{target.rpartition('/')[2]}").hostname  # dns:///host:port is a target too
    options = (*_CHANNEL_OPTIONS, *([("grpc.enable_http_proxy", 0)] if is_loopback(host) else []))
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials, options=options)


def _body(response: PredictionResponse) -> bytes:
    return response.prediction


def _status(error: grpc.RpcError) -> tuple[str, str]:
    """Code by name and details. Every error of a unary call is a Call too, which the type does not say."""
    assert isinstance(error, grpc.Call)
    return error.code().name, error.details() or ""
