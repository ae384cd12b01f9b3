"""The service over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from client import v2
from client.answers import Explanation, Prediction, read_explanation, read_prediction
from client.contract import (
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    MODEL,
    Options,
    check_size,
    is_loopback,
    model_for,
    timeout_for,
)
from client.errors import from_rpc
from client.generated.inference_pb2 import PredictionResponse, PredictionsRequest
from client.generated.inference_pb2_grpc import InferenceAPIsServiceStub
from client.generated.open_inference_grpc_pb2_grpc import GRPCInferenceServiceStub
from client.retry import RetryPolicy

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


class GrpcClient:
    """Predictions and explanations over gRPC.

    Usable from several threads at once. Close it, or use it in `with`.

    Args:
        target: host and port of the gRPC inference API. A proxy of the environment has no part in loopback addresses.
        timeout_s: for a whole call, its retries included; by default what the server gives one request of its kind,
            `timeout_for` in client/contract.py.
        retry: what is sent again; `RetryPolicy(attempts=1)` for nothing.
        credentials: of a TLS channel, `grpc.ssl_channel_credentials(...)`; by default the channel is plain.
        token: bearer token, sent as the metadata `authorization`.
        model: name under which the model is registered.
        version: its version; by default the server's default one.
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
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._metadata = (("authorization", f"Bearer {token}"),) if token else None
        self._model = model
        self._version = version
        self._channel = _channel(target, credentials)
        self._torchserve = InferenceAPIsServiceStub(self._channel)
        self._oip = GRPCInferenceServiceStub(self._channel)

    def predict(self, data: bytes, *, request_id: str | None = None) -> Prediction:
        """Classify the bytes of one film (PNG, JPEG, TIFF or DICOM).

        Raises:
            ClientError: see the tree in `client/errors.py`.
        """
        return self._send(self._model, data, Options(request_id=request_id), read_prediction)

    def explain(
        self,
        data: bytes,
        *,
        method: str | None = None,
        target: str | None = None,
        overlay: bool = True,
        request_id: str | None = None,
    ) -> Explanation:
        """Classify one film and say where the evidence for `target` (by default the predicted class) lies.

        Args:
            data: PNG, JPEG, TIFF or DICOM.
            method: grad_cam (the default), integrated_gradients, gradient_shap or occlusion. The last three
                take 30 to 140 times as long and go to a model with a queue of its own.
            target: class label.
            overlay: whether the answer carries the overlay PNG.
            request_id: repeated in the answer.

        Raises:
            ClientError: see the tree in `client/errors.py`.
        """
        options = Options(method or "true", target, overlay, request_id)
        return self._send(model_for(method, self._model), data, options, read_explanation)

    def infer_v2(self, films: v2.Films, *, request_id: str | None = None) -> list[v2.Row]:
        """Classify several films, or a prepared tensor, over the Open Inference Protocol.

        Returns:
            one row per film; a film that failed is its ClientError, in its place, and not raised.

        Raises:
            ClientError: the request failed as a whole.
        """
        request = v2.as_message(films, request_id or "", self._model, self._version or "")
        timeout_s = timeout_for(None, self._timeout_s)
        rows = self._call(self._oip.ModelInfer, request, v2.rows_of_message, timeout_s)
        return v2.one_per_film(rows, films)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, model: str, data: bytes, options: Options, parse: Callable[[bytes], T]) -> T:
        entries = {"data": data, **options.as_entries()}
        request = PredictionsRequest(model_name=model, model_version=self._version or "", input=entries)
        timeout_s = timeout_for(options.explain, self._timeout_s)
        return self._call(self._torchserve.Predictions, request, lambda response: parse(_body(response)), timeout_s)

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
