"""When the retrier tries, and how much at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from orderflow.core.failures import InfrastructureError
from orderflow.core.processor import Processor
from orderflow.core.retries import Retrier
from orderflow.core.store import Plan, Snapshot
from orderflow.core.telemetry import BatchCommitted, KeyReopened, Outcome
from orderflow.core.testing.store import MemoryStore
from orderflow.core.testing.transaction import MemoryTransaction
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Counted, Opened
from tests.unit.core.world import World

COUNTED = "toy.Counted.v1"


async def parked_world(keys: int) -> tuple[World, Retrier, StillClock]:
    """So many keys whose heads are due and fail again, beside more that do not fail."""
    world, clock = World(attempts_max=9), StillClock()
    await world.admit(*(Counted(name=f"k{n}", amount=-1 if n < keys else 1) for n in range(3 * keys)))
    world.steps.clear()
    world.seen.clear()
    return world, Retrier("counter", world.processor, world.store, world.signals, clock), clock


@pytest.mark.parametrize(("keys", "took_s", "pause_s"), [(1, 0.006, 0.024), (10, 0.05, 0.2), (40, 0.4, 0.5)])
async def test_what_fails_again_is_gathered_in_proportion_for_half_a_second_at_most(
    keys: int, took_s: float, pause_s: float
) -> None:
    world, retrier, clock = await parked_world(keys)
    gate = world.database.gate

    async def slow(step: str) -> None:
        clock.now += took_s if step == "commit" else 0.0
        await gate(step)

    world.database.gate = slow
    for _ in range(2):
        retrier.schedule(0)
        await retrier.step()

    assert clock.slept == pytest.approx([pause_s])
    assert [len(batch.handled) for batch in world.signals_of(BatchCommitted)] == [keys, keys]


async def test_when_more_is_due_than_one_step_takes_the_next_follows_at_once() -> None:
    world, retrier, clock = await parked_world(130)

    retrier.schedule(0)
    await retrier.step()
    await retrier.step()

    assert clock.slept == []
    assert [len(batch.handled) for batch in world.signals_of(BatchCommitted)] == [100, 100]


async def test_a_look_that_finds_nothing_due_is_one_query() -> None:
    world, retrier, _ = await parked_world(0)

    retrier.schedule(0)
    await retrier.step()

    assert world.steps == ["due_keys"]


async def mended(world: World, *names: str) -> Retrier:
    """A retrier of a world in which an event of each key is parked, and would not fail."""
    return await parked(world, *(Counted(name=name, amount=1) for name in names))


async def parked(world: World, *events: Counted | Opened) -> Retrier:
    await world.processor.hold("counter", [world.read(event) for event in events])
    world.seen.clear()
    return Retrier("counter", world.processor, world.store, world.signals, StillClock())


def sizes(world: World) -> list[int]:
    return [len(batch.handled) for batch in world.signals_of(BatchCommitted)]


async def test_after_a_full_step_the_rest_is_tried_at_once_although_nothing_fails_again() -> None:
    world = World()
    retrier = await mended(world, *(f"k{n}" for n in range(130)))

    retrier.schedule(0)
    async with asyncio.timeout(30):
        await retrier.step()
        await retrier.step()

    assert sizes(world) == [100, 30]


async def test_nothing_is_looked_for_until_something_may_be_due() -> None:
    world = World()
    retrier = await mended(world, "a")
    retrier.schedule(0)
    await retrier.step()
    world.steps.clear()

    step = asyncio.ensure_future(retrier.step())
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.steps == []
    retrier.schedule(0)
    await step

    assert world.steps == ["due_keys"]


async def test_it_says_whether_it_has_worked() -> None:
    world = World()
    retrier = await mended(world, "a")
    assert retrier.worked is False

    retrier.schedule(0)
    await retrier.step()

    assert retrier.worked is True


async def test_two_heads_are_tried_together() -> None:
    world = World()
    retrier = await mended(world, "a", "b")

    retrier.schedule(0)
    await retrier.step()

    assert sizes(world) == [2]


async def test_a_key_of_which_nothing_is_left_is_not_looked_at_again() -> None:
    world = World()
    retrier = await mended(world, "a")
    world.steps.clear()

    retrier.schedule(0)
    await retrier.step()

    assert world.parked() == []
    assert world.steps.count("open") == 3, "its head, all that is parked of it, and that again under the locks"


async def test_a_head_that_finds_something_away_keeps_no_other_from_its_turn() -> None:
    world = World()
    retrier = await mended(world, "a", "b")
    world.moods.away.add("b")

    retrier.schedule(0)
    with pytest.raises(InfrastructureError):
        await retrier.step()

    assert (world.total("a"), world.total("b")) == (1, None)


async def outage_of_parked(world: World, *events: Counted | Opened) -> Retrier:
    """An outage of Counted is judged; these are parked, and nobody probes with what failed."""
    world.moods.broken.add(Counted.TYPE)
    await world.admit(*(Counted(name=f"out{n}", amount=1) for n in range(10)))
    return await parked(world, *events)


async def test_why_a_head_is_left_alone_is_told_of_its_type_only() -> None:
    world = World(away_ms=60_000)
    retrier = await outage_of_parked(world)

    assert retrier.excuse(COUNTED) == world.processor.breakers("counter").problem != ""
    assert retrier.excuse("toy.Opened.v1") == ""


async def test_in_an_outage_that_nobody_probes_one_parked_head_is_tried_beside_those_of_other_types(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orderflow.core.circuit_breaker.NEGLECTED_S", 0.0)
    world = World(away_ms=60_000, clock=StillClock())
    heads = [Counted(name=f"k{n}", amount=1) for n in range(3)]
    retrier = await outage_of_parked(world, *heads, Opened(name="k0"), Opened(name="x"), Opened(name="y"))

    retrier.schedule(0)
    await retrier.step()

    assert world.moods.handled == ["opened", "opened"]
    handled = [each for batch in world.signals_of(BatchCommitted) for each in batch.handled]
    assert sorted((each.key, each.outcome) for each in handled) == [
        ("k0", Outcome.DEFERRED),
        ("k0", Outcome.HELD),
        ("x", Outcome.HANDLED),
        ("y", Outcome.HANDLED),
    ]


async def test_a_probe_that_succeeds_drains_its_key_however_much_waits_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.core.circuit_breaker.NEGLECTED_S", 0.0)
    monkeypatch.setattr("orderflow.core.retries.DRAIN_MAX", 3)
    world = World(away_ms=60_000, clock=StillClock())
    retrier = await outage_of_parked(world, *(Counted(name="k", amount=n) for n in range(1, 9)))
    world.moods.broken.clear()

    retrier.schedule(0)
    await retrier.step()

    assert world.moods.handled == [f"k{n:+}" for n in range(1, 9)]


def late(world: World, meanwhile: Callable[[], Awaitable[None]]) -> Retrier:
    """A retrier of the world's database that gets its locks only after `meanwhile`."""
    store = MemoryStore(world.database)
    begin = store.transaction

    def transaction() -> MemoryTransaction:
        made = begin()
        opened = made.open

        async def waiting(plan: Plan) -> Snapshot:
            if plan.locks:
                await meanwhile()
            return await opened(plan)

        made.open = waiting  # type: ignore[method-assign]
        return made

    store.transaction = transaction  # type: ignore[method-assign]
    processor = Processor(world.service, store, world.policy, world.signals, world.clock, world.committed.append)
    return Retrier("counter", processor, store, world.signals, StillClock())


