"""What the zoo has shown: slots, leases and looks when another session was there first, or says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from orderflow.core import postgres_log
from orderflow.core.postgres import schema
from orderflow.core.postgres.outbox import PostgresOutboxReader
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.transport import TopicSettings
from orderflow.services.order.service import SERVICE
from orderflow.services.order.storage import Orders
from tests.conformance.store_values import changes, commit, outgoing
from tests.support.postgres import PostgresServer
from tests.support.saga import databases
from tests.support.waiting import eventually

TOPIC = "topic"
SESSION_S = 12.0
SLOTS = 4
ORDER = """
INSERT INTO orders (order_id, customer_id, currency, items, total, payment_method, status, version, event)
VALUES (gen_random_uuid(), 'c', 'EUR', '[{}]', 1, 'm', 'PENDING', 1, 'OrderPlaced') RETURNING order_id
"""
FAIL = "UPDATE orders SET status = 'FAILED', version = 2, event = 'PaymentFailed', reason = 'r' WHERE order_id = $1"
APPEND = "SELECT append_batch($1, '{1}', '{nowhere}', '{NULL}', '{1}', '{0}', '{NULL}', '{NULL}', $2)"


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[postgres_log.PostgresLogTransport]:
    await postgres_log.migrate(database_url)
    transport = await postgres_log.PostgresLogTransport.connect(database_url, session_timeout_s=SESSION_S)
    await transport.create_topics([TopicSettings(TOPIC, 1)])
    yield transport
    await transport.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


async def test_a_slot_that_another_relay_has_taken_in_the_meantime_is_not_claimed(database_url: str) -> None:
    """The late one looks before the first takes the slots, and asks for them after it has."""
    await schema.migrate(database_url, [schema.core()])
    queries = load_queries("orderflow.core.postgres")
    before = queries["outbox_standing"] + " AND classid <> 1868981601"
    store = await PostgresStore.connect(database_url, tables=[], slots=SLOTS)
    late = PostgresOutboxReader(
        database_url, "late", {**queries, "outbox_standing": before}, SLOTS, "late", lambda _: None, 60.0
    )
    try:
        first = store.outbox()
        assert await first.claim_slots() == frozenset(range(SLOTS))
        assert await late.claim_slots() == frozenset()
    finally:
        await late.close()
        await store.close()


async def test_what_a_relay_remembers_of_rows_ends_with_its_slots(database_url: str) -> None:
    """Then the table is asked, which is the truth."""
    await schema.migrate(database_url, [schema.core()])
    store = await PostgresStore.connect(database_url, tables=[], slots=SLOTS)
    connection = await asyncpg.connect(database_url)
    try:
        first = store.outbox()
        await first.claim_slots()
        numbers = range(4 * SLOTS)
        await commit(store, changes(outbox=[outgoing(f"key-{n}", b"as written", SLOTS) for n in numbers]))
        await connection.execute("UPDATE outbox SET value = 'as it stands'")
        assert {row.value for row in await first.unsent(100)} == {b"as written"}
        await store.outbox().claim_slots()
        await first.claim_slots()
        assert {row.value for row in await first.unsent(100)} == {b"as it stands"}
    finally:
        await connection.close()
        await store.close()


class Lease:
    """The one member's lease, looked at until it has been renewed so often."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.always_held = True
        self._connection = connection
        self._ends: set[object] = set()

    async def renewed_twice(self) -> bool:
        [row] = await self._connection.fetch(
            "SELECT expires_at, expires_at > clock_timestamp() AS is_held FROM group_members"
        )
        self._ends.add(row["expires_at"])
        self.always_held &= row["is_held"]
        return len(self._ends) > 2


async def test_a_member_that_has_nothing_to_do_keeps_its_lease(
    log: postgres_log.PostgresLogTransport, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await log.subscribe("group", [TOPIC])
    lease = Lease(connection)
    await eventually(lease.renewed_twice)
    assert lease.always_held


async def test_a_record_of_which_nobody_has_been_told_is_found(
    log: postgres_log.PostgresLogTransport, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """By a member that has looked at everything since it has joined."""
    member = await log.subscribe("group", [TOPIC])
    polling = asyncio.create_task(member.poll(10))
    try:
        await eventually(Lease(connection).renewed_twice)
        await connection.execute(APPEND, [await connection.fetchval("SELECT id FROM partitions")], [b"\x90"])
        await eventually(polling.done)
        assert len(await polling) == 1
    finally:
        polling.cancel()


async def test_who_does_not_hold_a_partition_any_more_commits_nothing_there(
    log: postgres_log.PostgresLogTransport, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    renew = load_queries("orderflow.core.postgres_log")["renew"]
    await log.subscribe("group", [TOPIC])
    [row] = await connection.fetch("SELECT * FROM group_offsets")
    group, partition, generation = row["group_id"], [row["partition_id"]], row["owner_generation"]

    async def committed_after(member: object, since: int, offset: int) -> int:
        await connection.execute(renew, group, member, int(1000 * SESSION_S), partition, [since], [offset])
        committed: int = await connection.fetchval("SELECT committed FROM group_offsets")
        return committed

    assert await committed_after(uuid4(), generation, 5) == 0
    assert await committed_after(row["owner"], generation - 1, 5) == 0
    assert await committed_after(row["owner"], generation, 5) == 5


@pytest.mark.parametrize("ends", [True, False])
async def test_who_waits_hears_of_orders_that_fail_too(postgres: PostgresServer, ends: bool) -> None:
    with databases(postgres, "order") as made:
        await made.migrate()
        store = await PostgresStore.connect(made.urls["order"], tables=tables_of(SERVICE.tables))
        connection = await asyncpg.connect(made.urls["order"])
        try:
            order_id = await connection.fetchval(ORDER)
            if ends:
                await connection.execute(FAIL, order_id)
            assert await Orders(store).finished_among([order_id]) == ({order_id} if ends else set())
        finally:
            await connection.close()
            await store.close()
