"""A foreign session in PostgreSQL: one that is not ours and holds locks for as long as it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.support.postgres import PostgresServer


@asynccontextmanager
async def holding(url: str, statement: str) -> AsyncIterator[None]:
    """While the block runs, a transaction of somebody else is open that has run `statement`."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        await connection.execute(statement)
        yield
    finally:
        await connection.close()


def waits_for_a_lock(postgres: PostgresServer, url: str) -> bool:
    """Whether a session of the database waits for one."""
    name = url.rpartition("/")[2]
    return (
        postgres.execute(
            f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name}'"
        )
        != "0"
    )
