"""The handler's own metrics: every protocol counts alike, and every declared one is there."""

from __future__ import annotations

import time

import pytest
import yaml

from client import RestClient
from serving import paths
from serving.torchserve import TorchServe
from tests.server import films, ways
from tests.server.conftest import Expected
from tests.server.films import HTML, PNG
from tests.server.scrape import Scrape, eventually, settled
from tests.server.ways import SLOW, WAYS

pytestmark = pytest.mark.usefixtures("unharmed")
STEPS = ("decode", "stretch", "predict", "explain")


def declared() -> set[str]:
    document = yaml.safe_load((paths.ROOT / "handler" / "metrics.yaml").read_text())
    metrics = [metric for kind in document["model_metrics"].values() for metric in kind]
    return {metric["name"] for metric in metrics if metric["name"].startswith("cxr_")}


def rows(seen: Scrape) -> float:
    return seen.total("cxr_rows_total", model_name="cxr")


def after(server: TorchServe, before: Scrape, count: int) -> Scrape:
    """Once `count` more rows were counted."""
    seen = eventually(server, lambda seen: rows(seen) >= rows(before) + count)
    assert rows(seen) == rows(before) + count
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_every_protocol_counts_alike(server: TorchServe, expected: Expected, way: str) -> None:
    before = settled(server)
    for film in (PNG, films.colour_picture(), HTML, b""):
        WAYS[way](server, film, "counted")
    seen = after(server, before, 4)

    def grown(name: str, **labels: str) -> float:
        return seen.total(name, model_name="cxr", **labels) - before.total(name, model_name="cxr", **labels)

    good, bad = expected(PNG), expected(films.colour_picture())
    assert grown("cxr_rows_total", outcome=good["decision"], label=good["prediction"]) == 1
    assert grown("cxr_rows_total", outcome="reject", label=bad["prediction"]) == 1
    assert grown("cxr_rows_total", outcome="415", label="none") == 1
    assert grown("cxr_rows_total", outcome="400", label="none") == 1
    assert grown("cxr_gate_rejections_total", reason="colour") == 1
    assert grown("cxr_batches_total", size="1") == 4
    assert grown("cxr_busy_seconds_total") > 0
    assert grown("cxr_decode_seconds_count") == 4
    assert grown("cxr_stretch_seconds_count") == grown("cxr_predict_seconds_count") == 2
    assert grown("cxr_explain_seconds_count") == 0


def test_histograms_and_busy_seconds_are_seconds(server: TorchServe, rest: RestClient) -> None:
    before = settled(server)
    start = time.monotonic()
    rest.explain(PNG)
    elapsed = time.monotonic() - start
    seen = after(server, before, 1)

    steps = sum(
        seen.total(f"cxr_{step}_seconds_sum", model_name="cxr")
        - before.total(f"cxr_{step}_seconds_sum", model_name="cxr")
        for step in STEPS
    )
    busy = seen.total("cxr_busy_seconds_total", model_name="cxr")
    busy -= before.total("cxr_busy_seconds_total", model_name="cxr")
    assert 0 < steps < busy < elapsed
    assert seen.total("cxr_predict_seconds_bucket", model_name="cxr", le="+Inf") == seen.total(
        "cxr_predict_seconds_count", model_name="cxr"
    )


def test_a_v2_row_counts_each_of_its_films(server: TorchServe) -> None:
    before = settled(server)
    ways.infer(server, {"inputs": [ways.images([PNG, HTML, PNG])]})
    seen = after(server, before, 3)
    assert seen.total("cxr_batches_total") - before.total("cxr_batches_total") == 1


def test_attribution_counts_under_its_own_name(server: TorchServe) -> None:
    before = settled(server)
    ways.read(ways.post(server, SLOW, PNG))
    seen = eventually(
        server,
        lambda seen: seen.total("cxr_rows_total") > before.total("cxr_rows_total"),
    )
    assert rows(seen) == rows(before)
    name = "cxr_explain_seconds_count"
    assert seen.total(name, model_name="cxr-attribution") > before.total(name, model_name="cxr-attribution")


def test_what_is_declared_appears_and_nothing_else(server: TorchServe, rest: RestClient) -> None:
    rest.explain(PNG)
    rest.predict(films.colour_picture())

    def own(seen: Scrape) -> set[str]:
        names = {name for name in seen.names if name.startswith("cxr_")}
        return {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in names}

    assert own(eventually(server, lambda seen: own(seen) >= declared())) == declared()
