"""Many at once: each request its own right answer, whoever shares its batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import grpc
import pytest
import requests

from client import ClientError, Explanation, GrpcClient, Prediction, RestClient
from serving.torchserve import TorchServe
from tests.server import films, ways
from tests.server.conftest import Expected, wait_until_waiting, workers_stopped
from tests.server.films import HTML, OVER_THE_FRONT_ENDS_LIMIT, OVER_THE_HANDLERS_LIMIT, PNG
from tests.server.scrape import Scrape, eventually, settled
from tests.server.ways import PREDICT, WAYS, Answer

pytestmark = pytest.mark.usefixtures("unharmed")
Outcome = Prediction | ClientError | Answer | str

OVERSIZE = "over the front end's limit"
PAGE = "HTML page named .dcm"
MIX = {
    "PNG": PNG,
    "DICOM": films.dicom(),
    "explain": PNG,
    "truncated": PNG[: len(PNG) // 2],
    PAGE: HTML,
    "empty": b"",
    "over the handler's limit": bytes(OVER_THE_HANDLERS_LIMIT),
    OVERSIZE: bytes(OVER_THE_FRONT_ENDS_LIMIT),
}
REQUESTS = [(kind, protocol, turn) for kind in MIX for protocol in ("REST", "gRPC") for turn in (1, 2)]


def test_32_at_once_get_each_its_own_answer(
    server: TorchServe, rest: RestClient, rpc: GrpcClient, expected: Expected
) -> None:
    start = Barrier(len(REQUESTS))

    def ask(request: tuple[str, str, int]) -> Outcome:
        kind, protocol, _ = request
        start.wait()
        if kind == OVERSIZE:
            return sent_raw(server, protocol)
        if kind == PAGE and protocol == "REST":  # gRPC has no file names
            return ways.by_multipart(server, HTML, str(request))
        service = rest if protocol == "REST" else rpc
        call = service.explain if kind == "explain" else service.predict
        try:
            return call(MIX[kind], request_id=str(request))
        except ClientError as error:
            return error

    wanted = {kind: expected(film) for kind, film in MIX.items() if kind != OVERSIZE}
    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        outcomes = list(pool.map(ask, REQUESTS))

    assert len(REQUESTS) == 32
    for request, outcome in zip(REQUESTS, outcomes, strict=True):
        if request[0] == OVERSIZE:
            assert outcome == "turned away", request
        else:
            assert is_right(outcome, request, wanted[request[0]]), (request, repr(outcome))


def sent_raw(server: TorchServe, protocol: str) -> str:
    """The clients would not even send it."""
    film = MIX[OVERSIZE]
    try:
        if protocol == "REST":
            return "turned away" if ways.post(server, PREDICT, film).status_code == 413 else "taken"
        return str(ways.predictions(server, data=film))
    except requests.ConnectionError:
        return "turned away"  # hung up on while it was still sending
    except grpc.RpcError as error:
        return "turned away" if error.code() == grpc.StatusCode.CANCELLED else str(error)


def is_right(outcome: Outcome, request: tuple[str, str, int], wanted: Answer) -> bool:
    if isinstance(outcome, ClientError):
        found = (outcome.status, outcome.type, outcome.message, outcome.request_id)
        return found == (*(wanted.get(key) for key in ("code", "type", "message")), str(request))
    if isinstance(outcome, dict):
        return outcome == {**wanted, "request_id": str(request)}
    assert isinstance(outcome, Prediction)
    same = (outcome.prediction, outcome.decision) == (wanted["prediction"], wanted["decision"])
    explained = isinstance(outcome, Explanation) == (request[0] == "explain")
    close = outcome.probabilities == pytest.approx(wanted["probabilities"], abs=1e-4)
    return same and explained and close and outcome.request_id == str(request)


# --- batches -----------------------------------------------------------------------------------------

BATCH = 8
MOST_IN_HAND = 16
"""One for each worker and one that waits; a few more on a machine where a request takes a second to arrive."""


@pytest.mark.parametrize("way", WAYS)
def test_bad_rows_of_a_batch_harm_no_good_one(server: TorchServe, expected: Expected, way: str) -> None:
    """Seven good and seven bad films, by turns, in a queue that no worker takes from: the first eight go together."""
    sent = [film for pair in zip([PNG] * 7, [b"", HTML, PNG[:999]] * 3, strict=False) for film in pair]
    before = settled(server).total("cxr_batches_total", model_name="cxr", size=str(BATCH))
    for film, answer in zip(sent, answered_together(server, way, sent), strict=True):
        assert is_answer_to(film, answer, expected(film)), (film[:20], answer)

    def full(seen: Scrape) -> float:
        return seen.total("cxr_batches_total", model_name="cxr", size=str(BATCH))

    assert full(eventually(server, lambda seen: full(seen) > before)) > before


def test_32_requests_find_room_while_every_worker_is_busy(server: TorchServe, expected: Expected) -> None:
    """As many as arrive at once above, all of them waiting: one in `answered_together`'s hand and 31 more."""
    for answer in answered_together(server, "raw body", [PNG] * 31):
        assert is_answer_to(PNG, answer, expected(PNG)), answer


def answered_together(server: TorchServe, way: str, sent: list[bytes]) -> list[Answer]:
    """The answers to films that have all been waiting when the workers, each with one film in hand, go on."""
    with ThreadPoolExecutor(len(sent) + MOST_IN_HAND) as pool:
        with workers_stopped(server, "cxr"):
            in_hand = [pool.submit(ways.by_raw_body, server, PNG, "in hand")]
            while not wait_until_waiting(server, "cxr", 1, patience_s=1):
                assert len(in_hand) < MOST_IN_HAND, "a stopped worker takes more than one batch"
                in_hand.append(pool.submit(ways.by_raw_body, server, PNG, "in hand"))
            futures = [pool.submit(WAYS[way], server, film, "burst") for film in sent]
            assert wait_until_waiting(server, "cxr", 1 + len(sent))
        assert all(future.result()["decision"] for future in in_hand)
        return [future.result() for future in futures]


def is_answer_to(film: bytes, answer: Answer, wanted: Answer) -> bool:
    if "code" in wanted:
        return {**answer, "request_id": ""} == wanted
    close: bool = answer["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-4)
    return close and answer["decision"] == wanted["decision"]
