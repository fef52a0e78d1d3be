"""What an outage does to a batch: nothing is written for it, and everything else goes on."""

from __future__ import annotations

import asyncio

import pytest

from orderflow.core.envelopes import from_record
from orderflow.core.failures import InfrastructureError
from orderflow.core.processor import Processor
from orderflow.core.retries import Retrier
from orderflow.core.telemetry import BatchCommitted, BatchSplit, OutageJudged, OutageOver, Outcome
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Counted, Opened
from tests.unit.core.world import World, command, outcomes, poisoned

COUNTED = Counted.TYPE


async def broken_by(world: World, count: int = 20) -> None:
    """An outage of Counted, judged."""
    world.moods.broken.add(COUNTED)
    results = await world.admit(*(Counted(name=f"k{n}", amount=1) for n in range(count)))
    assert set(outcomes(results)) == {Outcome.DEFERRED}


async def retry(world: World) -> None:
    retrier = Retrier("counter", world.processor, world.store, world.signals, world.clock)
    retrier.schedule(0)
    await retrier.step()


async def test_a_batch_in_outage_writes_nothing() -> None:
    world = World()

    await broken_by(world)

    assert world.parked() == []
    assert world.states() == {}
    assert world.outbox() == []
    assert [(signal.failing, signal.tried) for signal in world.signals_of(OutageJudged)] == [(20, 20)]


async def test_who_judges_an_outage_is_named() -> None:
    world = World()
    world.moods.broken.add(COUNTED)
    batch = [world.read(Counted(name=f"k{n}", amount=1)) for n in range(20)]

    await world.processor.admit("another", batch)

    for kind in (OutageJudged, BatchCommitted):
        assert [(each.service, each.consumer) for each in world.signals_of(kind)] == [("counter", "another")]


async def test_events_of_other_types_and_other_failures_in_the_same_batch_take_their_way() -> None:
    world = World()
    world.moods.broken.add(COUNTED)
    poison = from_record(poisoned(900, key=b"poison", value=b"?"), world.service.catalogue)
    batch = [world.read(Counted(name=f"k{n}", amount=1)) for n in range(20)]

    results = await world.admit(Opened(name="other"), *batch, poison, Opened(name="another"))

    assert outcomes(results) == [Outcome.HANDLED, *[Outcome.DEFERRED] * 20, Outcome.DEAD, Outcome.HANDLED]
    assert [event.key for event in world.parked()] == ["poison"]


async def test_what_succeeds_of_the_type_in_outage_is_written() -> None:
    world = World(away_ms=60_000)
    bad = [Counted(name=f"bad{n}", amount=-1) for n in range(20)]
    fine = [Counted(name=f"fine{n}", amount=1) for n in range(10)]

    results = await world.admit(*bad, *fine)

    assert outcomes(results) == [Outcome.DEFERRED] * 20 + [Outcome.HANDLED] * 10
    assert world.total("fine3") == 1


async def test_later_events_of_a_deferred_key_are_deferred_whatever_their_type() -> None:
    world = World(away_ms=60_000)
    world.moods.broken.add(COUNTED)
    failing = [Counted(name=f"k{n}", amount=1) for n in range(20)]

    results = await world.admit(*failing, Opened(name="k7"), Opened(name="other"))

    assert outcomes(results[-2:]) == [Outcome.DEFERRED, Outcome.HANDLED]
    assert outcomes(await world.admit(Counted(name="new", amount=1), Opened(name="new"), Opened(name="newer"))) == [
        Outcome.DEFERRED,
        Outcome.DEFERRED,
        Outcome.HANDLED,
    ]


@pytest.mark.parametrize("poison", [5, 150])
async def test_a_share_of_poison_in_a_batch_of_500_is_parked(poison: int) -> None:
    world = World()

    results = await world.admit(*(Counted(name=f"k{n}", amount=-1 if n < poison else 1) for n in range(500)))

    assert outcomes(results) == [Outcome.PARKED] * poison + [Outcome.HANDLED] * (500 - poison)


async def test_of_the_keys_that_failed_one_is_tried_and_while_they_succeed_twice_as_many_then_all() -> None:
    clock = StillClock()
    world = World(away_ms=20, clock=clock)
    await broken_by(world, 30)
    watch = world.processor.breakers("counter")
    clock.now += watch.open["toy.Counted.v1"].probe_in_s
    batch = [Counted(name=f"k{n}", amount=1) for n in range(30)]

    still = await world.admit(*batch)
    assert set(outcomes(still)) == {Outcome.DEFERRED}
    assert len([result for result in still if result.failure is not None]) == 1

    world.moods.broken.clear()
    handled = []
    while batch:
        clock.now += watch.open["toy.Counted.v1"].probe_in_s if watch.paused else 0.0
        results = await world.admit(*batch)
        handled.append(outcomes(results).count(Outcome.HANDLED))
        batch = [each for each, result in zip(batch, results, strict=True) if result.outcome is Outcome.DEFERRED]

    assert handled == [1, 2, 4, 8, 15]
    assert len(world.signals_of(OutageOver)) == 1


