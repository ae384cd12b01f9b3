"""What the network answers for many films: read once by serving's own code, then kept in the run folder.

Every figure of the report is made from these rows, so that it is about what is served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import cxr
from cxr.network import LoadedNetwork
from cxr.reading import Reader, Row
from cxr.request import Explain, Request
from training.files import replaced

CACHE = "cache"
BATCH, CHUNK = 8, 256
REFUSED = "refused"
"""Beside the contract's decisions: an error instead of an answer."""

Source = Callable[[], bytes]
"""Gives the bytes of one film; called twice, so that a large data set need not lie in memory."""


@dataclass(frozen=True)
class Readings:
    """Answers for N films; a refused film has nan everywhere."""

    logits: NDArray[np.float32]
    """(N, classes)."""
    features: NDArray[np.float32]
    """(N, C), the feature map's mean over the film."""
    distance: NDArray[np.float32]
    """(N,) from the training films."""
    decision: NDArray[np.str_]
    """(N,) report, abstain, reject or refused."""
    reason: NDArray[np.str_]
    """(N,) why it was rejected or refused; "" otherwise."""
    heat_maps: NDArray[np.float32]
    """(N, h, w) Grad-CAM of the predicted class, 0..1; (N, 0, 0) where none was asked for."""

    def __len__(self) -> int:
        return len(self.decision)

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """(N, classes)."""
        scaled = self.logits.astype(np.float64) / temperature
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


class RememberingReader:
    """One network behind the reading code of this checkout, and the folder that remembers its answers."""

    def __init__(self, network: LoadedNetwork, run: Path) -> None:
        self.network = network
        self.folder = run / CACHE
        self.reader = Reader(network, batch=BATCH)
        self.key = hashlib.sha256(network.sha256.encode() + _code()).hexdigest()

    def read(self, name: str, sources: Sequence[Source], *, explain: bool = False) -> Readings:
        """Answers for `sources`; from the folder where the same bytes were read before under this name.

        Kept in pieces of CHUNK films: whoever interrupts a long reading loses a minute of it.
        """
        chunks = [sources[start : start + CHUNK] for start in range(0, len(sources), CHUNK)]
        paths = [self.folder / f"{name}-{self._key(chunk, explain)[:16]}.npz" for chunk in chunks]
        missing = [(path, chunk) for path, chunk in zip(paths, chunks, strict=True) if not path.is_file()]
        with tqdm(total=sum(len(chunk) for _, chunk in missing), desc=name, unit="film", mininterval=2) as bar:
            for path, chunk in missing:
                _store(path, self._read(chunk, explain, bar))
        for old in set(self.folder.glob(f"{name}-*.npz")) - set(paths):
            old.unlink()
        return _joined([dict(np.load(path)) for path in paths])

    def _key(self, sources: Sequence[Source], explain: bool) -> str:
        digest = hashlib.sha256(f"{self.key} {explain}".encode())
        for source in sources:
            digest.update(hashlib.sha256(source()).digest())
        return digest.hexdigest()

    def _read(self, sources: Sequence[Source], explain: bool, bar: Any) -> dict[str, NDArray[Any]]:
        asked = Explain(overlay=False) if explain else None
        rows: list[dict[str, Any]] = []
        for start in range(0, len(sources), BATCH):
            requests = [Request(source(), explain=asked) for source in sources[start : start + BATCH]]
            rows += [self._numbers(row) for row in self.reader.read(requests)]
            bar.update(len(requests))
        return _stacked(rows)

    @torch.no_grad()
    def _numbers(self, row: Row) -> dict[str, Any]:
        if row.error is not None or row.prediction is None:
            return {"decision": REFUSED, "reason": type(row.error).__name__}
        feature_map = row.prediction.feature_map
        numbers = {
            "logits": self.network.head(feature_map)[0].cpu().numpy(),
            "features": feature_map.mean(dim=(2, 3))[0].cpu().numpy(),
            "distance": np.float32(row.prediction.distance),
            "decision": row.answer["decision"],
            "reason": row.answer["gate"]["reason"] or "",
        }
        if row.explanation is not None:
            numbers["heat_maps"] = row.explanation.attributed.heat_map
        return numbers


def _store(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    with replaced(path) as partial, partial.open("wb") as file:  # numpy would add .npz to a name
        np.savez(file, **columns)  # type: ignore[arg-type]


def _code() -> bytes:
    """Digest of the package that reads films: after a change of it, remembered answers are worth nothing."""
    digest = hashlib.sha256()
    for path in sorted(Path(cxr.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _stacked(rows: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    shapes = {
        name: next((np.shape(row[name]) for row in rows if name in row), empty)
        for name, empty in (("logits", (0,)), ("features", (0,)), ("distance", ()), ("heat_maps", (0, 0)))
    }
    columns: dict[str, NDArray[Any]] = {
        name: np.array([row.get(name, np.full(shape, np.nan)) for row in rows], np.float32).reshape(len(rows), *shape)
        for name, shape in shapes.items()
    }
    return columns | {name: np.array([row[name] for row in rows], np.str_) for name in ("decision", "reason")}


def _joined(chunks: list[dict[str, NDArray[Any]]]) -> Readings:
    """A chunk of nothing but refused films does not know how many classes there are."""
    columns = {}
    for name in chunks[0]:
        parts = [chunk[name] for chunk in chunks]
        shape = max(part.shape[1:] for part in parts)
        parts = [part if part.shape[1:] == shape else np.full((len(part), *shape), np.nan) for part in parts]
        columns[name] = np.concatenate(parts)
    return Readings(**columns)
