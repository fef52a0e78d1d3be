"""Read access to the databases of all services and of the bank: one snapshot each, for one audit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from orderflow.messaging.stores.postgres.connections import Connection, connect, leave
from orderflow.messaging.stores.postgres.errors import translated
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.recovery import counting_query
from orderflow.registry import SAGA, service_names, service_of

SERVICES = SAGA
BANK = "bank"
STATEMENT_TIMEOUT_MS = 600_000


class Databases:
    """Asks named queries. Nothing is ever written."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._connections = connections
        self._queries = load_queries("orderflow.audit")
        self._counting = counting_query()
        self.services = tuple(name for name in service_names() if name in connections)
        """The saga's, and those that other distributions add."""

    async def ask(self, database: str, query: str, *arguments: object) -> Sequence[Any]:
        """All rows of a named query. Raises StoreUnavailableError."""
        return await self.run(database, self._queries[query], *arguments)

    async def run(self, database: str, statement: str, *arguments: object) -> Sequence[Any]:
        """All rows. Raises StoreUnavailableError."""
        connection = self._connections[database]
        with translated(connection):
            rows: Sequence[Any] = await connection.fetch(statement, *arguments)
        return rows

    async def waiting(self, service: str) -> Sequence[Any]:
        """What waits there, by consumer, as the service itself counts it. Raises StoreUnavailableError."""
        return await self.run(service, self._counting)

    @asynccontextmanager
    async def snapshots(self) -> AsyncIterator[None]:
        """Within, each database is seen as of one moment: the order service first, the bank last.

        So whatever the first has seen done, the others have seen as well. Raises StoreUnavailableError.
        """
        async with AsyncExitStack() as stack:
            for connection in self._connections.values():
                # Also at the end: a session that was lost meanwhile says so when it is left.
                stack.enter_context(translated(connection))
                await stack.enter_async_context(connection.transaction(isolation="repeatable_read", readonly=True))
                await connection.execute("SELECT 1")
            yield


def audited() -> tuple[str, ...]:
    """The databases of an audit, in the order in which they are seen."""
    return (*service_names(), BANK)


def topics() -> tuple[str, ...]:
    """Every topic that a service writes."""
    return tuple(dict.fromkeys(topic for name in service_names() for topic in service_of(name).publishes))


@asynccontextmanager
async def opened(urls: Mapping[str, str]) -> AsyncIterator[Databases]:
    """Connect to the databases of `audited`, each by its URL. Raises StoreUnavailableError, SchemaBehindError."""
    async with AsyncExitStack() as stack:
        connections: dict[str, Connection] = {}
        for database in (name for name in audited() if name in urls):
            connection = await connect(
                urls[database],
                application_name="orderflow audit",
                statement_timeout_ms=STATEMENT_TIMEOUT_MS,
                # While one database is read, the snapshots of the others wait.
                settings={"idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS)},
                writable=False,
            )
            stack.push_async_callback(leave, connection)
            connections[database] = connection
        yield Databases(connections)
