"""TorchServe's side of the service: rows in, list out, no pixel arithmetic.

The only file that knows TorchServe. One class: a handler module may hold no second.
"""

from __future__ import annotations

import http
import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from ts.metrics.metric_cache_errors import MetricsCacheKeyError
from ts.metrics.metric_type_enum import MetricTypes

from cxr import envelope, network
from cxr.reading import Reader, Row
from cxr.settings import Settings
from cxr.warm_up import warm_up

log = logging.getLogger(__name__)

NO_LABEL = "none"
"""Class of a row that got none. TorchServe drops a sample with an empty dimension."""


class XrayHandler:
    """One worker: `initialize` once, `handle` for every batch."""

    def initialize(self, context: Any) -> None:
        """Load the archive's network and warm it up; returning reports READY."""
        config = context.model_yaml_config or {}
        self.settings = Settings.from_yaml(config.get("handler"))
        self.name = context.model_name
        self.metrics = context.metrics
        threads = self.settings.thread_count(int(config.get("maxWorkers", 1)))
        torch.set_num_threads(threads)
        os.nice(self.settings.nice)
        properties = context.system_properties
        path = Path(properties["model_dir"]) / context.manifest["model"]["serializedFile"]
        self.network = network.load(path, _device(properties.get("gpu_id")))
        self.reader = Reader(
            self.network,
            self.settings.limits,
            self.settings.methods,
            threads,
            int(config.get("batchSize", 1)),
            self._observe,
        )
        warm_up(self.reader)
        log.info("ready: %s %s, %d threads", self.name, self.network.sha256[:12], threads)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One answer for each row of the batch, in order, each with its own status."""
        start = time.perf_counter()
        asked = [self._unwrap(row, index, context) for index, row in enumerate(data)]
        rows = self.reader.read([request for entry in asked for request in entry.requests])
        rest = iter(rows)
        answers = [
            envelope.wrap(entry, [next(rest) for _ in entry.requests], self.name, self.network.recipe)
            for entry in asked
        ]
        for index, answer in enumerate(answers):
            context.set_response_status(answer.status, _phrase(answer.status), index)
            context.set_response_content_type(index, answer.content_type)
        self._count(asked, rows, time.perf_counter() - start)
        return [answer.body for answer in answers]

    def _unwrap(self, row: dict[str, Any], index: int, context: Any) -> envelope.Asked:
        headers = context.get_all_request_header(index)
        return envelope.unwrap(row, headers, str(context.get_request_id(index)), self.network.recipe)

    # --- metrics: fed here, so that REST, gRPC and v2 count alike -----------------------------------

    def _observe(self, step: str, seconds: float) -> None:
        self._metric(f"cxr_{step}_seconds", MetricTypes.HISTOGRAM, seconds)

    def _count(self, asked: list[envelope.Asked], rows: list[Row], seconds: float) -> None:
        self._metric("cxr_busy_seconds_total", MetricTypes.COUNTER, seconds)
        self._metric("cxr_batches_total", MetricTypes.COUNTER, 1, str(len(asked)))
        outcomes = Counter(_outcome(row) for row in rows)
        outcomes.update((str(entry.error.status), NO_LABEL) for entry in asked if entry.error is not None)
        for outcome, count in outcomes.items():
            self._metric("cxr_rows_total", MetricTypes.COUNTER, count, *outcome)
        for row in rows:
            if row.answer.get("decision") == "reject":
                self._metric("cxr_gate_rejections_total", MetricTypes.COUNTER, 1, row.answer["gate"]["reason"])

    def _metric(self, name: str, kind: MetricTypes, value: float, *dimensions: str) -> None:
        try:
            metric = self.metrics.get_metric(name, kind)
        except MetricsCacheKeyError:  # TorchServe runs with another metrics.yaml: films are answered all the same
            return
        metric.add_or_update(value, [self.name, *dimensions])


def _outcome(row: Row) -> tuple[str, str]:
    """Decision or error status, and class: the dimensions of cxr_rows_total."""
    if row.error is not None:
        return str(row.error.status), NO_LABEL
    return row.answer["decision"], row.answer["prediction"]


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase


def _device(gpu_id: int | None) -> torch.device:
    return torch.device(f"cuda:{gpu_id}" if gpu_id is not None and torch.cuda.is_available() else "cpu")
