"""One connection to the log's database that comes back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from orderflow.messaging.transport import TransportUnavailableError
from orderflow.messaging.transports.postgres_log.errors import translated

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_TIMEOUT_S = 5.0

_SERVER_SETTINGS = {
    "application_name": "orderflow-log",
    # A peer that is gone without a word frees its locks within seconds, not within the two hours of the default.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8000",
    "idle_in_transaction_session_timeout": "30000",
    "jit": "off",
    # The statements are few and always the same; a plan made while the tables were empty must still be right
    # when they are full.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
}


class Link:
    """Runs one statement at a time; connects when it has to.

    After any error that may have left the connection in doubt it is dropped, and the next call makes a new
    one. `on_notify` gets (channel, payload); `on_connect` is called for each new connection, `on_loss` when one
    that was open is gone.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        settings: Mapping[str, str] | None = None,
        on_notify: Callable[[str, str], None] | None = None,
        on_connect: Callable[[], None] | None = None,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._settings = {**_SERVER_SETTINGS, **(settings or {})}
        self._on_notify = on_notify
        self._on_connect = on_connect
        self._on_loss = on_loss
        self._connection: Connection | None = None
        self._channels: list[str] = []
        self._heard: set[str] = set()
        self._turn = asyncio.Lock()
        self._closed = False

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Raises TransportUnavailableError."""
        async with self._turn:
            connection = await self._open()
            try:
                with translated():
                    return await connection.fetch(statement, *arguments, timeout=self._timeout_s)
            except TransportUnavailableError:
                self._drop()
                raise

    async def value(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row. Raises TransportUnavailableError."""
        rows = await self.fetch(statement, *arguments)
        return rows[0][0] if rows else None

    async def listen(self, channel: str) -> None:
        """Hear this channel on the present connection and on every later one. Raises as `fetch`."""
        if channel in self._channels:
            return
        self._channels.append(channel)
        async with self._turn:
            connection = await self._open()
            try:
                with translated():
                    await self._hear(connection, channel)
            except TransportUnavailableError:
                self._drop()
                raise

    def abort(self) -> None:
        """Close for good without a word to the server."""
        self._closed = True
        self._drop()

    async def close(self) -> None:
        """Close for good. Idempotent."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await connection.close(timeout=1.0)

    async def _open(self) -> Connection:
        if self._closed:
            raise TransportUnavailableError("the connection to the log was closed")
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        with translated():
            connection = await asyncpg.connect(
                self._url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=self._timeout_s,
                server_settings=self._settings,
            )
        self._connection = connection
        self._heard.clear()
        connection.add_termination_listener(self._lost)
        try:
            with translated():
                for channel in self._channels:
                    await self._hear(connection, channel)
        except BaseException:
            self._drop()
            raise
        if self._on_connect is not None:
            self._on_connect()
        return connection

    async def _hear(self, connection: Connection, channel: str) -> None:
        if channel not in self._heard:
            await connection.add_listener(channel, self._notified)
            self._heard.add(channel)

    def _notified(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        if self._on_notify is not None:
            self._on_notify(channel, str(payload))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            self._tell()

    def _lost(self, connection: object) -> None:
        if connection is self._connection:
            self._connection = None
            self._tell()

    def _tell(self) -> None:
        if self._on_loss is not None and not self._closed:
            self._on_loss()