@pytest.mark.parametrize(("keys", "attempts"), [(1, [2]), (2, [1, 1])], ids=["poison", "in doubt"])
async def test_what_another_process_has_tried_meanwhile_is_not_tried_again(keys: int, attempts: list[int]) -> None:
    world = World(attempts_max=9, retry_ms=60_000, away_ms=60_000, clock=(clock := StillClock()))
    for n in range(keys):
        await world.admit(Counted(name=f"k{n}", amount=-1), Opened(name="other"))
    clock.now += 60
    world.seen.clear()
    other = Retrier("counter", world.processor, world.store, world.signals, StillClock())

    async def meanwhile() -> None:
        other.schedule(0)
        await other.step()

    slow = late(world, meanwhile)
    slow.schedule(0)
    await slow.step()

    assert [event.attempts for event in world.parked()] == attempts
    assert sizes(world) == [keys]


async def test_what_a_retry_has_written_is_handed_on_with_how_long_it_took() -> None:
    world = World(clock=StillClock())
    retrier = await mended(world, "a")
    [event] = world.parked()
    world.committed.clear()

    retrier.schedule(0)
    await retrier.step()

    assert [changes.released for changes in world.committed] == [[event.position]]
    assert [batch.duration_s for batch in world.signals_of(BatchCommitted)] == [0.0]


