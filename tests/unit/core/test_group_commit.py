"""Group commit: together when many come at once, alone and at once when one comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orderflow.core.side_effects import GroupCommitQueue, QueueFullError
from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import Outcome
from orderflow.core.timing import Pacer
from tests.unit.core.still_clock import StillClock
from tests.unit.core.world import World, command


def batcher_of(world: World, clock: StillClock, queue_max: int = 100) -> GroupCommitQueue:
    return GroupCommitQueue("counter", world.processor, Pacer(clock, 10.0, 50), 50, queue_max)


@asynccontextmanager
async def stepping(batcher: GroupCommitQueue) -> AsyncIterator[None]:
    async def forever() -> None:
        while True:
            try:
                await batcher.step()
            except StoreUnavailableError:
                continue

    task = asyncio.ensure_future(forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_after_the_other_nothing_waits() -> None:
    world, clock = World(), StillClock()
    batcher = batcher_of(world, clock)

    async with stepping(batcher):
        results = [await batcher.submit(command(f"k{n}")) for n in range(20)]

    assert {result.outcome for result in results} == {Outcome.HANDLED}
    assert clock.slept == []
    assert world.steps.count("commit") == 20


async def test_those_that_come_together_go_in_together() -> None:
    world, clock = World(), StillClock()
    batcher = batcher_of(world, clock)

    async with stepping(batcher):
        results = await asyncio.gather(*(batcher.submit(command(f"k{n}", n)) for n in range(100)))

    assert [result.incoming.key for result in results] == [f"k{n}" for n in range(100)]
    assert world.steps.count("commit") <= 4


async def test_a_full_queue_refuses_at_once() -> None:
    batcher = batcher_of(World(), StillClock(), queue_max=3)
    waiting = [asyncio.ensure_future(batcher.submit(command(f"k{n}"))) for n in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(QueueFullError):
        await batcher.submit(command("one too many"))

    batcher.close()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_those_who_wait_are_told_when_the_database_is_away() -> None:
    world = World()
    batcher = batcher_of(world, StillClock())
    world.lose("commit")

    async with stepping(batcher):
        with pytest.raises(StoreUnavailableError):
            await batcher.submit(command("k"))
        assert (await batcher.submit(command("k"))).outcome is Outcome.HANDLED


async def test_a_caller_that_went_away_is_not_carried_in() -> None:
    world = World()
    batcher = batcher_of(world, StillClock())
    gone = asyncio.ensure_future(batcher.submit(command("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)

    async with stepping(batcher):
        await batcher.submit(command("k"))

    assert world.total("gone") is None


async def test_stopping_tells_everybody_who_waits() -> None:
    batcher = batcher_of(World(), StillClock())
    waiting = asyncio.ensure_future(batcher.submit(command("k")))
    await asyncio.sleep(0)

    batcher.close()

    with pytest.raises(StoreUnavailableError, match="stopping"):
        await waiting


async def test_idle_means_that_nothing_waits_and_nothing_is_under_way() -> None:
    world = World()
    batcher = batcher_of(world, StillClock())

    async with stepping(batcher):
        submitted = asyncio.ensure_future(batcher.submit(command("k")))
        await asyncio.sleep(0)
        await batcher.idle()
        assert world.total("k") == 1
        await submitted


async def test_a_busy_pacer_rests_as_long_as_the_last_batch_took_and_no_longer_than_its_bound() -> None:
    clock = StillClock()
    pacer = Pacer(clock, 20.0, 10_000)

    await pacer.gather()
    for took_s in (0.001, 0.004, 0.015, 5.0):
        pacer.started(3)
        clock.now += took_s
        pacer.ended()
        await pacer.gather()

    assert clock.slept == pytest.approx([0.004, 0.015, 0.020]), "a rest that is hardly one is left out"


async def test_time_that_passes_anyway_is_rest_enough() -> None:
    clock = StillClock()
    pacer = Pacer(clock, 20.0, 10_000)
    pacer.started(3)
    clock.now += 0.010
    pacer.ended()
    clock.now += 0.009

    await pacer.gather()

    assert clock.slept == []


async def test_what_is_of_no_hurry_rests_several_times_as_long() -> None:
    clock = StillClock()
    pacer = Pacer(clock, 500.0, 100, rest=4.0)
    pacer.started(3)
    clock.now += 0.010
    pacer.ended()

    await pacer.gather()

    assert clock.slept == pytest.approx([0.040])


async def test_after_a_full_batch_there_is_nothing_to_gather_for() -> None:
    clock = StillClock()
    pacer = Pacer(clock, 20.0, 50)
    pacer.started(50)
    clock.now += 0.010
    pacer.ended()

    await pacer.gather()

    assert clock.slept == []


async def test_what_is_of_no_hurry_is_gathered_for_a_least_time_however_little_it_is() -> None:
    clock = StillClock()
    pacer = Pacer(clock, 20.0, 500, least_ms=250.0)

    await pacer.gather()
    for size in (1, 400, 500):
        pacer.started(size)
        clock.now += 0.100
        pacer.ended()
        await pacer.gather()

    assert clock.slept == pytest.approx([0.15, 0.15])
