"""When the retrier tries, and how much at a time."""

from __future__ import annotations

import pytest

from orderflow.messaging.retrier import Retrier
from orderflow.messaging.signals import BatchCommitted
from tests.unit.messaging.still_clock import StillClock
from tests.unit.messaging.toy import Counted
from tests.unit.messaging.world import World


async def parked_world(keys: int) -> tuple[World, Retrier, StillClock]:
    """So many keys whose heads are due and fail again, beside more that do not fail."""
    world, clock = World(attempts_max=9), StillClock()
    await world.admit(*(Counted(name=f"k{n}", amount=-1 if n < keys else 1) for n in range(3 * keys)))
    world.steps.clear()
    world.seen.clear()
    return world, Retrier("counter", world.inlet, world.store, world.signals, clock), clock


@pytest.mark.parametrize(("keys", "pause_s"), [(1, 0.025), (10, 0.25), (40, 0.5)])
async def test_what_fails_again_is_gathered_in_proportion_for_half_a_second_at_most(
    keys: int, pause_s: float
) -> None:
    world, retrier, clock = await parked_world(keys)

    for _ in range(2):
        retrier.poke(0)
        await retrier.step()

    assert clock.slept == pytest.approx([pause_s])
    assert [len(batch.handled) for batch in world.signals_of(BatchCommitted)] == [keys, keys]


async def test_when_more_is_due_than_one_step_takes_the_next_follows_at_once() -> None:
    world, retrier, clock = await parked_world(130)

    retrier.poke(0)
    await retrier.step()
    await retrier.step()

    assert clock.slept == []
    assert [len(batch.handled) for batch in world.signals_of(BatchCommitted)] == [100, 100]


async def test_a_look_that_finds_nothing_due_is_one_query() -> None:
    world, retrier, _ = await parked_world(0)

    retrier.poke(0)
    await retrier.step()

    assert world.steps == ["due_keys"]
