"""What every test may ask for: one real TorchServe with the real archive; and which skips CI allows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import paths
from serving.properties import free_ports
from serving.torchserve import TorchServe


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--archive", type=Path, default=paths.ARCHIVE, help="model archive that the tests serve")


@pytest.fixture(scope="session")
def archive(request: pytest.FixtureRequest) -> Path:
    """The model archive under test."""
    chosen: Path = request.config.getoption("--archive")
    return chosen


@pytest.fixture(scope="session")
def server(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """A real TorchServe on free ports: inference_url, management_url, metrics_url, grpc_target, worker_pids.

    All tests share it: whoever kills a worker waits until it is back.
    """
    with TorchServe(tmp_path_factory.mktemp("server"), archive=archive, ports=free_ports()) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With CI=true a test skipped because a package is missing is a failure: CI installs every package."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and _misses_a_package(report):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr[2]}"
    return report


def _misses_a_package(report: pytest.TestReport) -> bool:
    """pytest.importorskip's reason, or one that says `not installed`; missing data is no such reason."""
    reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    return any(words in reason for words in ("could not import", "not installed"))
