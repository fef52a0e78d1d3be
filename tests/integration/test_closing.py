"""What is closed leaves no session behind, wherever its beginning or its end was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from orderflow.bank import SimulatedBank
from orderflow.bank.postgres import PostgresBook, bank_migrations
from orderflow.core.postgres import schema
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres_log import PostgresLogTransport, migrate
from orderflow.core.timing import SystemClock
from orderflow.core.transport import TopicSettings
from orderflow.runtime.process import run_service
from tests.support.locks import holding
from tests.support.sample import running as sample
from tests.support.sample.service import SERVICE
from tests.support.waiting import eventually, interrupted

TOPIC = "topic"


class Onlooker:
    """A session that watches the others of its database."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def sees_nobody(self) -> bool:
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        found = await self._connection.fetchval(f"{others} AND backend_type = 'client backend'")
        return bool(found == 0)

    async def sees_waiting_for(self, table: str) -> bool:
        """Whether somebody waits for a lock on this table."""
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass"
        found = await self._connection.fetchval(waiting, table)
        return bool(found > 0)


@pytest.fixture
async def onlooker(database_url: str) -> AsyncIterator[Onlooker]:
    connection = await asyncpg.connect(database_url)
    yield Onlooker(connection)
    await connection.close()


async def test_a_service_that_is_stopped_while_it_starts_leaves_no_session(
    database_url: str, onlooker: Onlooker, tmp_path: Path
) -> None:
    await sample.migrate(database_url)
    stop = asyncio.Event()
    async with AsyncExitStack() as locks:
        topics = await locks.enter_async_context(AsyncExitStack())
        await topics.enter_async_context(holding(database_url, "LOCK TABLE topics"))
        service = run_service(SERVICE, sample.settings(database_url, tmp_path), announce=lambda _: None, stop=stop)
        task = asyncio.create_task(service)
        await eventually(lambda: onlooker.sees_waiting_for("topics"))
        await locks.enter_async_context(holding(database_url, "LOCK TABLE installation"))
        await topics.aclose()
        await eventually(lambda: onlooker.sees_waiting_for("installation"))

        stop.set()

        assert await task == 0
    await eventually(onlooker.sees_nobody)


async def test_a_consumer_that_is_interrupted_while_it_leaves_its_group_leaves_no_session(
    database_url: str, onlooker: Onlooker
) -> None:
    await migrate(database_url)
    transport = await PostgresLogTransport.connect(database_url)
    await transport.create_topics([TopicSettings(TOPIC, 1)])
    consumer = await transport.subscribe("group", [TOPIC])
    async with holding(database_url, "LOCK TABLE groups"):
        leaving = asyncio.create_task(consumer.close())
        await eventually(lambda: onlooker.sees_waiting_for("groups"))

        leaving.cancel()

        await asyncio.wait({leaving})
    await transport.close()
    await eventually(onlooker.sees_nobody)


async def test_a_relay_that_is_interrupted_while_it_gives_up_its_slots_leaves_no_session(
    database_url: str, onlooker: Onlooker
) -> None:
    await schema.migrate(database_url, [schema.core()])
    store = await PostgresStore.connect(database_url, tables=[])
    reader = store.outbox()
    assert await reader.claim_slots()

    await interrupted(reader.close())

    await store.close()
    await eventually(onlooker.sees_nobody)


async def test_a_pool_that_is_interrupted_while_it_closes_leaves_no_session(
    database_url: str, onlooker: Onlooker
) -> None:
    await schema.migrate(database_url, [schema.core()])
    store = await PostgresStore.connect(database_url, tables=[])
    lent = [await store.work.acquire() for _ in range(3)]
    for connection in lent:
        store.work.release(connection, reusable=True)

    await interrupted(store.close())

    await eventually(onlooker.sees_nobody)


async def test_a_bank_that_is_interrupted_while_it_waits_for_its_groups_leaves_no_session(
    database_url: str, onlooker: Onlooker
) -> None:
    await schema.migrate(database_url, [bank_migrations()])
    bank = SimulatedBank(PostgresBook(database_url), SystemClock())
    await asyncio.gather(bank.statement([]), bank.statement([]))
    async with holding(database_url, "LOCK TABLE bank_charges"):
        asked: dict[str, Any] = {
            "order_id": str(UUID(int=1)),
            "amount": 1,
            "currency": "EUR",
            "payment_method": "pm_card_visa",
        }
        charging = asyncio.create_task(bank.charge("key", **asked))
        await eventually(lambda: onlooker.sees_waiting_for("bank_charges"))

        await interrupted(bank.close())

        charging.cancel()
        await asyncio.wait({charging})
    await eventually(onlooker.sees_nobody)
