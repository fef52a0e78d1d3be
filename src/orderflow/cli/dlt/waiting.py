"""The parked events of a database, read from its table, whichever release it belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from orderflow.messaging.recovery.port import Letter
from orderflow.messaging.stores.postgres.connections import connect, leave
from orderflow.messaging.stores.postgres.core_rows import read_parked
from orderflow.messaging.stores.postgres.errors import translated
from orderflow.messaging.stores.postgres.queries import load_queries

PAGE = 500


async def read_waiting(url: str) -> AsyncIterator[Sequence[Letter]]:
    """Pages in order of position. Raises StoreUnavailableError, SchemaBehindError."""
    query = load_queries("orderflow.cli.dlt")["parked"]
    connection = await connect(url, application_name="orderflow dlt check", writable=False)
    try:
        after = 0
        while True:
            with translated(connection):
                rows = await connection.fetch(query, after, PAGE)
            if not rows:
                return
            yield [_letter(row) for row in rows]
            after = rows[-1]["position"]
    finally:
        await leave(connection)


def _letter(row: Any) -> Letter:
    return Letter(
        consumer=row["consumer"],
        event=read_parked(row),
        parked_at=row["parked_at"],
        first_failed_at=None,
        last_failed_at=None,
        next_attempt_at=row["parked_at"],
    )
