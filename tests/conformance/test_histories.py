"""Random histories through the memory twins and PostgreSQL: all answers are the same."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from orderflow.core import postgres_log
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import SystemClock
from tests.conformance import log_histories
from tests.conformance.histories import Pair, Side, difference, history, shortened
from tests.conformance.log_histories import LogSide, Sides
from tests.conformance.store_backends import MemoryBackend, PostgresBackend
from tests.support.postgres import PostgresServer

FIRST = int(os.environ.get("ORDERFLOW_HISTORIES_FIRST", "0"))
COUNT = int(os.environ.get("ORDERFLOW_HISTORIES", "60"))
"""How many histories, and the first seed: for the night."""

EMPTY = """
DELETE FROM parked_events; DELETE FROM edited_events; DELETE FROM processed_events; DELETE FROM streams;
DELETE FROM outbox_pending; DELETE FROM outbox; DELETE FROM intents; DELETE FROM parked_history;
DELETE FROM replay_events; DELETE FROM replays; DELETE FROM operator_actions; DELETE FROM letter_notes;
DELETE FROM expired_records; DELETE FROM outage_overrules; DELETE FROM faults; DELETE FROM fault_readers;
DELETE FROM parcels; DELETE FROM counters; DELETE FROM moves; UPDATE fault_revision SET number = 1;
"""
AGE = """
UPDATE segments SET opened_at = opened_at - $1 * interval '1 day', closed_at = closed_at - $1 * interval '1 day'
WHERE opened_at IS NOT NULL
"""


@pytest.fixture
async def stores(postgres: PostgresServer, database_url: str) -> AsyncIterator[Pair]:
    """Makes an empty store in memory, and the one in PostgreSQL as if empty."""
    backend = PostgresBackend(postgres, database_url)
    store = await backend.open()
    assert isinstance(store, PostgresStore)
    connection = await asyncpg.connect(database_url)

    async def fresh() -> tuple[Any, Any]:
        for reader in list(store.readers):
            await reader.close()
        await connection.execute(EMPTY)
        memory = MemoryBackend()
        return Side(await memory.open(), memory.faults()), Side(store, backend.faults())

    yield fresh
    await connection.close()
    await backend.close()


async def test_a_store_in_memory_answers_as_one_in_postgres(stores: Pair) -> None:
    for seed in range(FIRST, FIRST + COUNT):
        found = await difference(history(seed), stores)
        if found is not None:
            pytest.fail(f"seed {seed}, {await shortened(found, stores)}")


@pytest.fixture
async def logs(database_url: str) -> AsyncIterator[Sides]:
    """Makes an empty log in memory, and names in the one in PostgreSQL that nobody has used."""
    await postgres_log.migrate(database_url)
    transport = await postgres_log.PostgresLogTransport.connect(database_url, session_timeout_s=600)
    connection = await asyncpg.connect(database_url)

    async def expire(_: Sequence[str]) -> None:
        for days in (2, 8):
            await connection.execute(AGE, days)
            await transport.drop_expired()

    async def fresh() -> tuple[LogSide, LogSide]:
        log, tag = MemoryLog(SystemClock(), random.Random(1)), uuid4().hex[:8]

        async def forget(topics: Sequence[str]) -> None:
            for topic in topics:
                log.expire(topic)

        memory = LogSide(MemoryTransport(log), tag, forget)
        memory.unread = log_histories.unread(log, memory)
        return memory, LogSide(transport, tag, expire)

    yield fresh
    await connection.close()
    await transport.close()


async def test_a_log_in_memory_answers_as_one_in_postgres(logs: Sides) -> None:
    for seed in range(FIRST, FIRST + COUNT // 4):
        found = await log_histories.difference(log_histories.history(seed), logs)
        if found is not None:
            pytest.fail(f"seed {seed}, {await shortened(found, logs, log_histories.difference)}")
