"""The service over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from client import v2
from client.contract import DEFAULT_METHOD, MAX_ANSWER_BYTES, MODEL, Options, check_size, is_loopback, timeout_for
from client.errors import BadRequest, ClientError, ConnectionFailed, DeadlineExceeded, ProtocolError, from_http
from client.retry import RetryPolicy
from client.service import Service

T = TypeVar("T")
# Makes an answer out of status and body, or raises the ClientError they stand for.
Reader = Callable[[int, bytes], T]

_CHUNK_BYTES = 64 * 1024
_RAW = {"Content-Type": "application/octet-stream"}
_JSON = {"Content-Type": "application/json"}


class RestClient(Service):
    """Predictions and explanations over REST. The arguments that are not told of here are those of `Service`.

    Args:
        url: scheme, host and port of the inference API. A proxy of the environment has no part in loopback addresses.
        connect_timeout_s: for a connection to come about, and for each block of an upload.
        token: bearer token, sent as `Authorization`.
        verify: False or a file of certificates, as in requests.
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
        super().__init__(timeout_s=timeout_s, retry=retry, model=model, version=version)
        self._url = url.rstrip("/")
        self._connect_timeout_s = connect_timeout_s
        self._session = _session(token, verify, connections)
        self._session.trust_env = not is_loopback(urlsplit(url).hostname)

    def close(self) -> None:
        self._session.close()

    def _send(self, model: str, data: bytes, options: Options, parse: Callable[[bytes], T]) -> T:
        path = "/".join(filter(None, ("explanations" if options.explain else "predictions", model, self._version)))
        if options.explain == DEFAULT_METHOD:  # which the path asks for
            options = replace(options, explain=None)
        timeout_s = timeout_for(options.explain, self._timeout_s)
        return self._post(path, data, _RAW | options.as_headers(), _reader(parse), timeout_s)

    def _infer(self, films: v2.Films, request_id: str, timeout_s: float) -> list[v2.Row]:
        if self._version is not None:
            raise BadRequest("TorchServe takes no version over REST v2: leave it out, or use GrpcClient.")
        return self._post(f"v2/models/{self._model}/infer", v2.as_json(films, request_id), _JSON, _v2_rows, timeout_s)

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
