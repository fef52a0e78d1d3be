"""Connections to one database: how they are opened, lent and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from orderflow.messaging.store import StoreUnavailableError
from orderflow.messaging.stores.postgres.errors import translated

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_TIMEOUT_S = 10.0
ANSWER_GRACE_S = 2.0
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 15_000


async def connect(
    url: str,
    *,
    application_name: str,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    lookups_only: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """Open one connection with everything pinned that its user relies on; `settings` are the user's own.

    `lookups_only`: every statement finds rows by key, so the planner may not choose to read a whole table.
    It would on a table that was empty when the plan was made, and keep to that plan when it is full. One
    plan serves all batches: planning anew, which the server prefers for batches of one, costs more than running.
    Keep-alives end the session of a peer that is gone within about 8 s, and with it its locks; a server that
    does not even say that its statement timed out (0: never) is given up `ANSWER_GRACE_S` later. Raises
    StoreUnavailableError, SchemaBehindError (no such database).
    """
    with translated():
        return await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=statement_timeout_ms / 1000 + ANSWER_GRACE_S if statement_timeout_ms else None,
            server_settings=_session(application_name, statement_timeout_ms, lookups_only) | dict(settings or {}),
        )


def _session(application_name: str, statement_timeout_ms: int, lookups_only: bool) -> dict[str, str]:
    settings = {
        "application_name": application_name,
        "search_path": "public",
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": str(min(LOCK_TIMEOUT_MS, statement_timeout_ms)),
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "8000",
        "jit": "off",
        # A bitmap scan leaves what it has found dead in an index to the next scan, which here comes soon.
        "enable_bitmapscan": "off",
    }
    if lookups_only:
        settings |= {
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "plan_cache_mode": "force_generic_plan",
        }
    return settings


class Connections:
    """Lends connections, the last one given back first, opening up to `limit` as they are needed.

    Leaner than the driver's pool: nothing is reset between uses, because every user here ends its
    transaction and sets nothing.
    """

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        limit: int,
        patience_s: float,
        lookups_only: bool,
        statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    ) -> None:
        self._url = url
        self._application_name = application_name
        self._lookups_only = lookups_only
        self._statement_timeout_ms = statement_timeout_ms
        self._patience_s = patience_s
        self._free = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._closed = False

    async def acquire(self) -> Connection:
        """Raises StoreUnavailableError: closed, unreachable, or none came free within the patience."""
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            connection = self._pop() or await connect(
                self._url,
                application_name=self._application_name,
                statement_timeout_ms=self._statement_timeout_ms,
                lookups_only=self._lookups_only,
            )
        except BaseException:
            self._free.release()
            raise
        self._lent.add(connection)
        return connection

    def release(self, connection: Connection, *, reusable: bool) -> None:
        """Give back; one that is not reusable is cut off at once."""
        self._lent.discard(connection)
        if reusable and not self._closed and not connection.is_closed():
            self._idle.append(connection)
        else:
            connection.terminate()
        self._free.release()

    async def close(self) -> None:
        """Close what is idle in good order and cut off what is lent. Idempotent."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            try:
                await connection.close(timeout=2)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
        for connection in list(self._lent):
            connection.terminate()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailableError(f"no connection came free within {self._patience_s:g} s") from None

    def _pop(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None
