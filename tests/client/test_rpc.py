from __future__ import annotations

import base64
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import grpc
import pytest

from client import (
    BadRequest,
    ClientError,
    ConnectionFailed,
    DeadlineExceeded,
    FilmTooLarge,
    GrpcClient,
    NoCapacity,
    Prediction,
    ProtocolError,
    RetryPolicy,
    Tensor,
    UnsupportedImage,
    WorkerDied,
)
from tests.client.fakes import ANSWER, LONGEST_WAIT_S, NO_CAPACITY, REJECTION, FakeRpc, aborts, says, v2_message, waits

FULL = aborts(grpc.StatusCode.INTERNAL, f"{NO_CAPACITY}\nInternalServerException.()")
DEAD = aborts(grpc.StatusCode.INTERNAL, "Worker died.\norg.pytorch.serve.http.InternalServerException")
ATTRIBUTION = {"method": "occlusion", "target": "COVID", "map": [[0.0, 1.0]]}


def test_a_prediction_is_read_whole(rpc: FakeRpc) -> None:
    rpc.replies = [says(ANSWER)]
    with GrpcClient(rpc.target, token="secret") as service:
        answer = service.predict(b"film", request_id="r-1")
    assert (answer.prediction, answer.confidence, answer.json) == ("COVID", 0.91, ANSWER)
    [request] = rpc.seen
    assert (request.model_name, request.model_version) == ("cxr", "")
    assert dict(request.input) == {"data": b"film", "request_id": b"r-1"}
    assert rpc.metadata[0]["authorization"] == "Bearer secret"


def test_an_explanation_asks_with_entries(rpc: FakeRpc) -> None:
    rpc.replies = [says({**ANSWER, "attribution": ATTRIBUTION})]
    with GrpcClient(rpc.target) as service:
        answer = service.explain(b"film", method="occlusion", target="COVID", overlay=False)
    [request] = rpc.seen
    assert request.model_name == "cxr-attribution"
    assert dict(request.input) == {
        "data": b"film",
        "explain": b"occlusion",
        "target": b"COVID",
        "overlay": b"false",
    }
    assert answer.attribution.heat_map == ((0.0, 1.0),)
    assert answer.attribution.overlay_png is None


def test_an_explanation_without_a_method_leaves_the_choice_to_the_server(rpc: FakeRpc) -> None:
    rpc.replies = [says({**ANSWER, "attribution": ATTRIBUTION})]
    with GrpcClient(rpc.target) as service:
        service.explain(b"film")
    assert (rpc.seen[0].model_name, rpc.seen[0].input["explain"]) == ("cxr", b"true")


@pytest.mark.parametrize("method", ["no", "false", "gradcam", ""])
def test_a_word_that_is_no_method_is_never_sent(rpc: FakeRpc, method: str) -> None:
    with GrpcClient(rpc.target) as service, pytest.raises(BadRequest, match="unknown attribution method"):
        service.explain(b"film", method=method)
    assert rpc.seen == []


def test_the_overlay_alone_is_that_of_the_explanation(rpc: FakeRpc) -> None:
    with_overlay = {**ATTRIBUTION, "overlay_png": base64.b64encode(b"\x89PNG overlay").decode()}
    rpc.replies = [says({**ANSWER, "attribution": part}) for part in (with_overlay, ATTRIBUTION)]
    with GrpcClient(rpc.target) as service:
        assert service.overlay(b"film", target="COVID") == b"\x89PNG overlay"
        assert dict(rpc.seen[0].input) == {"data": b"film", "explain": b"true", "target": b"COVID", "overlay": b"true"}
        with pytest.raises(ProtocolError):
            service.overlay(b"film")


def test_an_error_in_the_body_is_raised_and_not_sent_again(rpc: FakeRpc) -> None:
    rpc.replies = [says(REJECTION)]
    with GrpcClient(rpc.target) as service, pytest.raises(UnsupportedImage) as caught:
        service.predict(b"<html>")
    assert (caught.value.status, caught.value.request_id) == (415, "r-1")
    assert len(rpc.seen) == 1


def test_a_full_queue_and_a_dead_worker_are_asked_again(rpc: FakeRpc, hasty: RetryPolicy) -> None:
    rpc.replies = [DEAD, FULL, says(ANSWER)]
    with GrpcClient(rpc.target, retry=hasty) as service:
        service.predict(b"film")
    assert len(rpc.seen) == 3


@pytest.mark.parametrize(("reply", "error", "sent"), [(FULL, NoCapacity, 3), (DEAD, WorkerDied, 2)])
def test_what_lasts_is_told(rpc: FakeRpc, hasty: RetryPolicy, reply: Any, error: type[ClientError], sent: int) -> None:
    rpc.replies = [reply]
    with GrpcClient(rpc.target, retry=hasty) as service, pytest.raises(error):
        service.predict(b"film")
    assert len(rpc.seen) == sent


