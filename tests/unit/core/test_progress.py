"""What stands still says so within 10 s, with numbers; it is begun anew, and at last its process ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orderflow.core.access import PLATFORM
from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.messages import Message
from orderflow.core.progress import ANEW_S, HOPELESS_S, STALLED_S, DueWork, Help, Helper, Stall, StallDetector
from orderflow.core.side_effects import Gateway
from orderflow.core.store import Act
from orderflow.core.telemetry import (
    AlarmCleared,
    AlarmRaised,
    BegunAnew,
    Hopeless,
    RecordsExpired,
    Stalled,
    StallOver,
)
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.testing.store import MemoryStore
from orderflow.core.transport import ProducerRecord, TopicSettings
from orderflow.simulation.loop import VirtualClock, VirtualLoop
from tests.support.callers import person
from tests.support.interleaving import soon, virtually
from tests.unit.core.test_side_effects import ScriptedGateway
from tests.unit.core.toy import Asked, Counted, Put
from tests.unit.core.world import World, record_of

TOLD_WITHIN_S = 10.0
HOUR_S = 3600.0
ADA = Act(caller=person("ada"), reason="ticket 4711")


def work(mark: object = 1, place: str = "topic/0", *, count: int = 3, excuse: str = "", ours: bool = True) -> DueWork:
    return DueWork("consumer a", place, count, mark, excuse, ours)


def stall(helpless_s: float, component: str = "consumer a") -> Stall:
    return Stall(component, ("topic/0",), 3, 500.0, helpless_s, "")


def test_what_moves_is_told_of_nobody_and_what_does_not_is_told_with_all_its_places() -> None:
    detector = StallDetector()

    assert [detector.look(second, [work(mark=second)]) for second in range(20)] == [[]] * 20
    assert detector.look(20, [work("x"), work("y", "topic/1", count=4), work(20, "topic/2")]) == []
    (found,) = detector.look(20 + STALLED_S, [work("x"), work("y", "topic/1", count=4), work(25, "topic/2")])

    assert (found.component, found.places, found.count) == ("consumer a", ("topic/0", "topic/1"), 7)
    assert found.for_s == found.helpless_s == STALLED_S


def test_what_was_not_to_be_seen_for_a_look_is_counted_anew() -> None:
    detector = StallDetector()
    detector.look(0, [work()])
    detector.look(4, [])

    assert detector.look(8, [work()]) == []
    assert len(detector.look(8 + STALLED_S, [work()])) == 1


@pytest.mark.parametrize(("excuse", "ours"), [("an outage", True), ("", False)])
def test_nobody_helps_while_there_is_an_excuse_or_the_work_is_another_s_and_help_counts_from_its_end(
    excuse: str, ours: bool
) -> None:
    detector = StallDetector()
    for second in range(200):
        found = detector.look(second, [work(excuse=excuse, ours=ours)])
        assert [each.helpless_s for each in found] in ([], [0.0])

    (found_after,) = detector.look(210, [work()])
    assert (found_after.for_s, found_after.helpless_s, found_after.excuse) == (210.0, 11.0, "")


def test_help_comes_in_steps_and_the_last_one_only_for_what_has_worked_in_this_process() -> None:
    for worked in (True, False):
        helper = Helper()
        given = [(second, helper.due(second, stall(second), worked=worked)) for second in range(200)]
        anew = [second for second, each in given if each is Help.ANEW]
        ends = [second for second, each in given if each is Help.END]
        assert anew[:2] == [ANEW_S, 45]
        assert ends[:1] == ([HOPELESS_S] if worked else [])


def test_parts_are_helped_apart() -> None:
    helper = Helper()

    assert helper.due(20, stall(20), worked=True) is Help.ANEW
    assert helper.due(21, stall(21, "relay"), worked=True) is Help.ANEW


class Rig:
    """The toy service in virtual time. Who comes to a step in `stuck` stays there until it is cancelled."""

    def __init__(self, gateway: Gateway | None = None, config: EngineConfig | None = None) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = VirtualClock(loop)
        self.world = World(clock=self.clock)
        self.world.database.gate = self._step
        self.log = MemoryLog(self.clock, random.Random(1))
        self.log.create([TopicSettings(name, 1) for name in ("counts", "totals", "flow-status", "counts.DLT")])
        self.stuck: set[str] = set()
        self.slow: dict[str, float] = {}
        self.ended: list[str] = []
        self.engine = Engine(
            self.world.service,
            MemoryStore(self.world.database),
            MemoryTransport(self.log, hop=self._step),
            gateway=gateway,
            signals=self.world.signals,
            clock=self.clock,
            rng=random.Random(3),
            config=config or EngineConfig(),
            end=self.ended.append,
        )

    async def _step(self, name: str) -> None:
        if name in self.stuck:
            await asyncio.Event().wait()
        await self.clock.sleep(self.slow.get(name, 0))

    def publish(self, *events: Message) -> None:
        records = [record_of(event, offset=0) for event in events]
        self.log.append([ProducerRecord("counts", r.key, r.value, r.headers) for r in records])

    @property
    def problems(self) -> dict[str, str]:
        return dict(self.engine.health().problems)

    @property
    def done(self) -> int:
        return len(self.world.moods.handled)

    def signals(self, kind: type) -> list[str]:
        return [signal.component for signal in self.world.signals_of(kind)]

    def alarms(self, kind: type) -> list[str]:
        return [signal.alarm for signal in self.world.signals_of(kind)]

    async def pass_s(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


@asynccontextmanager
async def running(gateway: Gateway | None = None, **config: Any) -> AsyncIterator[Rig]:
    rig = Rig(gateway, EngineConfig(**config))
    rig.engine.start()
    await rig.pass_s(1)
    yield rig
    rig.stuck.clear()
    await rig.engine.kill()


def counted(count: int, start: int = 0) -> list[Counted]:
    return [Counted(name=f"k{n}", amount=1) for n in range(start, start + count)]


async def healthy(rig: Rig, done: int) -> None:
    await soon(lambda: rig.done == done, lambda: rig.world.moods.handled, timeout_s=60)
    await soon(lambda: not rig.problems, lambda: rig.problems, timeout_s=10)


async def polling_no_more(rig: Rig) -> None:
    """It has worked; a poll from now on never returns."""
    rig.publish(*counted(2))
    await healthy(rig, 2)
    rig.stuck.add("poll")
    rig.publish(*counted(1, start=2))
    await healthy(rig, 3)  # by the poll that waited already


@virtually
async def test_a_consumer_whose_poll_never_returns_says_so_and_joins_anew() -> None:
    async with running() as rig:
        await polling_no_more(rig)
        rig.publish(*counted(4, start=3))

        await soon(lambda: bool(rig.problems), lambda: rig.world.seen, timeout_s=TOLD_WITHIN_S)
        told = rig.problems["consumer counter"]
        assert told.startswith("stalled: 4 records wait (counts/0), and none has been handled for ")
        assert rig.signals(Stalled) == ["consumer counter"]
        await soon(lambda: bool(rig.signals(BegunAnew)), lambda: rig.world.seen, timeout_s=ANEW_S)
        rig.stuck.clear()
        await soon(lambda: rig.done == 7, lambda: rig.world.moods.handled, timeout_s=40)
        await healthy(rig, 7)
        assert rig.signals(StallOver) == ["consumer counter"]
        assert rig.ended == []


@virtually
async def test_a_consumer_that_cannot_be_brought_back_ends_its_process_once_and_says_why() -> None:
    async with running() as rig:
        await polling_no_more(rig)
        rig.publish(*counted(4, start=3))

        await soon(lambda: bool(rig.ended), lambda: rig.world.seen, timeout_s=HOPELESS_S + TOLD_WITHIN_S)
        await rig.pass_s(HOUR_S)

        (why,) = rig.ended
        assert why.startswith("consumer counter: stalled: 4 records wait (counts/0)")
        assert rig.signals(Hopeless) == ["consumer counter"]


@virtually
async def test_where_a_part_has_never_worked_a_new_process_would_not_help_and_is_not_asked_for() -> None:
    rig = Rig()
    rig.stuck.add("poll")
    rig.publish(*counted(4))
    rig.engine.start()
    await rig.pass_s(HOUR_S)

    assert rig.ended == []
    assert "stalled" in rig.problems["consumer counter"]
    assert rig.signals(Stalled) == ["consumer counter"]
    rig.stuck.clear()
    await soon(lambda: rig.done == 4, lambda: rig.problems, timeout_s=60)
    await rig.engine.kill()


@virtually
async def test_a_slow_consumer_that_gets_on_is_let_alone() -> None:
    async with running(batch_max=1) as rig:
        rig.slow["commit"] = 4.0
        rig.publish(*counted(30))
        await soon(lambda: rig.done == 30, lambda: rig.world.moods.handled, timeout_s=600)

        assert rig.signals(Stalled) == rig.signals(BegunAnew) == rig.ended == []


@virtually
async def test_a_long_batch_that_is_committed_in_parts_gets_on() -> None:
    async with running() as rig:
        rig.slow["committed"] = 2.0
        rig.publish(*(Counted(name=f"k{n}", amount=666 if n % 4 == 0 else 1) for n in range(60)))
        await soon(lambda: bool(rig.world.parked()) and rig.done >= 45, lambda: rig.done, timeout_s=900)

        assert rig.signals(BegunAnew) == rig.ended == []


@pytest.mark.parametrize("away", ["log", "database"])
def test_when_log_or_database_are_away_for_an_hour_nothing_is_begun_anew(away: str) -> None:
    @virtually
    async def test() -> None:
        async with running() as rig:
            rig.publish(*counted(2))
            await healthy(rig, 2)
            if away == "log":
                rig.publish(*counted(3, start=2))
                rig.log.reachable = False
            else:
                rig.world.database.go_down()
                rig.publish(*counted(3, start=2))
            await rig.pass_s(HOUR_S)
            assert away == "log" or "StoreUnavailableError" in rig.problems["consumer counter"]
            assert rig.signals(BegunAnew) == rig.signals(Stalled) == rig.ended == []
            rig.log.reachable = True
            rig.world.database.come_back()
            await healthy(rig, 5)

    test()


@virtually
async def test_an_outage_keeps_its_own_sentence_however_long_it_lasts() -> None:
    async with running() as rig:
        rig.world.moods.broken.add(Counted.TYPE)
        rig.publish(*counted(20))
        await rig.pass_s(HOUR_S / 6)
        assert "outage" in rig.problems["consumer counter"]
        assert "stalled" not in str(rig.problems)
        assert rig.signals(BegunAnew) == rig.signals(Stalled) == rig.ended == []


@virtually
async def test_a_relay_that_hangs_says_so_and_is_begun_anew() -> None:
    async with running() as rig:
        await rig.engine.submit(Put(name="a", total=1), PLATFORM)
        await soon(lambda: rig.log.ends(["totals"]) == {("totals", 0): (0, 1)}, rig.log.ends)  # type: ignore[arg-type]
        rig.stuck.add("append")
        await rig.engine.submit(Put(name="b", total=1), PLATFORM)

        await soon(lambda: bool(rig.problems), lambda: rig.world.seen, timeout_s=TOLD_WITHIN_S)
        assert rig.problems["relay"].startswith("stalled: 1 event waits to be published (slot ")
        await soon(lambda: "relay" in rig.signals(BegunAnew), lambda: rig.world.seen, timeout_s=ANEW_S)
        rig.stuck.clear()
        await soon(lambda: rig.log.ends(["totals"]) == {("totals", 0): (0, 2)}, lambda: rig.world.seen, timeout_s=40)
        await soon(lambda: not rig.problems, lambda: rig.problems)


@virtually
async def test_a_retrier_that_hangs_says_so_and_is_begun_anew() -> None:
    async with running() as rig:
        rig.world.moods.broken.add("k0")
        rig.publish(*counted(1))
        await soon(lambda: bool(rig.world.parked()), lambda: rig.world.seen)
        rig.stuck.add("due_keys")
        rig.world.moods.broken.clear()

        await soon(lambda: "retry counter" in rig.problems, lambda: rig.problems, timeout_s=TOLD_WITHIN_S)
        assert rig.problems["retry counter"].startswith(
            "stalled: 1 parked event is due for retry (toy.Counted.v1), and none has been retried for "
        )
        await soon(lambda: "retry counter" in rig.signals(BegunAnew), lambda: rig.world.seen, timeout_s=ANEW_S)
        rig.stuck.clear()
        await soon(lambda: not rig.world.parked(), lambda: rig.world.seen, timeout_s=40)


@virtually
async def test_intents_that_nobody_asks_are_told_and_asked_when_the_runner_is_begun_anew() -> None:
    gateway = ScriptedGateway("again", "fine")
    async with running(gateway, intent_lease_ms=1_000, ask_again_first_ms=1_000, ask_again_ceiling_ms=1_000) as rig:
        rig.stuck.add("claim_intents")
        rig.publish(Asked(name="k"))

        await soon(lambda: "intents" in rig.problems, lambda: rig.problems, timeout_s=TOLD_WITHIN_S + 2)
        assert rig.problems["intents"].startswith("stalled: 1 question to the outside world is due (ask)")
        await soon(lambda: "intents" in rig.signals(BegunAnew), lambda: rig.world.seen, timeout_s=ANEW_S)
        rig.stuck.clear()
        await soon(lambda: not rig.world.intents(), lambda: gateway.calls, timeout_s=40)


@virtually
async def test_records_that_expired_unread_are_an_alarm_until_somebody_acknowledges_them() -> None:
    rig = Rig()
    member = await MemoryTransport(rig.log).subscribe("counter", ["counts"])
    rig.publish(*counted(3))
    await member.commit(await member.poll(10))
    await member.close()
    rig.publish(*counted(90, start=3))
    rig.log.expire("counts")
    rig.publish(*counted(1, start=93))

    rig.engine.start()
    await soon(lambda: rig.done == 1, lambda: rig.world.seen)
    await soon(lambda: bool(rig.engine.health().alarms), lambda: rig.world.seen, timeout_s=TOLD_WITHIN_S)

    (expired,) = rig.world.signals_of(RecordsExpired)
    assert (expired.consumer, expired.topic, expired.partition) == ("counter", "counts", 0)
    assert (expired.first_lost, expired.next_kept) == (3, 93)
    alarm = rig.engine.health().alarms["expired counter"]
    assert alarm.startswith("90 records expired before counter read them (counts/0 3 to 92); recover ")
    assert "orderflow outbox republish --topic counts" in alarm
    await rig.pass_s(HOUR_S)
    assert rig.engine.health().alarms == {"expired counter": alarm}
    assert rig.engine.health().problems == {}
    assert rig.alarms(AlarmRaised) == ["expired counter"]
    await MemoryStore(rig.world.database).recovery.acknowledge_expired("counter", ADA)
    await soon(lambda: not rig.engine.health().alarms, rig.engine.health, timeout_s=30)
    assert len(rig.world.signals_of(RecordsExpired)) == 1
    await rig.engine.kill()


@virtually
async def test_what_expires_under_a_consumer_that_waits_is_told_too() -> None:
    async with running() as rig:
        rig.publish(*counted(1))
        await healthy(rig, 1)
        rig.world.moods.broken.add(Counted.TYPE)
        rig.publish(*counted(20, start=1))
        await soon(lambda: bool(rig.problems), lambda: rig.world.seen)
        rig.log.expire("counts")

        await soon(lambda: bool(rig.engine.health().alarms), lambda: rig.world.seen, timeout_s=TOLD_WITHIN_S)
        assert "20 records expired" in rig.engine.health().alarms["expired counter"]


def too_old(rig: Rig) -> Callable[[], bool]:
    return lambda: bool(rig.alarms(AlarmRaised))


@virtually
async def test_an_intent_that_is_asked_again_and_again_is_an_alarm_after_a_while() -> None:
    async with running(ScriptedGateway("again"), alarm_age_ms=600_000) as rig:
        rig.publish(Asked(name="k"))
        await rig.pass_s(590)
        assert rig.engine.health().alarms == {}
        await soon(too_old(rig), lambda: rig.world.seen, timeout_s=30)

        assert (
            rig.engine.health()
            .alarms["unending intents"]
            .startswith("1 question to the outside world without a final answer, the oldest ('ask:k') for 10 min")
        )
        assert rig.problems == {}


@virtually
async def test_a_parked_head_that_is_never_given_up_is_an_alarm_after_a_while() -> None:
    async with running(alarm_age_ms=60_000, attempts_max=1_000) as rig:
        rig.world.moods.broken.add("k0")
        rig.publish(*counted(1))
        await soon(too_old(rig), lambda: rig.world.seen, timeout_s=80)
        alarms = rig.engine.health().alarms
        assert alarms["unending retries counter"].startswith("1 parked event retried again and again, the oldest")
        rig.world.moods.broken.clear()
        await soon(
            lambda: rig.alarms(AlarmCleared) == ["unending retries counter"], lambda: rig.world.seen, timeout_s=40
        )


@virtually
async def test_infrastructure_that_stays_away_is_an_alarm_once() -> None:
    async with running(alarm_age_ms=60_000) as rig:
        rig.world.database.go_down()
        await rig.pass_s(HOUR_S)
        assert sorted(set(rig.alarms(AlarmRaised))) == sorted(rig.alarms(AlarmRaised)) != []
        rig.world.database.come_back()
        await soon(lambda: not rig.problems, lambda: rig.problems, timeout_s=30)
        await rig.pass_s(10)
        assert sorted(rig.alarms(AlarmCleared)) == sorted(rig.alarms(AlarmRaised))
