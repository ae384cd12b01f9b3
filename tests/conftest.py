"""What every test may ask for: the real archive's network, one real TorchServe; and which skips CI allows."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from cxr import network
from cxr.network import LoadedNetwork
from cxr.reading import Reader
from serving import paths
from serving.properties import free_ports
from serving.torchserve import TorchServe
from tests.parts import extracted, reader_of

MISSING = ("could not import", "not installed")
"""Words of a skip's reason, pytest.importorskip's and our own, that mean a missing package and not missing data."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--archive", type=Path, default=paths.ARCHIVE, help="model archive that the tests serve")


@pytest.fixture(scope="session")
def archive(request: pytest.FixtureRequest) -> Path:
    """The model archive under test."""
    chosen: Path = request.config.getoption("--archive")
    return chosen


@pytest.fixture(scope="session")
def model_file(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TorchScript file, out of the archive."""
    return extracted(archive, tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="session")
def loaded(model_file: Path) -> LoadedNetwork:
    """As a worker has it."""
    return network.load(model_file)


@pytest.fixture(scope="session")
def reader(archive: Path, loaded: LoadedNetwork) -> Reader:
    """The archive's network behind the reading that training uses too, within the archive's limits, in this process."""
    return reader_of(archive, loaded)


@pytest.fixture(scope="session")
def server(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """A real TorchServe on free ports: inference_url, management_url, metrics_url, grpc_target, worker_pids.

    All tests share it: whoever kills a worker waits until it is back.
    """
    with TorchServe(tmp_path_factory.mktemp("server"), archive=archive, ports=free_ports()) as running:
        yield running


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _judged((yield))


def _judged(report: Report) -> Report:
    """With CI=true a test skipped because a package is missing is a failure: CI installs every package."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    if os.environ.get("CI") == "true" and report.skipped and any(words in reason for words in MISSING):
        report.outcome = "failed"
        report.longrepr = f"in CI nothing may be skipped for a missing package: {reason}"
    return report
