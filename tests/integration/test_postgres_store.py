"""What only the PostgreSQL store has: plans, segments, connections, encodings."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import asyncpg
import pytest

from orderflow.core.operations.model import LetterFilter, ReplayPlan, ReplayProgress
from orderflow.core.postgres import schema
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.schema import MigrationSequence
from orderflow.core.postgres.store import PACKAGE, PostgresStore
from orderflow.core.store import (
    Act,
    DataRefusedError,
    End,
    ParkedQuery,
    Plan,
    SchemaBehindError,
    StoreUnavailableError,
)
from orderflow.core.telemetry import Usage
from tests.conformance import store_tables
from tests.conformance.store_tables import Counter, Parcel
from tests.conformance.store_values import (
    changes,
    commit,
    dead,
    entry,
    intent,
    outgoing,
    park,
    parked,
    sequence,
)
from tests.support.callers import person
from tests.support.waiting import eventually


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    own = MigrationSequence.from_package("parcels", store_tables.__name__, store_tables.tables())
    await schema.migrate(database_url, [schema.core(), own])
    opened = await PostgresStore.connect(database_url, tables=store_tables.tables(), patience_s=60)
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "row",
    [
        Parcel(parcel_id="nul", note="a\x00b"),
        Parcel(parcel_id="surrogate", note="\ud800"),
        Parcel(parcel_id="big", weight=2**31),
        Parcel(parcel_id="huge", weight=2**80),
    ],
)
async def test_values_that_a_column_cannot_hold_are_refused_data(store: PostgresStore, row: Parcel) -> None:
    with pytest.raises(DataRefusedError):
        await commit(store, changes(rows=[row]))
    await commit(store, changes(rows=[Parcel(parcel_id="next")]))


async def read_so_far(store: PostgresStore) -> dict[str, int]:
    """How many rows and index entries each table's scans have returned, by the server's own count."""
    await store.work.fetch("SELECT pg_stat_force_next_flush()")
    rows = await store.fetch(
        """SELECT relname, pg_stat_get_tuples_returned(pg_class.oid) + (
            SELECT coalesce(sum(pg_stat_get_tuples_returned(indexrelid)), 0)::bigint
            FROM pg_index WHERE indrelid = pg_class.oid
        )
        FROM pg_class WHERE relname IN ('processed_events', 'streams', 'parked_events', 'intents', 'counters')"""
    )
    return {row[0]: row[1] for row in rows}


async def test_no_batch_reads_a_whole_table_however_its_plans_were_made(
    store: PostgresStore, database_url: str
) -> None:
    """The plans are made on empty tables; then the tables are filled, and counted reads must stay few."""
    batch = [entry(f"key-{n}", "1") for n in range(20)]

    async def work(first: int) -> None:
        keys = [f"key-{n}" for n in range(first, first + 20)]
        async with store.transaction() as tx:
            rows = [Counter(counter_id=key, value=0).ref for key in keys]
            loaded = (
                await tx.open(Plan("shop", [(key, "2") for key in keys], [1], rows, ParkedQuery(keys, 10)))
            ).rows
            await tx.commit(
                changes(
                    rows=[Counter(counter_id=key, value=first) for key in keys],
                    existing=frozenset(loaded),
                    emitted={("/shop", key): first + 1 for key in keys},
                    closed_intents=[f"charge:{key}" for key in keys],
                )
            )

    await commit(store, changes(inbox=batch))
    await work(0)
    async with asyncio.timeout(240):
        for first in range(100, 4000, 500):
            keys = [f"key-{n}" for n in range(first, first + 500)]
            await commit(
                store,
                changes(
                    rows=[Counter(counter_id=key, value=1) for key in keys],
                    inbox=[entry(key, "1") for key in keys],
                    emitted={("/shop", key): 1 for key in keys},
                    opened=[intent(key) for key in keys],
                ),
            )
            await park(store, *[parked(f"parked-{key}", "1", attempts=0) for key in keys])
    before = await read_so_far(store)
    await work(200)
    after = await read_so_far(store)
    assert {name: count - before[name] for name, count in after.items() if count - before[name] > 500} == {}


async def test_sent_segments_are_truncated_and_the_others_are_not(store: PostgresStore) -> None:
    reader = store.outbox()
    await reader.claim_slots()

    async def counts() -> list[int]:
        rows = await store.fetch(
            "SELECT count(outbox.id) FROM generate_series(0, 3) n LEFT JOIN outbox ON segment = n"
            " GROUP BY n ORDER BY n"
        )
        return [row[0] for row in rows]

    await commit(store, changes(outbox=[outgoing("k", b"1")]))
    assert await store.purge(0) == 0
    await commit(store, changes(outbox=[outgoing("k", b"2")]))
    assert await counts() == [1, 1, 0, 0]
    rows = await reader.unsent(10)
    await reader.mark_sent([rows[1].id])
    assert await store.purge(0) == 1
    assert await counts() == [1, 0, 0, 0], "the older one is unsent and stays"
    await reader.mark_sent([rows[0].id])
    assert await store.purge(0) == 1
    assert await counts() == [0, 0, 0, 0]


async def test_rows_of_this_process_are_not_read_back_and_those_of_others_are(store: PostgresStore) -> None:
    """Seen by changing in the table what was committed: nobody does, so it tells where a row came from."""
    reader = store.outbox()
    await reader.claim_slots()
    await commit(store, changes(outbox=[outgoing("k", b"1")]))
    with pytest.raises(ValueError, match="rolled back"):
        async with store.transaction() as tx:
            await tx.commit(changes(outbox=[outgoing("k", b"never")]), End.ROLLBACK)
            raise ValueError("rolled back")
    await store.fetch(
        "WITH others AS (INSERT INTO outbox (segment, slot, topic, key, value, headers, event_id)"
        " SELECT segment, slot, topic, key, value, headers, event_id FROM outbox RETURNING id, segment, slot)"
        " INSERT INTO outbox_pending (id, segment, slot) SELECT id, segment, slot FROM others"
    )
    await commit(store, changes(outbox=[outgoing("k", b"3")]))
    await store.fetch("UPDATE outbox SET value = 'table'")
    rows = await reader.unsent(10)
    assert [row.value for row in rows] == [b"1", b"table", b"3"]
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    other = store.outbox()
    await reader.close()
    await other.claim_slots()
    assert [row.value for row in await other.unsent(10)] == [b"table"] * 3


async def test_a_segment_that_somebody_is_writing_to_is_left_alone(store: PostgresStore, database_url: str) -> None:
    await commit(store, changes(outbox=[outgoing("k", b"1")]))
    reader = store.outbox()
    await reader.claim_slots()
    await reader.mark_sent([row.id for row in await reader.unsent(10)])
    writer = await asyncpg.connect(database_url)
    async with writer.transaction():
        await writer.execute("LOCK TABLE outbox_0 IN ROW EXCLUSIVE MODE")
        assert await store.purge(0) == 0
    await writer.close()
    assert await store.purge(0) == 1


@pytest.mark.usefixtures("store")
async def test_who_waits_too_long_for_a_connection_is_told(database_url: str) -> None:
    hasty = await PostgresStore.connect(database_url, tables=[], transactions_max=2, patience_s=0.1)
    async with hasty.transaction(), hasty.transaction():
        waiting = asyncio.ensure_future(hasty.due_keys("c", 1))
        await asyncio.sleep(0)
        assert hasty.pools() == {"work": Usage(2, 2, 1), "reads": Usage(0, 4, 0)}
        with pytest.raises(StoreUnavailableError, match="no connection came free"):
            await waiting
    assert hasty.pools()["work"] == Usage(0, 2, 0)
    await hasty.ping()
    await hasty.close()


async def test_connections_are_used_again_and_end_outside_of_any_transaction(store: PostgresStore) -> None:
    for n in range(5):
        await commit(store, changes(inbox=[entry("k", str(n))]))
        with pytest.raises(DataRefusedError):
            await commit(store, changes(rows=[Counter(counter_id="a", value=-1)]))
    rows = await store.fetch(
        "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name = 'orderflow'"
    )
    assert [row[0] for row in rows] == ["idle"]


async def test_an_idle_connection_that_was_cut_is_not_lent_again(store: PostgresStore) -> None:
    idle = await store.work.acquire()
    store.work.release(idle, reusable=True)
    await store.fetch("SELECT pg_terminate_backend($1)", idle.get_server_pid())
    await eventually(idle.is_closed)
    await store.ping()


async def test_a_cancelled_batch_gives_its_locks_back_at_once(store: PostgresStore) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with store.transaction() as tx:
            await tx.open(Plan("shop", locks=[1]))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    task.cancel()
    async with asyncio.timeout(60), store.transaction() as tx:
        await tx.open(Plan("shop", locks=[1]))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_server_that_is_frozen_is_given_up_and_works_again_when_it_thaws(
    store: PostgresStore, database_url: str
) -> None:
    hasty = await PostgresStore.connect(database_url, tables=[], statement_timeout_ms=2_000)
    (row,) = await hasty.work.fetch("SELECT pg_backend_pid() AS pid")
    os.kill(row["pid"], signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailableError):
            await hasty.ping()
    finally:
        os.kill(row["pid"], signal.SIGCONT)
    await hasty.ping()
    await hasty.close()


async def test_a_missing_table_is_a_schema_that_is_behind(store: PostgresStore) -> None:
    with pytest.raises(SchemaBehindError, match="orderflow migrate"):
        await store.fetch("SELECT * FROM not_there")


async def test_a_server_that_is_not_there_is_infrastructure() -> None:
    with pytest.raises(StoreUnavailableError):
        await PostgresStore.connect("postgresql://nobody@127.0.0.1:1/none", tables=[])


async def test_every_query_of_the_core_is_right_on_a_fresh_schema(store: PostgresStore, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    files = ("queries.sql", "recovery.sql", "replays.sql")
    for name, sql in [item for file in files for item in load_queries(PACKAGE, file).items()]:
        try:
            await connection.prepare(sql)
        except asyncpg.PostgresError as error:
            pytest.fail(f"{name}: {error}")
    await connection.close()


async def test_an_outage_in_the_middle_of_parking_leaves_nothing_half_done(store: PostgresStore) -> None:
    await park(store, parked("k", "1"))
    with pytest.raises(DataRefusedError):
        await park(store, parked("l", "1"), parked("k", "1"))
    assert [line.keys for line in await store.recovery.summary()] == [1]


async def test_a_replay_waits_for_who_is_just_discarding_the_event_and_then_leaves_it(
    store: PostgresStore, database_url: str
) -> None:
    await park(store, dead("k", "1"), dead("l", "1"))
    positions = [letter.position for letter in await store.recovery.letters(LetterFilter(), 10)]
    begun = await store.recovery.begin_replay(positions, ReplayPlan(), Act(caller=person("ada")), 0, "all")
    number = begun.number
    await store.recovery.claim_replay(60_000)
    (head,) = await sequence(store, "k")
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.fetch(load_queries(PACKAGE)["release"], [head.position], "bob", "he knows")
        sending = asyncio.create_task(store.recovery.send(number, 10))
        await eventually(lambda: waits_for_a_row(store))
        assert not sending.done()
    await other.close()
    assert await sending == [("shop", "l")]
    replay = await store.recovery.replay(number)
    assert replay is not None
    assert replay.progress == ReplayProgress(under_way=1, gone=1)


async def waits_for_a_row(store: PostgresStore) -> bool:
    rows = await store.fetch(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(rows[0][0])
