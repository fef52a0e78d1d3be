"""How a replay goes on, as a table."""

from __future__ import annotations

import pytest

from orderflow.core.operations.model import ReplayPlan, ReplayProgress
from orderflow.core.operations.replay import (
    UNDER_WAY_MAX,
    Done,
    Send,
    Stop,
    Verdict,
    Wait,
    next_step,
    since,
    step_size,
)

ALL_AT_ONCE = ReplayPlan(canary=False)
CANARY = ReplayPlan()


def test_the_steps_of_a_canary() -> None:
    assert [step_size(number) for number in range(10)] == [1, 2, 5, 10, 20, 50, 100, 200, 200, 200]


@pytest.mark.parametrize(
    ("plan", "progress", "lag_growth", "verdict"),
    [
        (CANARY, ReplayProgress(waiting=900), 0, Send(1)),
        (CANARY, ReplayProgress(waiting=899, under_way=1), 0, Wait()),
        (CANARY, ReplayProgress(waiting=899, succeeded=1), 0, Send(2)),
        (CANARY, ReplayProgress(waiting=897, succeeded=2, gone=1), 0, Send(5)),
        (CANARY, ReplayProgress(waiting=892, succeeded=7, discarded=1), 0, Send(10)),
        (CANARY, ReplayProgress(waiting=800, succeeded=88), 0, Send(100)),
        (CANARY, ReplayProgress(waiting=3, succeeded=88), 0, Send(3)),
        (CANARY, ReplayProgress(waiting=800, succeeded=5), 0, Send(3)),
        (ALL_AT_ONCE, ReplayProgress(waiting=900), 0, Send(UNDER_WAY_MAX)),
        (ALL_AT_ONCE, ReplayProgress(waiting=900, under_way=100), 0, Send(100)),
        (ALL_AT_ONCE, ReplayProgress(waiting=900, under_way=101), 0, Wait()),
        (ALL_AT_ONCE, ReplayProgress(waiting=30, under_way=170), 0, Send(30)),
        (ALL_AT_ONCE, ReplayProgress(waiting=30, under_way=171), 0, Wait()),
        (ALL_AT_ONCE, ReplayProgress(waiting=900, under_way=UNDER_WAY_MAX), 0, Wait()),
        (ALL_AT_ONCE, ReplayProgress(waiting=7), 0, Send(7)),
        (ALL_AT_ONCE, ReplayProgress(under_way=1, succeeded=5), 0, Wait()),
        (ALL_AT_ONCE, ReplayProgress(succeeded=5, gone=2), 0, Done()),
        (ALL_AT_ONCE, ReplayProgress(), 0, Done()),
        (CANARY, ReplayProgress(failed_again=10), 0, Done()),
        (CANARY, ReplayProgress(waiting=10, succeeded=95, failed_again=5), 0, Send(10)),
        (ALL_AT_ONCE, ReplayProgress(waiting=10, under_way=95, failed_again=5), 0, Send(10)),
        (ReplayPlan(canary=True, failing_share_max=1.0), ReplayProgress(waiting=9, failed_again=3), 0, Send(5)),
        (CANARY, ReplayProgress(waiting=9, succeeded=8), 1_000, Send(9)),
        (ReplayPlan(lag_growth_max=None), ReplayProgress(waiting=9), 10**9, Send(1)),
        (CANARY, ReplayProgress(succeeded=9), 10**9, Done()),
    ],
)
def test_what_comes_next(plan: ReplayPlan, progress: ReplayProgress, lag_growth: int, verdict: Verdict) -> None:
    assert next_step(progress, plan, lag_growth) == verdict


@pytest.mark.parametrize(
    ("plan", "progress", "lag_growth", "why"),
    [
        (
            CANARY,
            ReplayProgress(waiting=9, failed_again=1),
            0,
            "1 of 1 replayed events failed again (100%); the plan allows 5%.",
        ),
        (
            CANARY,
            ReplayProgress(waiting=9, succeeded=6, failed_again=2),
            0,
            "2 of 8 replayed events failed again (25%); the plan allows 5%.",
        ),
        (
            ALL_AT_ONCE,
            ReplayProgress(waiting=9, under_way=40, failed_again=9),
            0,
            "9 of 49 replayed events failed again (18%); the plan allows 5%.",
        ),
        (
            CANARY,
            ReplayProgress(waiting=9),
            1_001,
            "The service is 1001 records further behind than when the replay began; the plan allows 1000.",
        ),
        (
            ReplayPlan(lag_growth_max=0),
            ReplayProgress(waiting=9, under_way=1),
            1,
            "The service is 1 records further behind than when the replay began; the plan allows 0.",
        ),
    ],
)
def test_what_stops_it(plan: ReplayPlan, progress: ReplayProgress, lag_growth: int, why: str) -> None:
    assert next_step(progress, plan, lag_growth) == Stop(why)


def test_outcomes_before_it_was_taken_up_again_do_not_count() -> None:
    now = ReplayProgress(waiting=5, under_way=1, succeeded=9, failed_again=4, discarded=3, gone=2)
    base = ReplayProgress(waiting=9, succeeded=7, failed_again=4, discarded=1, gone=1)

    assert since(now, base) == ReplayProgress(waiting=5, under_way=1, succeeded=2, discarded=2, gone=1)


def test_a_canary_gets_everything_through_in_few_steps() -> None:
    waiting, succeeded, steps = 10_000, 0, 0
    while waiting:
        verdict = next_step(ReplayProgress(waiting=waiting, succeeded=succeeded), CANARY, 0)
        assert isinstance(verdict, Send)
        waiting, succeeded, steps = waiting - verdict.count, succeeded + verdict.count, steps + 1

    assert steps == 57