async def is_looking(world: World, retrier: Retrier) -> bool:
    """Whether it goes on by itself now. What it did before is forgotten."""
    world.steps.clear()
    step = asyncio.ensure_future(retrier.step())
    for _ in range(20):
        await asyncio.sleep(0)
    step.cancel()
    return world.steps != []


@pytest.mark.parametrize(("attempts", "looks"), [(1, True), (0, False)])
async def test_it_comes_back_for_what_is_due_again_and_not_for_what_is_held_behind_it(
    attempts: int, looks: bool
) -> None:
    world = World()
    retrier = await mended(world, "a")
    retrier.schedule_parked([replace(world.parked()[0], attempts=attempts)])

    assert await is_looking(world, retrier) is looks


async def test_what_fails_again_is_looked_for_when_it_is_due() -> None:
    world = World(retry_ms=20)
    world.moods.broken.add("a")
    await world.admit(Counted(name="a", amount=1))
    retrier = Retrier("counter", world.processor, world.store, world.signals, world.clock)
    retrier.schedule(20)

    async with asyncio.timeout(30):
        while len(world.signals_of(BatchCommitted)) < 3:
            await retrier.step()


async def test_a_key_that_flows_again_is_told_by_service_consumer_and_number() -> None:
    world = World()
    await world.processor.hold("another", [world.read(Counted(name="k", amount=n)) for n in (1, 2)])
    retrier = Retrier("another", world.processor, world.store, world.signals, StillClock())

    retrier.schedule(0)
    await retrier.step()

    assert world.signals_of(KeyReopened) == [KeyReopened("counter", "another", "k", 2)]


async def test_in_an_outage_that_others_probe_what_comes_to_the_front_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.core.retries.DRAIN_MAX", 1)
    world = World(away_ms=60_000, clock=StillClock())
    retrier = await outage_of_parked(world, Opened(name="k"), Counted(name="k", amount=1))

    retrier.schedule(0)
    await retrier.step()

    assert sizes(world) == [1]
    assert world.moods.handled == ["opened"]


async def test_how_often_another_process_has_tried_it_meanwhile_is_not_forgotten() -> None:
    world = World(attempts_max=9)
    await world.admit(Counted(name="k", amount=-1))
    other = Retrier("counter", world.processor, world.store, world.signals, StillClock())
    times = 1

    async def meanwhile() -> None:
        nonlocal times
        if times:
            times -= 1
            other.schedule(0)
            await other.step()

    slow = late(world, meanwhile)
    slow.schedule(0)
    await slow.step()

    assert [event.attempts for event in world.parked()] == [3]


async def test_what_somebody_has_taken_away_meanwhile_is_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.core.retries.DRAIN_MAX", 1)
    world = World()
    await mended(world, "k")
    await world.admit(Counted(name="k", amount=5))

    async def meanwhile() -> None:
        parked = world.database.state.parked
        if len(parked) == 2:
            del parked[next(iter(parked))]

    slow = late(world, meanwhile)
    slow.schedule(0)
    await slow.step()

    assert world.total("k") == 5
