"""The service over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from client import v2
from client.answers import Explanation, Prediction, read_explanation, read_prediction
from client.contract import MAX_ANSWER_BYTES, MODEL, Options, check_size, is_loopback, model_for, timeout_for
from client.errors import BadRequest, ClientError, ConnectionFailed, DeadlineExceeded, ProtocolError, from_http
from client.retry import RetryPolicy

T = TypeVar("T")
# Makes an answer out of status and body, or raises the ClientError they stand for.
Reader = Callable[[int, bytes], T]

_CHUNK_BYTES = 64 * 1024
_RAW = {"Content-Type": "application/octet-stream"}
_JSON = {"Content-Type": "application/json"}


class RestClient:
    """Predictions and explanations over REST.

    Usable from several threads at once. Close it, or use it in `with`.

    Args:
        url: scheme, host and port of the inference API. A proxy of the environment has no part in loopback addresses.
        timeout_s: for a whole call, its retries included; by default what the server gives one request of its kind,
            `timeout_for` in client/contract.py.
        connect_timeout_s: for a connection to come about, and for each block of an upload.
        retry: what is sent again; `RetryPolicy(attempts=1)` for nothing.
        token: bearer token, sent as `Authorization`.
        verify: False or a file of certificates, as in requests.
        model: name under which the model is registered.
        version: its version; by default the server's default one.
        connections: how many stay open between calls.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        timeout_s: float | None = None,
        connect_timeout_s: float = 3.0,
        retry: RetryPolicy | None = None,
        token: str | None = None,
        verify: bool | str = True,
        model: str = MODEL,
        version: str | None = None,
        connections: int = 16,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._retry = retry or RetryPolicy()
        self._model = model
        self._version = version
        self._session = _session(token, verify, connections)
        self._session.trust_env = not is_loopback(urlsplit(url).hostname)

    def predict(self, data: bytes, *, request_id: str | None = None) -> Prediction:
        """Classify the bytes of one film (PNG, JPEG, TIFF or DICOM).

        Raises:
            ClientError: see the tree in `client/errors.py`.
        """
        path = self._path("predictions", self._model)
        return self._send(path, data, Options(request_id=request_id), read_prediction)

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
        path = self._path("explanations", model_for(method, self._model))
        options = Options(method, target, overlay, request_id)
        return self._send(path, data, options, read_explanation)

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
            BadRequest: this client is for one version, and TorchServe has no versions here; over gRPC it has.
            ClientError: the request failed as a whole.
        """
        if self._version is not None:
            raise BadRequest("TorchServe takes no version over REST v2: leave it out, or use GrpcClient.")
        body = v2.as_json(films, request_id or "")
        rows = self._post(f"v2/models/{self._model}/infer", body, _JSON, _v2_rows, timeout_for(None, self._timeout_s))
        return v2.one_per_film(rows, films)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> RestClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _path(self, api: str, model: str) -> str:
        return f"{api}/{model}/{self._version}" if self._version else f"{api}/{model}"

    def _send(self, path: str, data: bytes, options: Options, parse: Callable[[bytes], T]) -> T:
        timeout_s = timeout_for(options.explain, self._timeout_s)
        return self._post(path, data, _RAW | options.as_headers(), _reader(parse), timeout_s)

    def _post(self, path: str, body: bytes, headers: dict[str, str], read: Reader[T], timeout_s: float) -> T:
        check_size(len(body))

        def send(left_s: float) -> T:
            return read(*self._attempt(path, body, headers, left_s))

        return self._retry.run(send, timeout_s)

    def _attempt(self, path: str, body: bytes, headers: dict[str, str], left_s: float) -> tuple[int, bytes]:
        end = time.monotonic() + left_s
        timeout = (min(self._connect_timeout_s, left_s), left_s)
        # A file is sent block by block, each with its own timeout; bytes would have one for them all.
        upload = BytesIO(body) if body else b""
        try:
            with self._session.post(
                f"{self._url}/{path}",
                data=upload,
                headers=headers,
                timeout=timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                return response.status_code, _read(response, end)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _from_transport(error) from error


class _BearerAuth(AuthBase):
    """As an auth object, so that no ~/.netrc takes its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _session(token: str | None, verify: bool | str, connections: int) -> requests.Session:
    session = requests.Session()
    session.verify = verify
    session.auth = _BearerAuth(token) if token else None
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=connections))
    return session


def _read(response: requests.Response, end: float) -> bytes:
    """The body, before the clock says `end`: a socket's own timeout starts anew with every byte.

    `read1` hands over what has arrived; `iter_content` would wait for a whole chunk, the clock unseen.
    """
    body = bytearray()
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise ProtocolError(f"The server's answer is longer than {MAX_ANSWER_BYTES} bytes.")
        if time.monotonic() > end:
            raise DeadlineExceeded("The server's answer did not arrive in time.")
    return bytes(body)


def _reader(parse: Callable[[bytes], T]) -> Reader[T]:
    def read(status: int, body: bytes) -> T:
        if status != requests.codes.ok:
            raise from_http(status, body)
        return parse(body)

    return read


def _v2_rows(status: int, body: bytes) -> list[v2.Row]:
    if status != requests.codes.ok and not v2.is_answer(body):
        raise from_http(status, body)
    return v2.rows_of_json(body)


def _from_transport(error: requests.RequestException | urllib3.exceptions.HTTPError) -> ClientError:
    """What requests raises until the headers are there, and urllib3 while the body is read."""
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return DeadlineExceeded("The server did not answer in time.")
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError):
        return ConnectionFailed(f"No connection to the server: {_root_cause(error)}.")
    return ProtocolError(f"The request could not be sent: {error}.")


def _root_cause(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
