"""The names both protocols share: models, methods, options, limits."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from client.errors import BadRequest, FilmTooLarge

MODEL = "cxr"
DEFAULT_METHOD = "true"
"""In the place of a heat map's method: the choice is the server's."""
METHODS = frozenset({"grad_cam", "integrated_gradients", "gradient_shap", "occlusion"})
# Served by a second registration of the archive with a queue of its own, so that they hold no prediction up.
SLOW_METHODS = METHODS - {"grad_cam"}

# Above the handler's own limit of 40,000,000 bytes, so that its answer, which says why, comes first; under the front
# end's max_request_size, which is told by a connection that ends.
MAX_REQUEST_BYTES = 43_900_000
MAX_ANSWER_BYTES = 16 * 1024 * 1024
# As long as the server lets a worker compute, `responseTimeout` in handler/model-config*.yaml: who left earlier would
# leave it at work for nobody.
TIMEOUT_S = 120.0
SLOW_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Options:
    """What may accompany a film; None leaves the choice to the server.

    Attributes:
        explain: method of the heat map, or DEFAULT_METHOD; None asks for none.
        target: class label to explain; by default the predicted one.
        overlay: whether the explanation carries the overlay PNG.
        request_id: the caller's id, repeated in the answer.
    """

    explain: str | None = None
    target: str | None = None
    overlay: bool | None = None
    request_id: str | None = None

    def as_headers(self) -> dict[str, str]:
        """`X-Cxr-...` headers.

        Raises:
            BadRequest: a value that no HTTP header can carry unharmed, that is other than printable ASCII.
        """
        headers = {f"X-Cxr-{name.replace('_', '-').title()}": text for name, text in self._given().items()}
        for name, text in headers.items():
            if not (text.isascii() and text.isprintable()):
                raise BadRequest(f"{name} takes printable ASCII only.")
        return headers

    def as_entries(self) -> dict[str, bytes]:
        """Entries of the gRPC input map, UTF-8."""
        return {name: text.encode() for name, text in self._given().items()}

    def _given(self) -> dict[str, str]:
        overlay = None if self.overlay is None else str(self.overlay).lower()
        options = {
            "explain": self.explain,
            "target": self.target,
            "overlay": overlay,
            "request_id": self.request_id,
        }
        return {name: text for name, text in options.items() if text is not None}


def model_for(method: str | None, model: str) -> str:
    """The registration of `model` that computes heat maps by `method`."""
    return f"{model}-attribution" if method in SLOW_METHODS else model


def timeout_for(method: str | None, timeout_s: float | None) -> float:
    """Seconds for a whole call, its retries included: the caller's choice, or by default the server's own."""
    if timeout_s is not None:
        return timeout_s
    return SLOW_TIMEOUT_S if method in SLOW_METHODS else TIMEOUT_S


def check_size(size: int) -> None:
    """Refuse a body that no server of ours takes.

    Raises:
        FilmTooLarge: more than MAX_REQUEST_BYTES; nothing was sent.
    """
    if size > MAX_REQUEST_BYTES:
        raise FilmTooLarge(f"{size} bytes are more than the {MAX_REQUEST_BYTES} that may be sent.")


def is_loopback(host: str | None) -> bool:
    """Whether `host` is this very machine, which no proxy of the environment can reach in our stead."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:  # a name
        return False
