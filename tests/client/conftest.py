from __future__ import annotations

from collections.abc import Iterator

import pytest

from client import RetryPolicy
from serving import paths
from tests.client.fakes import FakeRest, FakeRpc, serve_rest, serve_rpc


@pytest.fixture
def rest() -> Iterator[FakeRest]:
    with serve_rest() as fake:
        yield fake


@pytest.fixture
def rpc() -> Iterator[FakeRpc]:
    with serve_rpc() as fake:
        yield fake


@pytest.fixture
def hasty() -> RetryPolicy:
    """Retries without the waiting."""
    return RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)


@pytest.fixture(scope="session")
def film() -> bytes:
    """A real chest film, the repository's own."""
    return paths.FILM.read_bytes()
