"""The relay over a real outbox and a real log, when the database is in its way or its process stands still."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import asyncpg
import pytest

from orderflow.core import postgres_log
from orderflow.core.postgres import schema
from orderflow.core.postgres.outbox import SLOT_LOCKS
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.store import Act, OutboxFilter, StoreUnavailableError
from orderflow.core.telemetry import Signal, Signals, Waiting
from orderflow.core.transport import ProducerRecord, TopicSettings
from tests.conformance.store_values import changes, commit, outgoing
from tests.support.callers import person
from tests.support.postgres import PostgresServer
from tests.support.relaying import RelayProcess, RunningRelay
from tests.support.waiting import eventually

TOPIC = "parcel-events"
SILENCE_S = 8.0


class Watched:
    """A log for a relay, and what happens once something was appended there."""

    def __init__(self, log: postgres_log.PostgresLogTransport, after_append: Callable[[], None]) -> None:
        self._log = log
        self._after_append = after_append

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        await self._log.append(records)
        self._after_append()


@dataclass
class Bench:
    """A service's database and the log's. `told` is what the relays of this process have said."""

    urls: tuple[str, str]
    store: PostgresStore
    log: postgres_log.PostgresLogTransport
    told: list[Signal]
    written: int = 0

    def relay(self, after_append: Callable[[], None] = lambda: None) -> RunningRelay:
        return RunningRelay(self.store, Watched(self.log, after_append), Signals([self.told.append]))

    async def write(self, count: int) -> None:
        """So many rows more, each of a key of its own."""
        numbers = range(self.written, self.written + count)
        await commit(self.store, changes(outbox=[outgoing(f"key-{n}", b"%d" % n) for n in numbers]))
        self.written += count

    async def published(self) -> Counter[int]:
        """How often each row stands in the log."""
        return Counter(int(record.value or b"-1") for record in await self.log.read(TOPIC, 0, 0, 10_000))

    async def has_all(self) -> bool:
        return len(await self.published()) == self.written


@pytest.fixture
async def bench(postgres: PostgresServer, database_url: str) -> AsyncIterator[Bench]:
    log_url = postgres.create_database(f"{database_url.rpartition('/')[2]}_log")
    await schema.migrate(database_url, [schema.core()])
    await postgres_log.migrate(log_url)
    store = await PostgresStore.connect(database_url, tables=[], silence_s=SILENCE_S)
    log = await postgres_log.PostgresLogTransport.connect(log_url)
    await log.create_topics([TopicSettings(TOPIC, 1)])
    yield Bench((database_url, log_url), store, log, [])
    await log.close()
    await store.close()
    postgres.drop_database(log_url.rpartition("/")[2])


async def test_a_row_that_a_stranger_holds_is_published_once_and_holds_up_no_other(bench: Bench) -> None:
    await bench.write(10)
    stranger = await asyncpg.connect(bench.urls[0])
    relay = bench.relay()
    try:
        await stranger.execute("BEGIN")
        await stranger.execute("SELECT FROM outbox_pending ORDER BY id LIMIT 1 FOR UPDATE")
        for _ in range(5):
            await bench.write(10)
            relay.relay.wake()
            await eventually(bench.has_all)
        await eventually(lambda: unsent(bench, 1))
        assert set((await bench.published()).values()) == {1}
        assert [each for each in bench.told if isinstance(each, Waiting)] == []
        await stranger.execute("ROLLBACK")
        await eventually(lambda: unsent(bench, 0))
        assert set((await bench.published()).values()) == {1}
    finally:
        await stranger.close()
        await relay.stop()


async def test_who_owns_slots_and_is_no_relay_is_named_until_it_lets_go(bench: Bench) -> None:
    stranger = await asyncpg.connect(bench.urls[0])
    await stranger.execute("SELECT pg_advisory_lock($1, 3), pg_advisory_lock($1, 4)", SLOT_LOCKS)
    relay = bench.relay()
    try:
        named = f"2 outbox slots are held by database session {stranger.get_server_pid()},"
        await eventually(lambda: relay.relay.problem.startswith(named))
        await stranger.execute("SELECT pg_advisory_unlock_all()")
        await eventually(lambda: not relay.relay.problem)
    finally:
        await stranger.close()
        await relay.stop()


async def test_who_holds_a_lock_that_statements_wait_for_is_named_while_it_does(bench: Bench) -> None:
    held, waiting = await asyncpg.connect(bench.urls[0]), await asyncpg.connect(bench.urls[0])
    await held.execute("SELECT pg_advisory_lock(1)")
    waits = asyncio.create_task(waiting.execute("SELECT pg_advisory_lock(1)"))
    try:
        problem = await eventually(lambda: problem_of(bench.store))
        assert "statements have waited for a lock for " in problem
        assert f"SELECT pg_terminate_backend({held.get_server_pid()})" in problem
        await held.execute("SELECT pg_advisory_unlock(1)")
        await waits
        assert await problem_of(bench.store) == ""
    finally:
        await held.close()
        await waiting.close()


async def problem_of(store: PostgresStore) -> str:
    try:
        await store.ping()
    except StoreUnavailableError as error:
        return str(error)
    return ""


async def unsent(bench: Bench, count: int) -> bool:
    return (await bench.store.backlog()).unsent == count


async def test_a_server_that_becomes_read_only_gets_no_row_published_twice(
    postgres: PostgresServer, bench: Bench
) -> None:
    log = bench.urls[1].rpartition("/")[2]
    postgres.execute(f'ALTER DATABASE "{log}" SET default_transaction_read_only = off')
    await bench.write(10)
    relay = bench.relay(after_append=lambda: read_only(postgres, "on"))
    try:
        await eventually(lambda: sum(isinstance(each, Waiting) for each in bench.told) > 5, timeout_s=60)
        assert set((await bench.published()).values()) == {1}
        assert await unsent(bench, 10)
        read_only(postgres, "off")
        await eventually(lambda: unsent(bench, 0))
        assert set((await bench.published()).values()) == {1}
    finally:
        read_only(postgres, "off")
        await relay.stop()


def read_only(server: PostgresServer, value: str) -> None:
    """Returns when all sessions have been told: a new one is begun only after that."""
    server.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    server.execute("SELECT pg_reload_conf()")
    for _ in range(1_000):
        if server.execute("SHOW default_transaction_read_only").strip() == value:
            return
    raise AssertionError(f"default_transaction_read_only is still not {value}")


async def test_what_the_log_has_lost_is_published_again_in_its_order(postgres: PostgresServer, bench: Bench) -> None:
    await commit(bench.store, changes(outbox=[outgoing("key", b"%d" % n) for n in range(20)]))
    bench.written = 20
    relay = bench.relay()
    try:
        await eventually(bench.has_all)
        await eventually(lambda: unsent(bench, 0))
        postgres.execute("TRUNCATE records", bench.urls[1].rpartition("/")[2])
        assert await bench.published() == {}

        assert await bench.store.republish(OutboxFilter(topic=TOPIC), Act(caller=person("ada")), "all") == 20
        relay.relay.wake()
        await eventually(bench.has_all)

        records = await bench.log.read(TOPIC, 0, 0, 100)
        assert [record.value for record in records] == [b"%d" % n for n in range(20)]
    finally:
        await relay.stop()


async def test_a_process_that_stands_still_loses_its_slots_and_comes_back_as_one_of_two(bench: Bench) -> None:
    other = await RelayProcess.start(*bench.urls, SILENCE_S)
    relay = bench.relay()
    try:
        await eventually(lambda: len(other.slots) == len(relay.relay.slots) == 8, timeout_s=60)
        other.stall()
        await bench.write(40)

        await eventually(bench.has_all)
        assert len(relay.relay.slots) == 16

        other.resume()
        await eventually(lambda: len(other.slots) == len(relay.relay.slots) == 8)
        assert relay.relay.slots.isdisjoint(other.slots)
        await bench.write(40)
        relay.relay.wake()
        bench.store.notify_relays()
        await eventually(bench.has_all)
        assert set((await bench.published()).values()) == {1}
    finally:
        await relay.stop()
        await other.kill()
