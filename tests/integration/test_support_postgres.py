"""The test server itself: tests that stop it must be able to trust it."""

from __future__ import annotations

import asyncpg

from tests.support.postgres import PostgresServer


async def test_committed_rows_survive_a_crash_of_the_server() -> None:
    server = PostgresServer()
    try:
        server.start()
        url = server.create_database("shop")
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        server.crash()
        server.start()
        again = await asyncpg.connect(url)
        assert await again.fetchval("SELECT n FROM t") == 1
        await again.close()
        connection.terminate()
    finally:
        server.remove()


async def test_every_test_gets_an_empty_database_of_its_own(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert (await connection.fetchval("SHOW server_version")).startswith("18")
    await connection.close()
