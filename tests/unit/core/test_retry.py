"""When to try again: the back-off as a pure decision, and how a loop bears what is away."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.failures import InfrastructureError
from orderflow.core.retry import Backoff, CallBreaker, FailureStreak, RetryLoop, RetryPolicy
from orderflow.core.side_effects import GatewayUnavailableError
from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import Resumed, Signal, Signals, TaskFailed, TopicReplaced, Waiting
from orderflow.core.transport import TopicReplacedError, TransportUnavailableError
from tests.support.rng import Drawn
from tests.support.waiting import eventually
from tests.unit.core.still_clock import StillClock

backoffs = st.builds(lambda first, times: Backoff(first, first * times), st.integers(1, 5_000), st.integers(1, 1_000))


@given(backoff=backoffs, attempt=st.integers(1, 10_000), seed=st.integers())
def test_a_delay_lies_in_the_upper_half_of_what_the_attempt_allows(backoff: Backoff, attempt: int, seed: int) -> None:
    full = min(backoff.ceiling_ms, backoff.first_ms * 2.0 ** min(attempt - 1, 40))

    delay = backoff.delay_ms(attempt, random.Random(seed))

    assert full / 2 - 1 <= delay <= full + 1


@given(attempt=st.integers(1, 12), seed=st.integers())
def test_the_mean_of_the_delays_is_three_quarters_of_what_the_attempt_allows(attempt: int, seed: int) -> None:
    rng = random.Random(seed)
    backoff = Backoff(200, 20_000)

    mean = fmean(backoff.delay_ms(attempt, rng) for _ in range(2_000))

    assert abs(mean / min(20_000, 200 * 2 ** (attempt - 1)) - 0.75) < 0.03


@pytest.mark.parametrize(
    ("attempt", "rng", "delay_ms"),
    [
        (1, 0.0, 100),
        (1, 0.5, 150),
        (1, 0.999, 200),
        (2, 0.0, 200),
        (7, 0.0, 6_400),
        (8, 0.0, 10_000),
        (8, 0.999, 19_990),
    ],
)
def test_a_delay_doubles_up_to_the_ceiling_and_lies_where_chance_puts_it(
    attempt: int, rng: float, delay_ms: int
) -> None:
    assert Backoff(200, 20_000).delay_ms(attempt, Drawn(rng)) == delay_ms


def test_the_longest_delay_is_one_of_the_ceiling_however_small_the_first() -> None:
    assert Backoff(1, 20_000).longest_ms(Drawn(0.0)) == 10_000


def test_a_message_that_is_tried_again_waits_as_long_as_the_back_off_says() -> None:
    assert RetryPolicy(Backoff(200, 20_000), 6).again_in_ms(3, Drawn(0.0)) == 400


@given(attempts=st.integers(1, 20), attempts_max=st.integers(1, 20))
def test_a_message_is_given_up_after_its_last_attempt(attempts: int, attempts_max: int) -> None:
    policy = RetryPolicy(Backoff(1, 1), attempts_max)

    gives_up = policy.again_in_ms(attempts, random.Random(1)) is None

    assert gives_up == (attempts >= attempts_max)


def loop_of(clock: StillClock, seen: list[Signal]) -> RetryLoop:
    return RetryLoop("counter", "relay", Backoff(100, 5_000), Signals([seen.append]), clock, Drawn(0.0))


async def test_what_is_away_is_tried_again_later_and_later_and_its_return_is_told() -> None:
    clock, seen = StillClock(), list[Signal]()
    loop = loop_of(clock, seen)
    calls = 0

    async def step() -> None:
        nonlocal calls
        calls += 1
        if calls <= 9:
            raise StoreUnavailableError("gone")

    await loop.until_done(step)

    assert calls == 10
    assert clock.slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5, 2.5]
    kinds = [type(signal) for signal in seen]
    assert kinds == [Waiting] * 9 + [Resumed]
    assert isinstance(seen[-1], Resumed)
    assert seen[-1].after_s == pytest.approx(sum(clock.slept))
    assert loop.problem == ""


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailableError("gone"),
        TransportUnavailableError("gone"),
        GatewayUnavailableError("gone"),
        InfrastructureError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_infrastructure_that_is_away_is_no_defect(error: Exception) -> None:
    seen, errors = list[Signal](), [error]

    async def step() -> None:
        if errors:
            raise errors.pop()

    await loop_of(StillClock(), seen).until_done(step)

    assert [type(signal) for signal in seen] == [Waiting, Resumed]


async def test_of_what_goes_well_nothing_is_told() -> None:
    seen = list[Signal]()

    async def step() -> None:
        pass

    await loop_of(StillClock(), seen).until_done(step)

    assert seen == []


async def test_a_topic_that_was_replaced_is_told_apart_from_what_passes() -> None:
    seen = list[Signal]()
    errors = [TopicReplacedError("order-events", "it was deleted and made again")]

    async def step() -> None:
        if errors:
            raise errors.pop()

    await loop_of(StillClock(), seen).until_done(step)

    assert seen[0] == TopicReplaced("counter", "relay", "order-events", "it was deleted and made again")
    assert [type(signal) for signal in seen[1:]] == [Waiting, Resumed]


async def test_a_defect_is_told_and_does_not_stop_the_loop() -> None:
    clock, seen = StillClock(), list[Signal]()
    errors = [defect := KeyError("defect")]

    async def step() -> None:
        if errors:
            raise errors.pop()

    await loop_of(clock, seen).until_done(step)

    assert seen[0] == TaskFailed("counter", "relay", defect)
    assert [type(signal) for signal in seen[1:]] == [Waiting, Resumed]


async def test_what_is_wrong_can_be_seen_while_it_waits() -> None:
    clock, seen = StillClock(), list[Signal]()
    loop = loop_of(clock, seen)
    assert loop.component == "relay"
    assert stands(loop) == ("", None, False, False)
    looked: list[tuple[str, Exception | None, bool, bool]] = []
    clock.on_sleep = lambda: looked.append(stands(loop))
    gone = StoreUnavailableError("gone")
    errors = [gone, gone]

    async def step() -> None:
        if errors:
            raise errors.pop()

    await loop.until_done(step)

    assert looked == [("StoreUnavailableError: gone", gone, True, True)] * 2
    assert stands(loop) == ("", None, False, False)
    told = [each for each in seen if isinstance(each, Waiting)]
    assert told == [Waiting("counter", "relay", "StoreUnavailableError: gone", pause) for pause in clock.slept]


def stands(loop: RetryLoop) -> tuple[str, Exception | None, bool, bool]:
    return loop.problem, loop.error, loop.is_troubled, loop.waiting


async def test_each_trouble_is_told_for_itself_with_how_long_it_took() -> None:
    clock, seen = StillClock(), list[Signal]()
    loop = loop_of(clock, seen)
    tries = [False, False, True, False, True]

    async def step() -> None:
        if not tries.pop(0):
            raise StoreUnavailableError("gone")

    await loop.until_done(step)
    await clock.sleep(1_000.0)
    await loop.until_done(step)

    first, second, _, third = clock.slept
    assert third <= 0.1
    resumed = [each for each in seen if isinstance(each, Resumed)]
    assert {(each.service, each.component) for each in resumed} == {("counter", "relay")}
    assert [each.after_s for each in resumed] == pytest.approx([first + second, third])


async def test_who_is_cancelled_while_it_waits_does_not_wait_any_more() -> None:
    clock = StillClock()
    loop = loop_of(clock, [])

    def cancel() -> None:
        raise asyncio.CancelledError

    clock.on_sleep = cancel

    async def step() -> None:
        raise StoreUnavailableError("gone")

    with pytest.raises(asyncio.CancelledError):
        await loop.until_done(step)
    assert not loop.waiting


async def test_a_loop_goes_on_after_what_failed_and_after_what_went_well() -> None:
    clock, seen = StillClock(), list[Signal]()
    fails = [True, True, False, False, True]

    async def step() -> None:
        if not fails:
            raise asyncio.CancelledError
        if fails.pop(0):
            raise StoreUnavailableError("gone")

    with pytest.raises(asyncio.CancelledError):
        await loop_of(clock, seen).forever(step)

    assert clock.slept == [0.05, 0.1, 0.05]
    assert [type(signal) for signal in seen] == [Waiting, Waiting, Resumed, Waiting]


async def test_a_loop_ends_when_it_is_cancelled() -> None:
    async def step() -> None:
        await asyncio.sleep(0)

    task = asyncio.ensure_future(loop_of(StillClock(), []).forever(step))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


WORDS = "no room"


def streak_of(clock: StillClock, seen: list[Signal]) -> FailureStreak:
    return FailureStreak(
        "orders", "parking billing", Backoff(1_000, 4_000), Signals([seen.append]), clock, Drawn(0.0)
    )


def test_without_a_failure_nobody_waits_and_nothing_is_told() -> None:
    seen = list[Signal]()
    streak = streak_of(StillClock(), seen)
    assert (streak.problem, streak.wait_s) == ("", 0.0)
    streak.succeeded()
    assert (streak.problem, streak.wait_s, seen) == ("", 0.0, [])


def test_each_failure_is_told_and_followed_by_a_longer_wait() -> None:
    clock, seen = StillClock(), list[Signal]()
    streak = streak_of(clock, seen)
    waits: list[float] = []
    for _ in range(4):
        streak.failed(WORDS)
        waits.append(streak.wait_s)
        clock.now += streak.wait_s
        assert streak.wait_s == 0.0
    assert streak.problem == WORDS
    assert waits == [0.5, 1.0, 2.0, 2.0]
    assert seen == [Waiting("orders", "parking billing", WORDS, wait) for wait in waits]


def test_it_waits_for_what_is_left_and_no_less_than_nothing() -> None:
    clock = StillClock()
    streak = streak_of(clock, [])
    streak.failed(WORDS)
    clock.now += 0.2
    assert streak.wait_s == pytest.approx(0.3)
    clock.now += 9
    assert streak.wait_s == 0.0


def test_after_a_success_nobody_waits() -> None:
    streak = streak_of(StillClock(), [])
    streak.failed(WORDS)
    streak.succeeded()
    assert streak.wait_s == 0.0


def test_a_success_ends_the_streak_and_the_next_one_begins_anew() -> None:
    clock, seen = StillClock(), list[Signal]()
    streak = streak_of(clock, seen)
    for pause in (2.0, 3.0):
        for _ in range(2):
            streak.failed(WORDS)
            clock.now += pause / 2
        streak.succeeded()
        assert (streak.problem, streak.wait_s) == ("", 0.0)
        assert seen[-1] == Resumed("orders", "parking billing", pause)
    assert [each.retry_in_s for each in seen if isinstance(each, Waiting)] == [0.5, 1.0] * 2


class Dependency:
    """Something that can be away. Each call notes how many were under way with it."""

    def __init__(self) -> None:
        self.away = False
        self.under_way = 0
        self.calls: list[tuple[str, int]] = []

    async def ask(self, name: str) -> str:
        self.under_way += 1
        self.calls.append((name, self.under_way))
        try:
            await asyncio.sleep(0)
            if self.away:
                raise GatewayUnavailableError("gone")
            if name == "bad":
                raise LookupError(name)
            return f"answer to {name}"
        finally:
            self.under_way -= 1


async def test_closed_the_circuit_breaker_lets_all_calls_go_side_by_side() -> None:
    seen, dependency = list[Signal](), Dependency()
    breaker = CallBreaker(loop_of(StillClock(), seen))

    answers = await asyncio.gather(*(breaker.call(partial(dependency.ask, name)) for name in "abc"))

    assert answers == ["answer to a", "answer to b", "answer to c"]
    assert dependency.calls == [("a", 1), ("b", 2), ("c", 3)]
    assert seen == []


async def test_half_open_the_circuit_breaker_tries_one_call_alone_until_it_closes_and_all_go() -> None:
    clock, seen, dependency = StillClock(), list[Signal](), Dependency()
    breaker = CallBreaker(loop_of(clock, seen))
    dependency.away = True

    def heal() -> None:
        dependency.away = len(clock.slept) < 3

    clock.on_sleep = heal
    answers = await asyncio.gather(*(breaker.call(partial(dependency.ask, name)) for name in "abc"))

    assert answers == ["answer to a", "answer to b", "answer to c"]
    side_by_side, alone, together = dependency.calls[:3], dependency.calls[3:-2], dependency.calls[-2:]
    assert [count for _, count in side_by_side] == [1, 2, 3]
    assert {name for name, _ in alone} == {"a"}
    assert {count for _, count in alone} == {1}
    assert [name for name, _ in together] == ["b", "c"]
    assert clock.slept == [0.05, 0.1, 0.2]
    assert [type(signal) for signal in seen] == [Waiting, Waiting, Waiting, Resumed]


async def test_an_error_that_is_no_infrastructure_is_the_callers_and_closes_the_circuit_breaker() -> None:
    clock, seen, dependency = StillClock(), list[Signal](), Dependency()
    breaker = CallBreaker(loop_of(clock, seen))
    with pytest.raises(LookupError):
        await breaker.call(partial(dependency.ask, "bad"))
    assert seen == []
    dependency.away = True
    clock.on_sleep = lambda: setattr(dependency, "away", False)

    with pytest.raises(LookupError):
        await breaker.call(partial(dependency.ask, "bad"))

    assert [type(signal) for signal in seen] == [Waiting, Resumed]
    assert await breaker.call(partial(dependency.ask, "a")) == "answer to a"


async def test_who_comes_while_the_circuit_breaker_is_open_waits_and_takes_over_from_a_probe_that_gives_up() -> None:
    clock, dependency = StillClock(), Dependency()
    breaker = CallBreaker(loop_of(clock, []))
    clock.on_sleep = lambda: dependency.calls.append(("sleep", 0))
    dependency.away = True
    first = asyncio.ensure_future(breaker.call(partial(dependency.ask, "first")))
    await eventually(lambda: len(clock.slept) > 2)
    second = asyncio.ensure_future(breaker.call(partial(dependency.ask, "second")))
    before = len(clock.slept)
    await eventually(lambda: len(clock.slept) > before + 2)
    assert {name for name, _ in dependency.calls} == {"first", "sleep"}

    first.cancel()
    mark = len(dependency.calls)
    await eventually(lambda: len(dependency.calls) > mark + 4)
    since = [name for name, _ in dependency.calls[mark:]]
    assert since[:4] == ["second", "sleep", "second", "sleep"]
    dependency.away = False

    assert await second == "answer to second"
