"""The parts put together: consume, decide, publish, ask, retry, stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest

from orderflow.core.access import PLATFORM
from orderflow.core.engine import DecisionFailedError, Engine, EngineConfig, OverloadedError
from orderflow.core.envelopes import from_record
from orderflow.core.identity import event_id
from orderflow.core.messages import Message
from orderflow.core.service import RefusedError
from orderflow.core.side_effects import Gateway
from orderflow.core.store import Act, Changes, StoreUnavailableError
from orderflow.core.telemetry import Resumed, Usage, Waiting
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.testing.store import MemoryStore
from orderflow.core.transport import ProducerRecord, TopicSettings
from tests.support.callers import person
from tests.support.waiting import eventually
from tests.unit.core.test_side_effects import ScriptedGateway
from tests.unit.core.toy import Asked, Counted, Noticed, Put, Tally
from tests.unit.core.world import World, header, record_of

QUICK = EngineConfig(
    retry_first_ms=5, retry_ceiling_ms=5, infrastructure_first_ms=2, infrastructure_ceiling_ms=5, ask_again_first_ms=1
)


class Running:
    """A toy service on a log in memory."""

    def __init__(self) -> None:
        self.world = World()
        self.hops = self.world.steps
        self.log = MemoryLog(self.world.clock, random.Random(1), session_timeout_s=0.05)
        names = ("counts", "totals", "flow-status", "counts.DLT")
        self.log.create([TopicSettings(name, 3) for name in names])
        self.transport = MemoryTransport(self.log, hop=self._hop)
        self._offset = 0

    async def _hop(self, operation: str) -> None:
        self.hops.append(operation)
        await asyncio.sleep(0)

    def engine(self, gateway: Gateway | None = None, config: EngineConfig = QUICK) -> Engine:
        return Engine(
            self.world.service,
            MemoryStore(self.world.database),
            MemoryTransport(self.log, hop=self._hop),
            gateway=gateway,
            signals=self.world.signals,
            clock=self.world.clock,
            rng=random.Random(3),
            config=config,
        )

    @asynccontextmanager
    async def started(self, gateway: Gateway | None = None, config: EngineConfig = QUICK) -> AsyncIterator[Engine]:
        engine = self.engine(gateway, config)
        engine.start()
        try:
            yield engine
        finally:
            await engine.kill()

    async def publish(self, *events: Message) -> None:
        records = [record_of(event, offset=0) for event in events]
        await self.transport.append([ProducerRecord("counts", r.key, r.value, r.headers) for r in records])

    async def topic(self, name: str) -> list[dict[str, object]]:
        records = [record for n in range(3) for record in await self.transport.read(name, n, 0, 10_000)]
        return [msgspec.json.decode(record.value or b"null") for record in records]

    async def topic_of(self, name: str, size: int) -> list[dict[str, object]]:
        """The topic once it has so many records; before, nothing."""
        records = await self.topic(name)
        return records if len(records) == size else []

    async def lag(self) -> int:
        return sum(each.lag for each in await self.transport.lag("counter", ["counts"]))

    async def lag_is_zero(self) -> bool:
        return await self.lag() == 0


async def test_an_event_goes_in_and_what_it_causes_comes_out() -> None:
    running = Running()
    async with running.started():
        await running.publish(Counted(name="k", amount=1), Noticed(name="k"), Counted(name="k", amount=2))

        await eventually(running.lag_is_zero)
        totals = await eventually(lambda: running.topic_of("totals", 2))

    assert totals == [{"name": "k", "total": 1}, {"name": "k", "total": 3}]


async def test_an_act_is_in_the_operators_log_by_the_commit_of_its_command() -> None:
    running, act = Running(), Act(caller=person("ada"), reason="counted")
    commits: list[Changes] = []
    running.world.database.committed = commits.extend
    async with running.started() as engine:
        await asyncio.gather(*(engine.submit(Put(name=f"k{n}", total=n), act) for n in range(3)))
        await engine.submit(Put(name="k9", total=9), act.caller)
        logged = [(entry.target, {row.id for row in each.rows}) for each in commits for entry in each.log]
        with pytest.raises(RefusedError):
            await engine.submit(Put(name="k1", total=-1), act)
        with pytest.raises(DecisionFailedError):
            await engine.submit(Put(name="k1", total=13), act)
        latest, *rest = await engine.recovery.store.actions(10)

    assert sorted(target for target, _ in logged) == ["k0", "k1", "k2"]
    assert all(target in written for target, written in logged)
    assert sorted(each.target for each in rest) == ["k0", "k1", "k2"]
    assert {(each.who, each.reason, each.action) for each in rest} == {("ada", "counted", "put")}
    assert (latest.target, latest.result) == ("k1", "refused: below zero")


async def test_a_command_is_answered_after_its_commit_and_its_event_published() -> None:
    running = Running()
    async with running.started() as engine:
        answer = await engine.submit(Put(name="k", total=5), PLATFORM)

        assert answer == Tally(name="k", total=5)
        assert running.world.total("k") == 5
        await eventually(lambda: running.topic_of("totals", 1))


async def test_a_refused_command_a_failed_one_and_a_full_queue_are_told_apart() -> None:
    running = Running()
    async with running.started() as engine:
        with pytest.raises(RefusedError):
            await engine.submit(Put(name="k", total=-1), PLATFORM)
        with pytest.raises(DecisionFailedError):
            await engine.submit(Put(name="k", total=13), PLATFORM)
        with pytest.raises(DecisionFailedError):
            await engine.submit(Put(name="k", total=666), PLATFORM)
    async with running.started(config=EngineConfig(command_queue_max=0)) as engine:
        with pytest.raises(OverloadedError):
            await engine.submit(Put(name="k", total=1), PLATFORM)


async def test_what_waits_in_an_engine_is_told_with_its_bounds() -> None:
    running = Running()
    engine = running.engine(ScriptedGateway(), QUICK)
    waiting = [asyncio.ensure_future(engine.submit(Put(name=f"k{n}", total=1), PLATFORM)) for n in range(3)]
    await asyncio.sleep(0)

    assert engine.queues() == {
        "commands": Usage(3, QUICK.command_queue_max),
        "answers": Usage(0, QUICK.command_queue_max),
        "questions": Usage(0, QUICK.gateway_queue_max),
        "paused counter": Usage(0, 2_000),
    }
    await engine.kill()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert engine.queues()["commands"].used == 0


async def test_commands_are_refused_at_once_while_the_database_is_away_and_taken_again_after() -> None:
    running = Running()
    async with running.started() as engine:
        running.world.database.go_down()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                await engine.submit(Put(name="k", total=1), PLATFORM)
        assert engine.health().problems
        running.world.database.come_back()

        async def taken() -> bool:
            try:
                await engine.submit(Put(name="k", total=1), PLATFORM)
            except StoreUnavailableError:
                return False
            return True

        await eventually(taken)
        await eventually(lambda: not engine.health().problems)


async def test_a_command_waits_for_nothing_while_the_database_is_known_to_be_away() -> None:
    running = Running()
    async with running.started(config=EngineConfig(infrastructure_first_ms=60_000)) as engine:
        running.world.database.go_down()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                await engine.submit(Put(name="k", total=1), PLATFORM)

    assert running.world.steps.count("begin") == 1


async def test_what_is_committed_is_published_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.core.progress.LOOK_S", 3600.0)
    running = Running()
    async with running.started() as engine:
        await eventually(lambda: running.world.database.slot_owners)
        await engine.submit(Put(name="k", total=5), PLATFORM)

        await eventually(lambda: running.topic_of("totals", 1))


async def test_a_process_that_stops_with_a_batch_in_hand_leaves_its_group() -> None:
    running = Running()
    async with running.started():
        running.world.database.go_down()
        await running.publish(Counted(name="k", amount=1))
        await eventually(lambda: [s for s in running.world.signals_of(Waiting) if "consumer" in s.component])

    assert running.log.group("counter").members == ()


async def test_a_database_that_is_away_stops_nothing_for_good_and_loses_nothing() -> None:
    running = Running()
    async with running.started():
        await running.publish(Counted(name="k", amount=1))
        await eventually(running.lag_is_zero)
        running.world.database.go_down()
        await running.publish(*(Counted(name=f"k{n}", amount=1) for n in range(20)))
        await eventually(lambda: running.world.signals_of(Waiting))
        running.world.database.come_back()

        await eventually(running.lag_is_zero)
        await eventually(lambda: running.topic_of("totals", 21))

    assert running.world.parked() == []
    assert running.world.signals_of(Resumed)


async def test_a_log_that_is_away_stops_nothing_for_good_and_loses_nothing() -> None:
    running = Running()
    async with running.started() as engine:
        running.log.reachable = False
        await engine.submit(Put(name="k", total=5), PLATFORM)
        await eventually(lambda: "relay" in engine.health().problems)
        running.log.reachable = True

        await eventually(lambda: running.topic_of("totals", 1))


async def test_a_record_that_raises_while_it_is_read_is_never_committed_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect between poll and commit: the loop stays at the record until the defect is mended."""
    running = Running()
    read, broken = from_record, [True]

    def defective(*arguments: object) -> object:
        if broken[0] and b"1" in (arguments[0].value or b""):  # type: ignore[attr-defined]
            raise NotImplementedError("a defect")
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("orderflow.core.consumer.from_record", defective)
    async with running.started():
        await running.publish(Counted(name="k", amount=1))
        await eventually(lambda: running.world.signals_of(Waiting))
        await running.publish(Counted(name="k", amount=2))
        assert await running.lag() == 2
        broken[0] = False
        await eventually(running.lag_is_zero)

    assert running.world.total("k") == 3


