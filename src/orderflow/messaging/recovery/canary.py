"""How a replay goes on: a pure judgement of how it stands."""

from __future__ import annotations

from dataclasses import dataclass

from orderflow.messaging.recovery.model import ReplayPlan, ReplayProgress

UNDER_WAY_MAX = 200
SEND_MIN = 100
"""Sending costs as much for one as for many, and is paid by the retrier's speed."""

FIRST_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Send:
    """Send up to `count` more."""

    count: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Outcomes are missing."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A gate has closed; `why` is a sentence for the operator."""

    why: str


@dataclass(frozen=True, slots=True)
class Done:
    """Every event has its outcome."""


Verdict = Send | Wait | Stop | Done


def next_step(progress: ReplayProgress, plan: ReplayPlan, lag_growth: int) -> Verdict:
    """What to do next.

    `progress` counts outcomes since the replay was taken up (again): one that was stopped and resumed, or whose
    process died, begins with small steps anew. `lag_growth` is by how many records the service's consumers are
    further behind than when the replay began.
    """
    why = _gate(progress, plan, lag_growth)
    if why and progress.waiting:
        return Stop(why)
    if not progress.waiting:
        return Wait() if progress.under_way else Done()
    if plan.canary:
        return Wait() if progress.under_way else Send(min(_rest_of_step(_sent(progress)), progress.waiting))
    room = min(UNDER_WAY_MAX - progress.under_way, progress.waiting)
    return Send(room) if room >= min(SEND_MIN, progress.waiting) else Wait()


def since(now: ReplayProgress, base: ReplayProgress) -> ReplayProgress:
    """How a replay stands, with only the outcomes that came after `base`."""
    return ReplayProgress(
        waiting=now.waiting,
        under_way=now.under_way,
        succeeded=now.succeeded - base.succeeded,
        failed_again=now.failed_again - base.failed_again,
        discarded=now.discarded - base.discarded,
        gone=now.gone - base.gone,
    )


def step_size(number: int) -> int:
    """The size of the canary's step `number` (from 0): 1, 2, 5, 10, 20, 50, 100, and then 200 again and again."""
    tens, first = divmod(number, len(FIRST_STEPS))
    return min(UNDER_WAY_MAX, FIRST_STEPS[first] * int(10**tens))


def _rest_of_step(sent: int) -> int:
    """What is left of the step in which so many have been sent: a rate may have cut it into parts."""
    number, whole = 0, 0
    while whole <= sent:
        whole += step_size(number)
        number += 1
    return whole - sent


def _sent(progress: ReplayProgress) -> int:
    return progress.under_way + progress.succeeded + progress.failed_again + progress.discarded + progress.gone


def _gate(progress: ReplayProgress, plan: ReplayPlan, lag_growth: int) -> str:
    """Why to stop; "" to go on. Those under way count as if they succeeded, so that no early failure stops all."""
    replayed = progress.succeeded + progress.failed_again + progress.under_way
    if progress.failed_again > plan.failing_share_max * replayed:
        share = progress.failed_again / replayed
        return (
            f"{progress.failed_again} of {replayed} replayed events failed again ({share:.0%}); "
            f"the plan allows {plan.failing_share_max:.0%}."
        )
    if plan.lag_growth_max is not None and lag_growth > plan.lag_growth_max:
        return (
            f"The service is {lag_growth} records further behind than when the replay began; "
            f"the plan allows {plan.lag_growth_max}."
        )
    return ""
