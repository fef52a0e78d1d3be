"""How a loop bears what is away."""

from __future__ import annotations

import asyncio

import pytest

from orderflow.messaging.failures import InfrastructureError
from orderflow.messaging.patience import Patience
from orderflow.messaging.retry import Backoff
from orderflow.messaging.side_effects import GatewayUnavailableError
from orderflow.messaging.signals import Resumed, Signal, Signals, TaskFailed, TopicReplaced, Waiting
from orderflow.messaging.store import StoreUnavailableError
from orderflow.messaging.transport import TopicReplacedError, TransportUnavailableError
from tests.support.chance import Drawn
from tests.unit.messaging.still_clock import StillClock


def patience_of(clock: StillClock, seen: list[Signal]) -> Patience:
    return Patience("counter", "relay", Backoff(100, 5_000), Signals([seen.append]), clock, Drawn(0.0))


async def test_what_is_away_is_tried_again_later_and_later_and_its_return_is_told() -> None:
    clock, seen = StillClock(), list[Signal]()
    patience = patience_of(clock, seen)
    calls = 0

    async def step() -> None:
        nonlocal calls
        calls += 1
        if calls <= 9:
            raise StoreUnavailableError("gone")

    await patience.until_done(step)

    assert calls == 10
    assert clock.slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5, 2.5]
    kinds = [type(signal) for signal in seen]
    assert kinds == [Waiting] * 9 + [Resumed]
    assert isinstance(seen[-1], Resumed)
    assert seen[-1].after_s == pytest.approx(sum(clock.slept))
    assert patience.problem == ""


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

    await patience_of(StillClock(), seen).until_done(step)

    assert [type(signal) for signal in seen] == [Waiting, Resumed]


async def test_of_what_goes_well_nothing_is_told() -> None:
    seen = list[Signal]()

    async def step() -> None:
        pass

    await patience_of(StillClock(), seen).until_done(step)

    assert seen == []


async def test_a_topic_that_was_replaced_is_told_apart_from_what_passes() -> None:
    seen = list[Signal]()
    errors = [TopicReplacedError("order-events", "it was deleted and made again")]

    async def step() -> None:
        if errors:
            raise errors.pop()

    await patience_of(StillClock(), seen).until_done(step)

    assert seen[0] == TopicReplaced("counter", "relay", "order-events", "it was deleted and made again")
    assert [type(signal) for signal in seen[1:]] == [Waiting, Resumed]


async def test_a_defect_is_told_and_does_not_stop_the_loop() -> None:
    clock, seen = StillClock(), list[Signal]()
    errors = [defect := KeyError("defect")]

    async def step() -> None:
        if errors:
            raise errors.pop()

    await patience_of(clock, seen).until_done(step)

    assert seen[0] == TaskFailed("counter", "relay", defect)
    assert [type(signal) for signal in seen[1:]] == [Waiting, Resumed]


async def test_what_is_wrong_can_be_seen_while_it_waits() -> None:
    clock, seen = StillClock(), list[Signal]()
    patience = patience_of(clock, seen)
    assert patience.component == "relay"
    assert stands(patience) == ("", None, False, False)
    looked: list[tuple[str, Exception | None, bool, bool]] = []
    clock.on_sleep = lambda: looked.append(stands(patience))
    gone = StoreUnavailableError("gone")
    errors = [gone, gone]

    async def step() -> None:
        if errors:
            raise errors.pop()

    await patience.until_done(step)

    assert looked == [("StoreUnavailableError: gone", gone, True, True)] * 2
    assert stands(patience) == ("", None, False, False)
    told = [each for each in seen if isinstance(each, Waiting)]
    assert told == [Waiting("counter", "relay", "StoreUnavailableError: gone", pause) for pause in clock.slept]


def stands(patience: Patience) -> tuple[str, Exception | None, bool, bool]:
    return patience.problem, patience.error, patience.is_troubled, patience.waiting


async def test_each_trouble_is_told_for_itself_with_how_long_it_took() -> None:
    clock, seen = StillClock(), list[Signal]()
    patience = patience_of(clock, seen)
    tries = [False, False, True, False, True]

    async def step() -> None:
        if not tries.pop(0):
            raise StoreUnavailableError("gone")

    await patience.until_done(step)
    await clock.sleep(1_000.0)
    await patience.until_done(step)

    first, second, _, third = clock.slept
    assert third <= 0.1
    resumed = [each for each in seen if isinstance(each, Resumed)]
    assert {(each.service, each.component) for each in resumed} == {("counter", "relay")}
    assert [each.after_s for each in resumed] == pytest.approx([first + second, third])


async def test_who_is_cancelled_while_it_waits_does_not_wait_any_more() -> None:
    clock = StillClock()
    patience = patience_of(clock, [])

    def cancel() -> None:
        raise asyncio.CancelledError

    clock.on_sleep = cancel

    async def step() -> None:
        raise StoreUnavailableError("gone")

    with pytest.raises(asyncio.CancelledError):
        await patience.until_done(step)
    assert not patience.waiting


async def test_a_loop_ends_when_it_is_cancelled() -> None:
    async def step() -> None:
        await asyncio.sleep(0)

    task = asyncio.ensure_future(patience_of(StillClock(), []).forever(step))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
