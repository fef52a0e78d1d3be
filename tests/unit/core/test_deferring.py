"""An outage in a running service: what it concerns waits in order, everything else flows, and all of it heals."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.inbox import InboxState
from orderflow.core.messages import Message
from orderflow.core.service import Handler
from orderflow.core.telemetry import BatchCommitted, OutageJudged, OutageOver, Resumed, Waiting
from tests.support.waiting import eventually
from tests.unit.core.test_engine import QUICK, Running
from tests.unit.core.test_side_effects import ScriptedGateway
from tests.unit.core.toy import Asked, Counted, Opened, Said

COUNTED = Counted.TYPE
COUNT = 60


def counted(count: int, *amounts: int) -> list[Message]:
    """For each of so many keys these amounts, in order."""
    return [Counted(name=f"k{n}", amount=amount) for amount in amounts for n in range(count)]


def handled_in_order(running: Running, count: int, *amounts: int) -> bool:
    """Each key's amounts took effect once, in order."""
    handled = running.world.moods.handled
    by_key = {f"k{n}": [each for each in handled if each.split("+")[0] == f"k{n}"] for n in range(count)}
    return all(by_key[key] == [f"{key}{amount:+}" for amount in amounts] for key in by_key)


async def outage(running: Running) -> None:
    await eventually(lambda: running.world.signals_of(OutageJudged))


async def test_while_one_type_fails_the_other_flows_to_its_end() -> None:
    running = Running()
    running.world.moods.broken.add(COUNTED)
    async with running.started() as engine:
        await running.publish(*counted(COUNT, 1))
        await outage(running)
        await running.publish(*(Opened(name=f"o{n}") for n in range(COUNT)))

        await eventually(lambda: running.world.moods.handled.count("opened") == COUNT)

        assert running.world.parked() == []
        assert "outage of toy.Counted.v1" in engine.health().problems["consumer counter"]
        assert await running.lag() > 0


@pytest.mark.parametrize("broken", [{COUNTED}, {COUNTED, Opened.TYPE}])
async def test_when_it_heals_everything_is_handled_once_and_in_order(broken: set[str]) -> None:
    running = Running()
    running.world.moods.broken |= broken
    async with running.started() as engine:
        await running.publish(*counted(COUNT, 1, 2))
        await outage(running)
        await running.publish(*counted(COUNT, 3), *(Opened(name=f"k{n}") for n in range(COUNT)))
        running.world.moods.broken.clear()

        await eventually(running.lag_is_zero)

        assert handled_in_order(running, COUNT, 1, 2, 3)
        assert running.world.moods.handled.count("opened") == COUNT
        assert running.world.parked() == []
        assert running.world.signals_of(OutageOver)
        assert engine.health().problems == {}


async def test_an_event_of_another_type_waits_behind_a_deferred_one_of_its_key() -> None:
    running = Running()
    running.world.moods.broken.add(COUNTED)
    async with running.started():
        await running.publish(*counted(COUNT, 1))
        await outage(running)
        await running.publish(Opened(name="k7"), Opened(name="other"))
        await eventually(lambda: "opened" in running.world.moods.handled)
        assert running.world.moods.handled == ["opened"]
        running.world.moods.broken.clear()
        await eventually(running.lag_is_zero)

    handled = running.world.moods.handled
    assert handled.count("opened") == 2
    assert handled.index("k7+1") < handled.index("opened", 1)


async def test_nothing_is_committed_past_a_deferred_record_and_a_restart_begins_with_it() -> None:
    running = Running()
    running.world.moods.broken.add(COUNTED)
    first = running.engine()
    first.start()
    await running.publish(*counted(COUNT, 1))
    await outage(running)
    await running.publish(*(Opened(name=f"o{n}") for n in range(COUNT)))
    await eventually(lambda: running.world.moods.handled.count("opened") == COUNT)
    await first.drain(10)
    assert await running.lag() == 2 * COUNT
    running.world.moods.broken.clear()

    async with running.started():
        await eventually(running.lag_is_zero)

    assert handled_in_order(running, COUNT, 1)
    assert running.world.moods.handled.count("opened") == COUNT