def test_deadline(rpc: FakeRpc) -> None:
    held = threading.Event()
    rpc.replies = [waits(held)]
    begin = time.monotonic()
    with GrpcClient(rpc.target, timeout_s=3) as service, pytest.raises(DeadlineExceeded):
        service.predict(b"film")
    elapsed = time.monotonic() - begin
    held.set()
    assert elapsed < LONGEST_WAIT_S / 2
    assert len(rpc.seen) == 1


def test_connection_refused(hasty: RetryPolicy) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unheard.getsockname()[1]}"
        with GrpcClient(target, retry=hasty) as service, pytest.raises(ConnectionFailed):
            service.predict(b"film")


def test_a_film_over_the_clients_limit_is_not_sent(rpc: FakeRpc) -> None:
    with GrpcClient(rpc.target) as service, pytest.raises(FilmTooLarge):
        service.predict(bytes(50_400_000))
    assert not rpc.seen


def test_a_film_over_the_servers_limit(rpc: FakeRpc, hasty: RetryPolicy) -> None:
    rpc.replies = [says(ANSWER)]
    with GrpcClient(rpc.target, retry=hasty) as service:
        with pytest.raises(FilmTooLarge):
            service.predict(bytes(9_000_000))
        service.predict(bytes(7_000_000))


def test_an_answer_that_is_no_json(rpc: FakeRpc) -> None:
    rpc.replies = [says({})]
    with GrpcClient(rpc.target) as service, pytest.raises(ProtocolError):
        service.predict(b"film")


def test_v2_unquotes_and_keeps_each_film_its_own_answer(rpc: FakeRpc) -> None:
    rejection = {**REJECTION, "message": 'Not "an" image: \\ü'}
    rpc.replies = [v2_message([ANSWER, rejection])]
    with GrpcClient(rpc.target) as service:
        rows = service.infer_v2([b"one", b"two"], request_id="r-1")
    assert [type(row) for row in rows] == [Prediction, UnsupportedImage]
    assert str(rows[1]) == rejection["message"]
    [request] = rpc.seen
    assert (request.model_name, request.id) == ("cxr", "r-1")
    [part] = request.inputs
    assert (part.name, part.datatype, list(part.shape)) == ("image", "BYTES", [2])
    assert list(part.contents.bytes_contents) == [b"one", b"two"]


def test_v2_sends_a_tensor_flat(rpc: FakeRpc) -> None:
    rpc.replies = [v2_message([ANSWER])]
    with GrpcClient(rpc.target) as service:
        service.infer_v2(Tensor((1, 3, 1, 1), [0.0, 0.5, 1.0]))
    [part] = rpc.seen[0].inputs
    assert (part.name, part.datatype, list(part.shape)) == ("tensor", "FP32", [1, 3, 1, 1])
    assert list(part.contents.fp32_contents) == [0.0, 0.5, 1.0]


def test_a_server_that_is_slow_to_greet_is_waited_for(rpc: FakeRpc) -> None:
    rpc.replies = [says(ANSWER)]
    with socket.create_server(("127.0.0.1", 0)) as front:

        def relay() -> None:
            client, _ = front.accept()
            time.sleep(1)
            server = socket.create_connection(("127.0.0.1", int(rpc.target.rpartition(":")[2])))
            threading.Thread(target=pipe, args=(server, client), daemon=True).start()
            pipe(client, server)

        threading.Thread(target=relay, daemon=True).start()
        target = f"127.0.0.1:{front.getsockname()[1]}"
        with GrpcClient(target, retry=RetryPolicy(attempts=1)) as service:
            service.predict(b"film")
    assert len(rpc.seen) == 1


def pipe(source: socket.socket, sink: socket.socket) -> None:
    with source, sink, suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)


def test_v2_asks_for_the_version(rpc: FakeRpc) -> None:
    rpc.replies = [v2_message([ANSWER])]
    with GrpcClient(rpc.target, version="2.0") as service:
        service.infer_v2([b"film"])
    assert rpc.seen[0].model_version == "2.0"


def test_v2_over_the_limit_is_not_sent(rpc: FakeRpc) -> None:
    with GrpcClient(rpc.target) as service, pytest.raises(FilmTooLarge, match="may be sent"):
        service.infer_v2([bytes(22_000_000)] * 2)
    assert not rpc.seen


@pytest.mark.parametrize("scheme", ["", "dns:///"])
def test_no_proxy_stands_before_this_machine(rpc: FakeRpc, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    rpc.replies = [says(ANSWER)]
    with GrpcClient(f"{scheme}{rpc.target}", retry=RetryPolicy(attempts=1)) as service:
        service.predict(b"film")
    assert len(rpc.seen) == 1


def test_v2_with_fewer_rows_than_films(rpc: FakeRpc) -> None:
    rpc.replies = [v2_message([ANSWER])]
    with GrpcClient(rpc.target) as service, pytest.raises(ProtocolError):
        service.infer_v2([b"one", b"two"])
