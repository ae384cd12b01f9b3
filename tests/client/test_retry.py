from __future__ import annotations

from collections.abc import Callable

import pytest

from client import BadRequest, ClientError, DeadlineExceeded, NoCapacity, RetryPolicy, Unavailable, WorkerDied


def failing(*errors: ClientError) -> tuple[Callable[[float], str], list[float]]:
    """A call that fails with `errors` in turn and then answers; and the seconds it was given each time."""
    left, given = list(errors), []

    def send(seconds: float) -> str:
        given.append(seconds)
        if left:
            raise left.pop(0)
        return "answer"

    return send, given


def test_what_is_unavailable_is_sent_again(hasty: RetryPolicy) -> None:
    send, given = failing(NoCapacity("full"), Unavailable("away"))
    assert hasty.run(send, 5.0) == "answer"
    assert len(given) == 3


@pytest.mark.parametrize("error", [BadRequest("no"), DeadlineExceeded("late"), ClientError("odd")])
def test_everything_else_is_raised_at_once(hasty: RetryPolicy, error: ClientError) -> None:
    send, given = failing(error)
    with pytest.raises(type(error)):
        hasty.run(send, 5.0)
    assert len(given) == 1


def test_gives_up_after_the_agreed_attempts(hasty: RetryPolicy) -> None:
    send, given = failing(*[NoCapacity(str(number)) for number in range(9)])
    with pytest.raises(NoCapacity, match="2"):
        hasty.run(send, 5.0)
    assert len(given) == 3


def test_a_film_that_kills_two_workers_is_not_sent_to_a_third() -> None:
    send, given = failing(*[WorkerDied("dead")] * 9)
    with pytest.raises(WorkerDied):
        RetryPolicy(attempts=9, first_wait_s=0.01).run(send, 5.0)
    assert len(given) == 2


def test_does_not_wait_past_the_deadline_and_raises_the_true_cause() -> None:
    send, given = failing(*[NoCapacity("full")] * 999)
    policy = RetryPolicy(attempts=999, first_wait_s=0.1, factor=1.0)
    with pytest.raises(NoCapacity):
        policy.run(send, 0.2)
    assert len(given) < 999
    assert all(seconds > 0 for seconds in given)


def test_each_attempt_gets_the_time_that_is_left(hasty: RetryPolicy) -> None:
    send, given = failing(NoCapacity("full"))
    hasty.run(send, 5.0)
    assert 5.0 >= given[0] > given[1] > 4.0


def test_bounds_grow_up_to_the_longest_wait() -> None:
    policy = RetryPolicy(first_wait_s=0.5, factor=2.0, longest_wait_s=1.5)
    assert [policy.bound_s(attempt) for attempt in (1, 2, 3, 9)] == [0.5, 1.0, 1.5, 1.5]


def test_waits_are_spread_over_the_whole_bound() -> None:
    waits = [RetryPolicy(first_wait_s=1.0).wait_s(1) for _ in range(300)]
    assert 0 <= min(waits) < 0.1
    assert 0.9 < max(waits) <= 1.0


def test_a_policy_without_attempts_is_refused() -> None:
    with pytest.raises(ValueError, match="attempts"):
        RetryPolicy(attempts=0)