async def test_a_process_that_takes_over_deferred_records_does_nothing_twice() -> None:
    running = Running()
    running.world.moods.broken.add(COUNTED)
    async with running.started():
        await running.publish(*counted(COUNT, 1, 2))
        await outage(running)
        async with running.started():
            await eventually(lambda: len(running.log.group("counter").members) == 2)
            running.world.moods.broken.clear()
            await eventually(running.lag_is_zero)

    assert handled_in_order(running, COUNT, 1, 2)


async def test_the_probe_is_one_record_and_each_time_of_another_key() -> None:
    running = Running()
    running.world.moods.broken.add(COUNTED)
    async with running.started():
        await running.publish(*counted(COUNT, 1, 2))

        def probes() -> list[str]:
            """The keys that were tried, after the batch that was judged."""
            batches = [[each for each in batch.handled if each.error] for batch in batches_of(running)]
            tried = [batch for batch in batches if batch][1:]
            assert all(len(batch) == 1 for batch in tried)
            return [batch[0].key for batch in tried]

        await eventually(lambda: len(probes()) >= 20)
        assert len(set(probes()[:20])) == 20


def batches_of(running: Running) -> list[BatchCommitted]:
    return running.world.signals_of(BatchCommitted)


class Small:
    """A hand that holds 40 records, and parks all but 5 keys of an outage when it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("orderflow.core.consumer.RECORDS_MAX", 40)
        monkeypatch.setattr("orderflow.core.consumer.PROBES_KEPT", 5)
        monkeypatch.setattr("orderflow.core.progress.LOOK_S", 0.05)
        monkeypatch.setattr("orderflow.core.progress.LOOK_AGAIN_S", 0.05)
        monkeypatch.setattr("orderflow.core.decisions.LOOK_WHEN_FULL_S", 0.05)
        self.running = Running()
        self.running.world.moods.broken.add(COUNTED)


async def test_what_does_not_fit_in_the_hand_is_parked_without_an_attempt_and_other_types_flow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Small(monkeypatch).running
    async with running.started():
        await running.publish(*counted(COUNT, 1, 2))
        await outage(running)
        await running.publish(*(Opened(name=f"o{n}") for n in range(COUNT)))
        await eventually(lambda: running.world.moods.handled.count("opened") == COUNT)

        assert {(event.attempts, event.state) for event in running.world.parked()} == {(0, InboxState.PARKED)}
        assert running.world.flow() == []
        running.world.moods.broken.clear()
        await eventually(lambda: handled_in_order(running, COUNT, 1, 2))
        await eventually(running.lag_is_zero)
        await eventually(lambda: not running.world.parked())


async def test_a_consumer_of_one_type_goes_on_too_since_what_comes_may_be_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Small(monkeypatch).running
    handlers: dict[type[Message], Handler] = {Counted: running.world.service.handlers[Counted]}
    running.world.service = replace(running.world.service, handlers=handlers)
    async with running.started(config=replace(QUICK, batch_max=10)):
        running.world.moods.broken = {f"k{n}" for n in range(5 * COUNT)}
        await running.publish(*counted(5 * COUNT, 1), *(Counted(name=f"fine{n}", amount=1) for n in range(20)))
        await outage(running)

        await eventually(lambda: all(running.world.total(f"fine{n}") == 1 for n in range(20)))
        assert {event.attempts for event in running.world.parked()} <= {0}
        running.world.moods.broken.clear()
        await eventually(lambda: handled_in_order(running, 5 * COUNT, 1))
        await eventually(running.lag_is_zero)


async def test_what_a_decision_stands_on_being_away_burns_no_attempt_and_is_probed_with_one_record() -> None:
    running = Running()
    running.world.moods.away.add(COUNTED)
    async with running.started() as engine:
        await running.publish(*counted(COUNT, 1, 2))
        await eventually(lambda: len([s for s in running.world.signals_of(Waiting) if "consumer" in s.component]) > 3)
        assert running.world.parked() == []
        assert await running.lag() == 2 * COUNT
        await eventually(lambda: "tax office" in engine.health().problems.get("consumer counter", ""))
        running.world.moods.away.clear()
        await eventually(running.lag_is_zero)

    assert handled_in_order(running, COUNT, 1, 2)
    assert [s.component for s in running.world.signals_of(Resumed)] == ["consumer counter"]
    assert running.world.parked() == []


async def test_an_answer_in_outage_is_brought_again_until_it_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.core.side_effects.DEFERRED_S", 0.01)
    running = Running()
    running.world.moods.broken.add(Said.TYPE)
    async with running.started(ScriptedGateway(*["fine"] * 20)):
        await running.publish(*(Asked(name=f"k{n}") for n in range(20)))
        await outage(running)
        parked = len(running.world.parked())
        assert parked < 8
        running.world.moods.broken.clear()
        await eventually(lambda: not running.world.intents() and not running.world.parked())

    assert running.world.moods.handled == ["fine"] * 20


async def test_a_process_that_stops_leaves_answers_in_outage_to_be_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orderflow.core.side_effects.DEFERRED_S", 0.01)
    running = Running()
    running.world.moods.broken.add(Said.TYPE)
    engine = running.engine(ScriptedGateway(*["fine"] * 20))
    engine.start()
    await running.publish(*(Asked(name=f"k{n}") for n in range(20)))
    await outage(running)

    async with asyncio.timeout(60):
        await engine.drain(60)

    assert len(running.world.intents()) + len(running.world.parked()) == 20


def problems(engine: Engine) -> str:
    return engine.health().problems.get("parking counter", "")


SLOW_RETRY = replace(QUICK, retry_first_ms=60_000, retry_ceiling_ms=60_000)


async def test_over_the_bound_of_parked_keys_the_partition_waits_and_nothing_is_dropped() -> None:
    running = Running()
    running.world.moods.broken |= {f"k{n}" for n in range(7)}
    config = replace(SLOW_RETRY, parked_keys_max=3, batch_max=1)
    async with running.started(config=config) as engine:
        await running.publish(*counted(7, 1))
        await running.publish(*(Counted(name=f"fine{n}", amount=1) for n in range(20)))

        await eventually(lambda: problems(engine))
        await eventually(lambda: all(running.world.total(f"fine{n}") == 1 for n in range(20)))
        assert len({event.key for event in running.world.parked()}) <= 4
        assert await running.lag() > 0
        assert "the parking quota is used up" in problems(engine)
        running.world.moods.broken.clear()
        await eventually(running.lag_is_zero)
        await eventually(lambda: not problems(engine))


async def test_over_the_bound_of_events_behind_one_the_rest_waits_in_order() -> None:
    running = Running()
    running.world.moods.broken.add("k0")
    config: EngineConfig = replace(QUICK, parked_depth_max=4, attempts_max=10**6)
    async with running.started(config=config) as engine:
        await running.publish(*counted(1, *range(1, 11)), Counted(name="fine", amount=1))
        await eventually(lambda: problems(engine) and running.world.total("fine") == 1)
        assert len(running.world.parked()) == 4
        running.world.moods.broken.clear()
        await eventually(lambda: handled_in_order(running, 1, *range(1, 11)))
        await eventually(running.lag_is_zero)


async def test_what_is_parked_without_an_attempt_counts_against_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Small(monkeypatch).running
    async with running.started(config=replace(SLOW_RETRY, parked_keys_max=30, batch_max=20)) as engine:
        await running.publish(*counted(5 * COUNT, 1))
        await eventually(lambda: problems(engine))

        assert len(running.world.parked()) <= 30 + 20
        running.world.moods.broken.clear()
        await eventually(lambda: handled_in_order(running, 5 * COUNT, 1))