async def test_a_key_that_has_not_failed_is_tried_at_once_whatever_its_type_is_judged() -> None:
    world = World(away_ms=60_000)
    await broken_by(world)
    world.moods.broken = {f"k{n}" for n in range(20)}

    results = await world.admit(
        Counted(name="new", amount=1), Counted(name="k3", amount=1), Counted(name="bad", amount=-1)
    )

    assert outcomes(results) == [Outcome.HANDLED, Outcome.DEFERRED, Outcome.DEFERRED]
    assert world.parked() == []
    assert world.processor.breakers("counter").paused == {"toy.Counted.v1"}


async def test_what_the_model_rules_out_is_dead_at_once_and_no_outage_however_much_there_is() -> None:
    world = World()

    results = await world.admit(*(Counted(name=f"k{n}", amount=-13) for n in range(60)))
    results += await world.admit(*(Counted(name=f"fine{n}", amount=1) for n in range(12)))

    assert outcomes(results) == [Outcome.DEAD] * 60 + [Outcome.HANDLED] * 12
    assert {event.attempts for event in world.parked()} == {1}
    assert world.signals_of(OutageJudged) == []
    assert len(world.outbox("counts.DLT")) == 60


async def test_what_the_model_rules_out_is_dead_in_an_outage_of_its_type_too() -> None:
    world = World(away_ms=60_000)
    await broken_by(world)

    results = await world.admit(Counted(name="never", amount=-13))

    assert outcomes(results) == [Outcome.DEAD]
    assert world.processor.breakers("counter").paused == {"toy.Counted.v1"}


async def test_two_that_fail_alike_use_up_no_attempt_until_another_of_the_type_succeeds() -> None:
    world = World(attempts_max=3)
    world.moods.broken |= {"a", "b"}
    await world.admit(Counted(name="a", amount=1), Counted(name="b", amount=1))
    for _ in range(10):
        await retry(world)
    in_doubt = {event.key: (event.attempts, event.state.name) for event in world.parked()}

    await world.admit(Counted(name="fine", amount=1))
    for _ in range(3):
        await retry(world)

    assert in_doubt == {"a": (1, "PARKED"), "b": (1, "PARKED")}
    assert {event.key: (event.attempts, event.state.name) for event in world.parked()} == {
        "a": (3, "DEAD"),
        "b": (3, "DEAD"),
    }
    assert world.flow() == ["Parked a", "Parked b", "Dead a", "Dead b"]


async def test_many_parked_heads_that_fail_alike_are_an_outage_too_and_use_up_no_attempt() -> None:
    world = World(attempts_max=3)
    world.moods.broken |= {f"k{n}" for n in range(20)}
    for n in range(20):
        await world.admit(Counted(name=f"k{n}", amount=1), Counted(name=f"fine{n}", amount=1))
    restarted = Processor(world.service, world.store, world.policy, world.signals, world.clock)

    for _ in range(5):
        retrier = Retrier("counter", restarted, world.store, world.signals, world.clock)
        retrier.schedule(0)
        await retrier.step()

    assert {event.attempts for event in world.parked()} == {1}
    assert restarted.breakers("counter").paused == {"toy.Counted.v1"}


async def test_data_that_the_database_refuses_of_many_keys_is_an_outage_and_costs_few_transactions() -> None:
    world = World(away_ms=60_000)

    results = await world.admit(*(Counted(name=f"k{n}", amount=666) for n in range(200)), Opened(name="other"))

    assert set(outcomes(results[:-1])) <= {Outcome.PARKED, Outcome.DEFERRED}
    assert outcomes(results[:-1]).count(Outcome.PARKED) < 8
    assert results[-1].outcome is Outcome.HANDLED
    assert len(world.signals_of(BatchSplit)) < 40


async def test_the_heads_of_a_type_in_outage_are_left_alone_and_burn_no_attempt() -> None:
    world = World(away_ms=60_000)
    await world.admit(Counted(name="before", amount=-1), Counted(name="before", amount=2))
    await broken_by(world)

    for _ in range(5):
        await retry(world)

    assert [(event.key, event.attempts) for event in world.parked()] == [("before", 1), ("before", 0)]


