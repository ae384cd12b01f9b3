"""What the service offers, whatever carries it: one class for each protocol fills in the sending."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from client import v2
from client.answers import Explanation, Prediction, read_explanation, read_prediction
from client.contract import DEFAULT_METHOD, METHODS, MODEL, Options, model_for, timeout_for
from client.errors import BadRequest, ProtocolError
from client.retry import RetryPolicy

T = TypeVar("T")
Self = TypeVar("Self", bound="Service")


class Service(ABC):
    """Predictions and explanations. Usable from several threads at once. Close it, or use it in `with`.

    Args:
        timeout_s: for a whole call, its retries included; by default what the server gives one request of its kind,
            `timeout_for` in client/contract.py.
        retry: what is sent again; `RetryPolicy(attempts=1)` for nothing.
        model: name under which the model is registered.
        version: its version; by default the server's default one.
    """

    def __init__(
        self,
        *,
        timeout_s: float | None = None,
        retry: RetryPolicy | None = None,
        model: str = MODEL,
        version: str | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._model = model
        self._version = version

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
        if method is not None and method not in METHODS:  # "no" would be taken for no explanation, but not everywhere
            raise BadRequest(f"unknown attribution method; known: {', '.join(sorted(METHODS))}")
        options = Options(method or DEFAULT_METHOD, target, overlay, request_id)
        return self._send(model_for(method, self._model), data, options, read_explanation)

    def overlay(self, data: bytes, *, target: str | None = None, request_id: str | None = None) -> bytes:
        """The Grad-CAM overlay alone, as a PNG of at most 1024 px. Raises as `explain` does.

        It is that of the answer: /overlay.png has a version in its path, and the server's default one is not known.
        """
        overlay_png = self.explain(data, target=target, request_id=request_id).attribution.overlay_png
        if overlay_png is None:
            raise ProtocolError("The server's answer has no overlay.")
        return overlay_png

    def infer_v2(self, films: v2.Films, *, request_id: str | None = None) -> list[v2.Row]:
        """Classify several films, or a prepared tensor, over the Open Inference Protocol.

        Returns:
            one row per film; a film that failed is its ClientError, in its place, and not raised.

        Raises:
            BadRequest: over REST of a client for one version: TorchServe has no versions there; over gRPC it has.
            ClientError: the request failed as a whole.
        """
        return v2.one_per_film(self._infer(films, request_id or "", timeout_for(None, self._timeout_s)), films)

    @abstractmethod
    def close(self) -> None:
        """Give the connections back."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _send(self, model: str, data: bytes, options: Options, parse: Callable[[bytes], T]) -> T:
        """One film to the registration `model`; `options.explain` is None for a prediction."""

    @abstractmethod
    def _infer(self, films: v2.Films, request_id: str, timeout_s: float) -> list[v2.Row]:
        """The rows of a v2 answer, as many as it has."""
