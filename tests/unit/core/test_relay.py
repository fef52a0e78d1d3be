"""The relay: order kept, marked only after the acknowledgement, started again at the first unsent row."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from datetime import datetime

import pytest

from orderflow.core.dead_letters import with_times
from orderflow.core.relay import CLAIM_S, FRESH_S, Relay
from orderflow.core.store import SILENCE_S, OutboxRecord, StoreUnavailableError
from orderflow.core.telemetry import Relayed, SlotsChanged
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import Pacer
from orderflow.core.transport import TopicSettings, TransportUnavailableError
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Counted
from tests.unit.core.world import World, header, poisoned


class Broker:
    """A log in memory whose append can fail before or after it was carried out."""

    def __init__(self, world: World) -> None:
        self.log = MemoryLog(world.clock, random.Random(1))
        self.log.create([TopicSettings(topic, 3) for topic in ("totals", "flow-status", "counts.DLT")])
        self.fail_at: str | None = None
        self.transport = MemoryTransport(self.log, hop=self._hop)

    async def _hop(self, operation: str) -> None:
        if operation == self.fail_at:
            self.fail_at = None
            raise TransportUnavailableError(operation)

    async def appended(self, topic: str = "totals") -> list[tuple[str, int]]:
        """Key and sequence of all records, in offset order within each partition."""
        records = [record for n in range(3) for record in await self.transport.read(topic, n, 0, 10_000)]
        return [((r.key or b"").decode(), int(header(r.headers, "ce_sequence") or 0)) for r in records]


def relay_of(world: World, broker: Broker) -> Relay:
    return Relay(
        "counter", world.store.outbox(), broker.transport, Pacer(world.clock, 0, 1000), world.signals, world.clock
    )


async def publish(relay: Relay) -> None:
    """Let it run until all is published and marked."""

    async def forever() -> None:
        while True:
            await relay.step()

    running = asyncio.ensure_future(forever())
    flushed = asyncio.ensure_future(relay.flush())
    await asyncio.wait({running, flushed}, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, flushed):
        task.cancel()
    ended = await asyncio.gather(running, flushed, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


def per_key(appended: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    keys: dict[str, list[int]] = {}
    for key, number in appended:
        keys.setdefault(key, []).append(number)
    return keys


async def test_rows_are_published_in_commit_order_of_each_key_with_the_databases_time() -> None:
    world = World()
    broker = Broker(world)
    for _ in range(5):
        await world.admit(*(Counted(name=f"k{n}", amount=1) for n in range(10)))

    await publish(relay_of(world, broker))

    assert per_key(await broker.appended()) == {f"k{n}": [1, 2, 3, 4, 5] for n in range(10)}
    assert world.database.state.pending == {}
    record = (await broker.transport.read("totals", 0, 0, 1))[0]
    assert header(record.headers, "ce_time").endswith("Z")
    assert [signal.count for signal in world.signals_of(Relayed)] == [50]
    assert [len(signal.slots) for signal in world.signals_of(SlotsChanged)] == [16]


@pytest.mark.parametrize("fail_at", ["append", "appended"])
async def test_without_an_acknowledgement_nothing_is_marked_and_the_first_occurrences_stay_in_order(
    fail_at: str,
) -> None:
    world = World()
    broker = Broker(world)
    relay = relay_of(world, broker)
    await world.admit(*(Counted(name="k", amount=1) for _ in range(3)))
    broker.fail_at = fail_at

    with pytest.raises(TransportUnavailableError):
        await relay.step()
    assert len(world.database.state.pending) == 3
    await world.admit(Counted(name="k", amount=1))
    await publish(relay)

    assert list(dict.fromkeys(per_key(await broker.appended())["k"])) == [1, 2, 3, 4]
    assert world.database.state.pending == {}


async def test_a_crash_between_acknowledgement_and_mark_publishes_again() -> None:
    world = World()
    broker = Broker(world)
    await world.admit(Counted(name="k", amount=1))

    await relay_of(world, broker).step()
    for reader in list(world.database.readers):
        reader.cut()
    await publish(relay_of(world, broker))

    assert await broker.appended() == [("k", 1), ("k", 1)]
    assert world.database.state.pending == {}


async def test_what_is_acknowledged_and_cannot_be_marked_is_marked_later_and_not_published_again() -> None:
    world = World()
    broker = Broker(world)
    relay = relay_of(world, broker)
    await world.admit(Counted(name="k", amount=1))
    await relay.step()
    world.lose("mark_sent")
    relay.wake()

    with pytest.raises(StoreUnavailableError, match="mark_sent"):
        await relay.step()
    assert len(world.database.state.pending) == 1
    for reader in list(world.database.readers):
        reader.cut()
    await world.admit(Counted(name="k", amount=1))
    await publish(relay)

    assert await broker.appended() == [("k", 1), ("k", 2)]
    assert world.database.state.pending == {}


async def test_a_row_that_somebody_holds_is_published_once_and_holds_up_no_other() -> None:
    world = World()
    broker = Broker(world)
    relay = relay_of(world, broker)
    await world.admit(Counted(name="k0", amount=1))
    world.database.held.update(world.database.state.pending)
    for _ in range(5):
        await world.admit(*(Counted(name=f"k{n}", amount=1) for n in range(3)))
        relay.wake()
        await relay.step()

    assert per_key(await broker.appended()) == {
        "k0": [1, 2, 3, 4, 5, 6],
        "k1": [1, 2, 3, 4, 5],
        "k2": [1, 2, 3, 4, 5],
    }
    relay.wake()
    await relay.step()
    assert set(relay.held) == world.database.state.pending.keys() == world.database.held
    world.database.held.clear()
    await world.admit(Counted(name="k0", amount=1))
    await publish(relay)

    assert world.database.state.pending == {}
    assert per_key(await broker.appended())["k0"] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("fenced", [True, False])
async def test_after_a_long_stop_nothing_is_published_unless_the_slots_are_still_owned(fenced: bool) -> None:
    world = World()
    broker = Broker(world)
    clock = StillClock()
    reader = world.store.outbox()
    unsent = reader.unsent

    async def stopped(limit: int, acknowledged: Collection[int] = ()) -> Sequence[OutboxRecord]:
        rows = await unsent(limit, acknowledged)
        clock.now += FRESH_S + 1
        if fenced:
            reader.cut()
        return rows

    reader.unsent = stopped  # type: ignore[method-assign]  # the process is stopped between two steps of ours
    relay = Relay("counter", reader, broker.transport, Pacer(clock, 0, 1000), world.signals, clock)
    await world.admit(Counted(name="k", amount=1))

    if fenced:
        with pytest.raises(StoreUnavailableError):
            await relay.step()
    else:
        await relay.step()

    assert await broker.appended() == ([] if fenced else [("k", 1)])


def test_slots_move_within_ten_seconds_and_what_was_read_is_used_no_longer_than_they_are_owned() -> None:
    assert SILENCE_S + CLAIM_S < 10
    assert FRESH_S < SILENCE_S


async def test_two_relays_share_the_slots_and_one_takes_over_from_the_other() -> None:
    world = World(clock=(clock := StillClock()))
    broker = Broker(world)
    first, second = relay_of(world, broker), relay_of(world, broker)
    await world.admit(*(Counted(name=f"k{n}", amount=1) for n in range(40)))
    first.wake()
    await first.step()
    shared = [await shares(each, clock) for each in (second, first, second)]
    assert frozenset().union(*shared) == frozenset(range(16))
    assert first.slots.isdisjoint(second.slots)
    assert first.slots
    assert second.slots

    await first.close()

    assert await shares(second, clock) == frozenset(range(16))


async def shares(relay: Relay, clock: StillClock) -> frozenset[int]:
    """The slots after another look, for which it is time."""
    clock.now += CLAIM_S
    relay.wake()
    await relay.step()
    return relay.slots


async def test_flush_returns_when_everything_committed_before_is_published() -> None:
    world = World()
    broker = Broker(world)
    relay = relay_of(world, broker)
    await world.admit(*(Counted(name=f"k{n}", amount=1) for n in range(5)))

    async def forever() -> None:
        while True:
            await relay.step()

    task = asyncio.ensure_future(forever())
    await relay.flush()
    assert len(await broker.appended()) == 5
    assert world.database.state.pending == {}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_after_a_batch_that_was_all_there_is_the_outbox_is_read_only_when_something_was_written() -> None:
    world = World()
    broker = Broker(world)
    reader = world.store.outbox()
    looks: list[int] = []
    unsent = reader.unsent

    async def counted(limit: int, acknowledged: Collection[int] = ()) -> Sequence[OutboxRecord]:
        looks.append(limit)
        return await unsent(limit, acknowledged)

    reader.unsent = counted  # type: ignore[method-assign]  # only watched: it still reads
    relay = Relay("counter", reader, broker.transport, Pacer(world.clock, 0, 1000), world.signals, world.clock)
    await world.admit(Counted(name="k", amount=1))
    await relay.step()

    second = asyncio.ensure_future(relay.step())
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(looks) == 1
    relay.wake()
    await second
    assert len(looks) == 2


async def test_a_dead_letter_goes_out_with_the_headers_of_its_original_and_no_time_of_its_own() -> None:
    world = World()
    broker = Broker(world)
    from orderflow.core.envelopes import from_record

    await world.admit(from_record(poisoned(5, key=b"k", value=b"\x00"), world.service.catalogue))
    await relay_of(world, broker).step()

    letters = [r for n in range(3) for r in await broker.transport.read("counts.DLT", n, 0, 10)]
    assert [letter.value for letter in letters] == [b"\x00"]
    assert {name for name, _ in letters[0].headers if not name.startswith("dlt_")} == set()
    failed_at = header(letters[0].headers, "dlt_last_failed_at")
    assert abs(datetime.fromisoformat(failed_at).timestamp() - world.clock.wall_ms() / 1000) < 60
    assert header(letters[0].headers, "dlt_first_failed_at") == failed_at


def test_a_first_failure_that_is_known_stays_and_one_of_the_original_is_not_taken_for_it() -> None:
    original = (("dlt_first_failed_at", b"long ago"), ("dlt_first_failed_at", None))

    first_time = with_times((*original, ("dlt_first_failed_at", None)), 1_700_000_000_123)
    again = with_times((*original, ("dlt_first_failed_at", b"2023-11-14T22:00:00.000Z")), 1_700_000_000_123)

    assert first_time[:2] == again[:2] == original
    assert first_time[2:] == (
        ("dlt_first_failed_at", b"2023-11-14T22:13:20.123Z"),
        ("dlt_last_failed_at", b"2023-11-14T22:13:20.123Z"),
    )
    assert again[2:] == (
        ("dlt_first_failed_at", b"2023-11-14T22:00:00.000Z"),
        ("dlt_last_failed_at", b"2023-11-14T22:13:20.123Z"),
    )