async def test_a_parked_key_of_another_type_is_tried_meanwhile() -> None:
    world = World(away_ms=60_000)
    world.moods.broken.add(Opened.TYPE)
    await world.admit(Opened(name="door"))
    await broken_by(world)
    world.moods.broken.discard(Opened.TYPE)

    await retry(world)

    assert world.moods.handled == ["opened"]
    assert world.parked() == []


async def test_many_heads_of_a_type_in_outage_do_not_keep_another_from_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orderflow.core.retries.KEYS_MAX", 5)
    world = World(away_ms=60_000)
    await broken_by(world)
    batch = [world.read(Counted(name=f"k{n}", amount=1)) for n in range(20)]
    await world.processor.hold("counter", batch)
    world.moods.broken.add(Opened.TYPE)
    await world.admit(Opened(name="z"))
    world.moods.broken.discard(Opened.TYPE)

    await retry(world)

    assert world.moods.handled == ["opened"]


async def test_an_event_of_a_type_in_outage_behind_another_waits_when_its_turn_comes() -> None:
    world = World(away_ms=60_000)
    world.moods.broken.add(Opened.TYPE)
    await world.admit(Opened(name="door"), Counted(name="door", amount=-1), Counted(name="door", amount=1))
    await broken_by(world)
    world.moods.broken.discard(Opened.TYPE)

    await retry(world)

    assert [(event.event_type, event.attempts) for event in world.parked()] == [("toy.Counted.v1", 0)] * 2


async def test_a_neglected_outage_is_probed_by_what_is_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.core.circuit_breaker.NEGLECTED_S", 0.0)
    world = World()
    world.moods.broken.add("before")
    await world.admit(Counted(name="before", amount=1))
    await broken_by(world)

    await retry(world)
    assert [event.attempts for event in world.parked()] == [1]
    assert world.processor.breakers("counter").paused

    world.moods.broken.clear()
    await retry(world)
    assert world.parked() == []
    await retry(world)
    assert world.signals_of(OutageOver)


async def test_a_decision_that_finds_something_away_raises_and_nothing_is_written() -> None:
    world = World()
    world.moods.away.add("away")

    with pytest.raises(InfrastructureError, match="tax office"):
        await world.admit(Counted(name="k", amount=1), Counted(name="away", amount=1))

    assert world.parked() == []
    assert world.states() == {}


async def test_a_retry_that_finds_something_away_burns_no_attempt() -> None:
    world = World()
    world.moods.broken.add("k")
    await world.admit(Counted(name="k", amount=1))
    world.moods.away.add("k")

    for _ in range(3):
        with pytest.raises(InfrastructureError):
            await retry(world)

    assert [event.attempts for event in world.parked()] == [1]


async def test_commands_are_no_part_of_an_outage() -> None:
    world = World()
    commands = [command(f"k{n}", total=13) for n in range(20)]

    results = await world.processor.admit("counter", commands)

    assert set(outcomes(results)) == {Outcome.REFUSED}
    assert world.signals_of(OutageJudged) == []


async def test_batches_side_by_side_judge_one_outage_and_resume_it_once() -> None:
    world = World()
    world.moods.broken.add(COUNTED)
    batches = [[world.read(Counted(name=f"k{n}-{m}", amount=1)) for n in range(10)] for m in range(5)]
    await asyncio.gather(*(world.admit(*batch) for batch in batches))
    world.moods.broken.clear()

    await world.admit(*batches[0])
    await asyncio.gather(*(world.admit(*batch) for batch in batches))

    assert len(world.signals_of(OutageJudged)) == len(world.signals_of(OutageOver)) == 1
    assert len(world.moods.handled) == 50


@pytest.mark.parametrize(("healthy", "refused", "slowed"), [(0, 4, True), (40, 3, False)])
async def test_in_an_outage_what_the_database_refuses_slows_down_the_untried_and_what_it_takes_does_not(
    healthy: int, refused: int, slowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderflow.core.circuit_breaker.REFUSALS_MAX", 4)
    world = World(away_ms=60_000, clock=StillClock())
    await broken_by(world)
    world.moods.broken.clear()

    await world.admit(*(Counted(name=f"new{n}", amount=1) for n in range(healthy)))
    for n in range(refused):
        fine = [Counted(name=f"fine{n}-{m}", amount=1) for m in range(3)]
        await world.admit(*fine, Counted(name=f"x{n}", amount=666))

    assert world.processor.breakers("counter").paused == {"toy.Counted.v1"}
    assert (world.processor.breakers("counter").open["toy.Counted.v1"].untried_in_s > 0) is slowed