async def test_database_first_offset_second() -> None:
    running = Running()
    async with running.started():
        await running.publish(Counted(name="k", amount=1))
        await eventually(running.lag_is_zero)

    assert [hop for hop in running.hops if hop in ("poll", "commit", "commit_offsets")][:3] == [
        "poll",
        "commit",
        "commit_offsets",
    ]


async def test_after_a_full_batch_the_next_is_fetched_while_the_database_works_and_no_offset_goes_early() -> None:
    running = Running()
    await running.publish(*(Counted(name="k", amount=n) for n in (1, 2, 3)))
    async with running.started(config=replace(QUICK, batch_max=1)):
        await eventually(running.lag_is_zero)
        await eventually(lambda: running.hops.count("commit_offsets") == 3)

    hops = [hop for hop in running.hops if hop in ("poll", "commit", "commit_offsets")]
    assert hops[:4] == ["poll", "poll", "commit", "commit_offsets"]
    assert running.world.total("k") == 6


async def test_a_process_that_dies_before_committing_does_nothing_twice() -> None:
    running = Running()
    first = running.engine()
    first.start()
    running.log.group("counter").commit = lambda *_: None  # type: ignore[method-assign]
    await running.publish(*(Counted(name="k", amount=1) for _ in range(5)))
    await eventually(lambda: running.world.total("k") == 5)
    await first.kill()
    del running.log.group("counter").commit

    async with running.started():
        await eventually(running.lag_is_zero)

    assert running.world.total("k") == 5


