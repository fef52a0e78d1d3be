"""Whoever is told "it runs already, it will see to this": a call at each await of the other loses nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from orderflow.core.postgres.outbox import RelayNotifier
from orderflow.core.postgres_log.consumer import OffsetWriter
from orderflow.core.processor import Processor
from orderflow.core.relay import MARK_S, Relay
from orderflow.core.retry import Backoff, RetryLoop
from orderflow.core.side_effects import GroupCommitQueue, SideEffectRunner
from orderflow.core.store import Changes, OpenIntent
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.testing.state import StoredIntent as AskedRow
from orderflow.core.timing import Pacer, Timer
from orderflow.core.transport import TopicSettings, TransportUnavailableError
from orderflow.simulation.loop import VirtualClock, VirtualLoop
from tests.support.interleaving import Scene, at_each_step, soon
from tests.unit.core.test_side_effects import ScriptedGateway
from tests.unit.core.toy import Asked, Counted, intent_of
from tests.unit.core.world import World, command


class Offsets:
    """Noted ones, written some steps later, as by a statement on its way."""

    def __init__(self, failing: int) -> None:
        self.noted: set[int] = set()
        self.written: set[int] = set()
        self._failing = failing
        self.writer = OffsetWriter(self._write, lambda: bool(self.noted), lambda _: None)

    async def commit(self, offset: int) -> None:
        self.noted.add(offset)
        self.writer.wake()

    async def _write(self) -> None:
        noted, self.noted = self.noted, set()
        for _ in range(3):
            await asyncio.sleep(0)
        if self._failing:
            self._failing -= 1
            self.noted |= noted
            raise TransportUnavailableError("away")
        self.written |= noted


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("before", [0, 1])
def test_what_is_committed_while_offsets_are_written_is_written_without_another_record(
    failing: int, before: int
) -> None:
    def make() -> Scene:
        offsets = Offsets(failing)

        async def first() -> None:
            for number in range(before + 1):
                await offsets.commit(number)
                await clock_here().sleep(1)

        def written() -> bool:
            return offsets.written == {*range(before + 1), 100}

        return Scene(
            first,
            lambda: offsets.commit(100),
            lambda: soon(written, lambda: f"noted {offsets.noted}, written {offsets.written}"),
        )

    assert at_each_step(make) > 10


def test_an_alarm_that_is_set_while_it_is_waited_for_rings_in_time_however_late_it_is_set_for() -> None:
    for later_ms in (0, 700, 2_500, 4_700):

        def make(later_ms: int = later_ms) -> Scene:
            clock = clock_here()
            alarm, rung, due = Timer(clock), list[float](), list[float]()

            def set_alarm(in_ms: int) -> None:
                due.append(clock.monotonic() + in_ms / 1000)
                alarm.set(in_ms)

            async def first() -> None:
                set_alarm(5_000)
                alarm.set(6_000)
                while clock.monotonic() < 6:
                    await alarm.wait()
                    rung.append(clock.monotonic())

            async def check() -> None:
                while clock.monotonic() < max(due):
                    await alarm.wait()
                    rung.append(clock.monotonic())
                for moment in due:
                    assert any(moment <= ring <= moment + 0.1 for ring in rung), f"due {due}, rung {rung}"

            return Scene(first, lambda: set_alarm(later_ms), check)

        at_each_step(make)


def test_a_command_that_comes_while_a_batch_goes_in_goes_in_next_and_idle_waits_for_it() -> None:
    def make() -> Scene:
        world = World(clock=clock_here())
        batcher = GroupCommitQueue("counter", world.processor, Pacer(world.clock, 10.0, 50), 50, 100)
        stepping = asyncio.ensure_future(forever(batcher.step))

        async def check() -> None:
            await batcher.idle()
            stepping.cancel()
            assert [world.total(name) for name in ("a", "b")] == [1, 1]

        return Scene(lambda: batcher.submit(command("a")), lambda: batcher.submit(command("b")), check)

    assert at_each_step(make) > 10


def test_rows_that_are_written_while_the_relay_is_at_work_are_published_before_its_next_look() -> None:
    def make() -> Scene:
        world = World(clock=clock_here())
        log = MemoryLog(world.clock, random.Random(1))
        log.create([TopicSettings("totals", 1)])
        pacer = Pacer(world.clock, 0, 1000)
        relay = Relay("counter", world.store.outbox(), MemoryTransport(log), pacer, world.signals, world.clock)
        stepping = asyncio.ensure_future(forever(relay.step))

        async def write(name: str) -> None:
            await world.admit(Counted(name=name, amount=1))
            relay.wake()

        async def check() -> None:
            await soon(
                lambda: log.ends(["totals"]) == {("totals", 0): (0, 2)},
                lambda: log.ends(["totals"]),
                timeout_s=MARK_S / 2,
            )
            await relay.flush()
            stepping.cancel()

        async def first() -> None:
            await write("a")
            await relay.flush()

        return Scene(first, lambda: write("b"), check)

    assert at_each_step(make) > 10


def test_an_intent_that_is_opened_anew_while_its_last_call_ends_is_asked_at_once() -> None:
    def make() -> Scene:
        world, gateway, closed = World(clock=clock_here()), ScriptedGateway("fine"), list[str]()

        def committed(changes: Changes) -> None:
            runner.drop(changes.closed_intents)
            closed.extend(changes.closed_intents)
            runner.take(changes.opened)

        processor = Processor(world.service, world.store, world.policy, world.signals, world.clock, committed)
        answers = GroupCommitQueue("counter", processor, Pacer(world.clock, 1.0, 100), 100, 1000)
        runner = runner_of(world, gateway, answers)
        stepping = asyncio.ensure_future(forever(answers.step))

        async def first() -> None:
            await processor.admit("counter", [world.read(Asked(name="k"))])
            await soon(lambda: bool(closed), world.intents)

        def again() -> None:
            # As the quickest of other processes, whose event came in just behind the answer.
            if closed:
                world.database.state.intents["ask:k"] = AskedRow(opened, 0)
                runner.take([opened])

        async def check() -> None:
            await soon(lambda: not world.intents(), world.intents)
            stepping.cancel()
            played.append(len(gateway.calls))

        opened = OpenIntent(intent=intent_of("k"), key="k", cause=uuid4(), traceparent=None)
        return Scene(first, again, check)

    played: list[int] = []
    at_each_step(make)
    assert set(played) == {1, 2}


def test_a_wish_to_notify_while_a_notification_goes_out_is_followed_by_another() -> None:
    def make() -> Scene:
        asked, heard = [0], [0]

        async def send() -> None:
            said = asked[0]
            for _ in range(3):
                await asyncio.sleep(0)
            heard[0] = said

        notifier = RelayNotifier(send)

        def notify() -> None:
            asked[0] += 1
            notifier.notify()

        async def first() -> None:
            notify()
            await clock_here().sleep(1)

        return Scene(first, notify, lambda: soon(lambda: heard[0] == 2, lambda: heard))

    assert at_each_step(make) > 5


def clock_here() -> VirtualClock:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return VirtualClock(loop)


def runner_of(world: World, gateway: ScriptedGateway, answers: GroupCommitQueue) -> SideEffectRunner:
    patience = RetryLoop("counter", "gateway", Backoff(1, 2), world.signals, world.clock, random.Random(1))
    return SideEffectRunner(
        "counter",
        gateway,
        world.store,
        answers,
        patience,
        world.signals,
        world.clock,
        concurrency=8,
        queue_max=100,
        lease_ms=15_000,
    )


async def forever(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        await step()
