"""Replays: send dead events to the retrier step by step, and judge what becomes of them.

All that counts is in the database, so that any process goes on where another has died: which events were sent, and
what they came to. What is kept here only makes the judgement of this process, and that judgement is pure.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orderflow.core.crash_points import Point, reached
from orderflow.core.operations.model import Replay, ReplayPlan, ReplayProgress, ReplayState
from orderflow.core.operations.port import RecoveryStore
from orderflow.core.timing import Clock, Timer

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


LEASE_MS = 5_000
TICK_MS = 50.0
TICK_MAX_MS = 1_000.0
LAG_EVERY_S = 1.0
BURST_S = 0.1


@dataclass(slots=True)
class _Taken:
    """A replay that this process carries out. `base` is how it stood when it was taken up."""

    base: ReplayProgress
    pace: Pace
    seen: ReplayProgress
    renewed_at: float
    tick_ms: float = TICK_MS
    lag_growth: int = 0
    lag_at: float = -math.inf


class ReplayRunner:
    """Runs in every process of the service; a lease gives each replay to one.

    `lag` tells how many records the service's consumers are behind; `retry` wakes the retrier of a consumer.
    """

    def __init__(
        self, store: RecoveryStore, lag: Callable[[], Awaitable[int]], retry: Callable[[str], None], clock: Clock
    ) -> None:
        self._store = store
        self._lag = lag
        self._retry = retry
        self._clock = clock
        self._timer = Timer(clock)
        self._taken: dict[int, _Taken] = {}

    def wake(self) -> None:
        """Go on with a replay that was begun or resumed here, or that no process carries out."""
        self._timer.set(0)

    async def step(self) -> None:
        """Wait until something may be due, and go on with it.

        Raises StoreUnavailableError, TransportUnavailableError.
        """
        await self._timer.wait()
        replay = await self._store.claim_replay(LEASE_MS)
        if replay is not None:
            self._timer.set(await self._go_on(replay))

    async def _go_on(self, replay: Replay) -> float:
        """Returns when to come back, in ms."""
        taken = self._take(replay)
        lag_growth = await self._lag_growth(replay, taken)
        match next_step(since(replay.progress, taken.base), replay.plan, lag_growth):
            case Send(count):
                return await self._send(replay, taken, count)
            case Stop(why):
                await self._end(replay, ReplayState.STOPPED, why)
            case Done():
                await self._end(replay, ReplayState.DONE, "")
            case Wait():
                return taken.tick_ms
        return 0

    async def _send(self, replay: Replay, taken: _Taken, count: int) -> float:
        now = self._clock.monotonic()
        room = taken.pace.room(now)
        count = count if room is None else min(count, room)
        if count:
            sent = await self._store.send(replay.number, count)
            reached(Point.REPLAY_SENT)
            taken.pace.sent(count, now)
            for consumer in dict.fromkeys(consumer for consumer, _ in sent):
                self._retry(consumer)
            await self._store.finish_step(replay.number, replay.step + 1, ReplayState.RUNNING)
            reached(Point.REPLAY_STEPPED)
        return max(TICK_MS, taken.pace.wait_s(self._clock.monotonic()) * 1000)

    async def _end(self, replay: Replay, state: ReplayState, why: str) -> None:
        reached(Point.REPLAY_ENDING)
        del self._taken[replay.number]
        result = " ".join([summary(replay.progress), why]).strip()
        await self._store.finish_step(replay.number, replay.step, state, why, result)

    def _take(self, replay: Replay) -> _Taken:
        """One that was left for as long as a lease is judged anew: another process has had it, or it was stopped."""
        now = self._clock.monotonic()
        taken = self._taken.get(replay.number)
        if taken is None or now - taken.renewed_at > LEASE_MS / 1000:
            taken = _Taken(replay.progress, Pace(replay.plan.rate_per_s), replay.progress, now)
            self._taken[replay.number] = taken
        taken.tick_ms = TICK_MS if replay.progress != taken.seen else min(2 * taken.tick_ms, TICK_MAX_MS)
        taken.seen = replay.progress
        taken.renewed_at = now
        return taken

    async def _lag_growth(self, replay: Replay, taken: _Taken) -> int:
        now = self._clock.monotonic()
        if replay.plan.lag_growth_max is not None and now - taken.lag_at >= LAG_EVERY_S:
            taken.lag_growth = await self._lag() - replay.lag_before
            taken.lag_at = now
        return taken.lag_growth


def summary(progress: ReplayProgress) -> str:
    """What became of the events, in one sentence."""
    parts = [
        f"{progress.succeeded} succeeded",
        f"{progress.failed_again} failed again",
        f"{progress.discarded} discarded" if progress.discarded else "",
        f"{progress.gone} no longer dead when their turn came" if progress.gone else "",
        f"{progress.under_way} under way" if progress.under_way else "",
        f"{progress.waiting} not sent" if progress.waiting else "",
    ]
    return ", ".join(part for part in parts if part) + "."


class Pace:
    """At most `rate_per_s` over any time, give or take what falls into BURST_S. None: no limit. Times are in s."""

    def __init__(self, rate_per_s: float | None) -> None:
        self._rate = rate_per_s
        self._next_at: float | None = None

    def room(self, now: float) -> int | None:
        """How many may be sent at this moment; None: any number."""
        if self._rate is None:
            return None
        if self._next_at is None or now < self._next_at:
            return 1 if self._next_at is None else 0
        return int(min(now - self._next_at, BURST_S) * self._rate) + 1

    def sent(self, count: int, now: float) -> None:
        """So many were sent."""
        if self._rate is not None:
            start = now if self._next_at is None else max(self._next_at, now - BURST_S)
            self._next_at = start + count / self._rate

    def wait_s(self, now: float) -> float:
        """How long until the next may be sent."""
        return max(0.0, self._next_at - now) if self._next_at is not None else 0.0