async def test_a_parked_event_is_tried_again_by_itself() -> None:
    running = Running()
    running.world.moods.broken.add("k")
    async with running.started(config=EngineConfig(retry_first_ms=20, retry_ceiling_ms=20, attempts_max=1000)):
        await running.publish(*(Counted(name="k", amount=n) for n in (1, 2, 3)), Counted(name="other", amount=1))
        await eventually(lambda: len(running.world.parked()) == 3 and running.world.total("other") == 1)
        running.world.moods.broken.clear()
        await eventually(lambda: not running.world.parked())

    assert running.world.total("k") == 6


async def test_what_is_asked_of_the_outside_is_answered_and_published() -> None:
    running = Running()
    gateway = ScriptedGateway("again", "fine")
    async with running.started(gateway):
        await running.publish(Asked(name="k"))
        await eventually(lambda: running.topic_of("totals", 1))

    assert gateway.calls == ["ask:k", "ask:k"]
    assert running.world.intents() == {}


async def test_draining_finishes_what_is_in_hand_commits_publishes_and_leaves() -> None:
    running = Running()
    gateway = ScriptedGateway("fine")
    gateway.gate.clear()
    engine = running.engine(gateway)
    engine.start()
    await running.publish(Asked(name="k"), Counted(name="c", amount=1))
    await eventually(lambda: gateway.calls)

    draining = asyncio.ensure_future(engine.drain(600))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError):
        await engine.submit(Put(name="late", total=1), PLATFORM)
    gateway.gate.set()
    await draining

    assert await running.lag() == 0
    assert running.world.database.state.pending == {}
    assert {row["name"] for row in await running.topic("totals")} == {"k", "c"}
    assert running.log.group("counter").members == ()


async def test_draining_ends_in_time_when_the_outside_does_not_answer() -> None:
    running = Running()
    gateway = ScriptedGateway("fine")
    gateway.gate.clear()
    engine = running.engine(gateway)
    engine.start()
    await running.publish(Asked(name="k"))
    await eventually(lambda: gateway.calls)

    await asyncio.wait_for(engine.drain(0.05), 60)

    assert list(running.world.intents()) == ["ask:k"]
    assert running.log.group("counter").members == ()


async def test_an_engine_that_was_never_started_stops_at_once() -> None:
    await asyncio.wait_for(Running().engine().drain(3600), 60)


async def test_a_command_has_an_id_ordered_by_time() -> None:
    running = Running()
    async with running.started() as engine:
        await engine.submit(Put(name="k", total=5), PLATFORM, traceparent=None)

    causes = [header(row.headers, "ce_causationid") for row in running.world.outbox()]
    assert [cause[14] for cause in causes] == ["7"]
    assert event_id("/orderflow/counter", "toy.Total", "k", 1) == running.world.outbox()[0].event_id
