"""Database sessions: how every one is opened, configured, checked and closed.

`connect` opens all of them. `Connections` is a pool, `DatabaseSession` a single connection that is opened again when
it is lost. Errors of the driver, of PostgreSQL and of the network are translated into those of the store port in one
place, `translated`, which also decides which of them end a session.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeAlias
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import asyncpg
import msgspec

from orderflow.core.postgres.queries import load_queries
from orderflow.core.store import DataRefusedError, SchemaBehindError, StoreUnavailableError, TransitionRefusedError
from orderflow.core.telemetry import Usage

READ_ONLY = (
    "the server is read-only, as a standby is, or one after a failover: waiting for one that can be written to"
)
ILLEGAL_TRANSITION = "OF001"
"""The SQLSTATE of a refused state transition."""

TRANSACTION_POOLING = (
    "between us and PostgreSQL stands a pooler that gives every transaction another session, and that cannot work: "
    "set pool_mode = session in PgBouncer (server_reset_query = DISCARD ALL), or give the server's own address"
)

SESSION_LIVES_CLASSES = frozenset({"40", "55"})
"""Classes of errors after which the session is intact: another transaction had precedence, or held a lock."""

LOCK_NOT_AVAILABLE = "55P03"

STRAY_STATES = frozenset({"26000", "42P05"})
"""A prepared statement is missing or exists already: signs of transaction pooling."""

UNAVAILABLE_CLASSES = frozenset({"08", "28", "40", "53", "55", "57", "58", "F0", "XX"})
UNAVAILABLE_STATES = frozenset({"0A000", "25006", "25P03", "25P04", "42501"})
REFUSED_CLASSES = frozenset({"21", "22", "23", "27", "44", "54", "OF"})
REFUSED_STATES = frozenset({"P0001"})
BEHIND_STATES = frozenset({"3D000", "3F000", "42P01", "42703", "42704", "42883", "42P10"})


class ReadOnlyServerError(StoreUnavailableError):
    """The server is read-only."""

    def __init__(self) -> None:
        super().__init__(READ_ONLY)


class LockedError(StoreUnavailableError):
    """A lock was not granted in time: another session holds it."""


class TransactionPoolingError(StoreUnavailableError):
    """A pooler between us and PostgreSQL does not keep one session per client."""

    def __init__(self) -> None:
        super().__init__(TRANSACTION_POOLING)


def shows_transaction_pooling(error: BaseException) -> bool:
    """Whether the error shows that a pooler has spread one session's statements over several."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    return error.sqlstate in STRAY_STATES or "pooling mode" in str(error)


def translate(error: Exception) -> Exception | None:
    """The port's error for a driver's error; None for a defect of ours, which is left as it is.

    A cached plan that a migration has invalidated (0A000) and a missing privilege (42501) are repaired without any
    change of data, so they count as unavailability: the caller waits. Class 42 errors about things that do not exist
    mean that the schema is not this release's. The rest of that class are wrong statements: neither waiting nor
    parking an event would help, so they stay loud.
    """
    if isinstance(error, asyncpg.PostgresError):
        return _from_state(error, getattr(error, "sqlstate", None) or "")
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ValueError(str(error).splitlines()[0])
    if isinstance(error, asyncpg.InterfaceError):
        closed = "closed" in str(error) or "connection" in str(error)
        return StoreUnavailableError(f"connection lost: {error}") if closed else None
    if isinstance(error, ssl.SSLError):
        return StoreUnavailableError(_without_tls(error))
    if isinstance(error, (OSError, TimeoutError, asyncpg.InternalClientError)):
        return StoreUnavailableError(f"{type(error).__name__}: {error}")
    return None


TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
"""Parameters of a URL that name files (libpq, 34.1.2). asyncpg does not say which of them it could not read."""


def require_tls_files(url: str) -> None:
    """Raises ValueError: a file that the URL names cannot be read."""
    for name, value in parse_qsl(urlsplit(url).query):
        if name in TLS_FILES:
            try:
                Path(value).expanduser().read_bytes()
            except OSError as error:
                raise ValueError(f"{name} {value} cannot be read: {error.strerror}") from error


def _without_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"the certificate of PostgreSQL is not one that sslrootcert vouches for ({why}), so nothing was sent"
    why = (error.reason or str(error)).replace("_", " ").lower()
    return f"there is no TLS with PostgreSQL ({why}): look at sslmode, sslrootcert, sslcert and sslkey of its URL"


def named_in(detail: str) -> frozenset[str]:
    """The values in a server's detail, whatever its language: `Key (a, b)=(1, 2) …`, `Failing row contains (1, 2).`

    A value that is long is cut by the server, and one with a comma falls apart: then it names nobody.
    """
    if ")=(" in detail:
        values = detail.partition(")=(")[2].rpartition(")")[0]
    else:
        values = detail.partition("(")[2].rpartition(")")[0]
    return frozenset(values.split(", ")) - {"", "null"}


def _from_state(error: asyncpg.PostgresError, state: str) -> Exception | None:
    text = str(error.args[0]) if error.args else type(error).__name__
    if state == LOCK_NOT_AVAILABLE:
        return LockedError(f"{text} (SQLSTATE {state})")
    if state in UNAVAILABLE_STATES or state[:2] in UNAVAILABLE_CLASSES:
        return StoreUnavailableError(f"{text} (SQLSTATE {state})")
    if state in REFUSED_STATES or state[:2] in REFUSED_CLASSES:
        constraint, detail = (getattr(error, name, None) for name in ("constraint_name", "detail"))
        kind = TransitionRefusedError if state == ILLEGAL_TRANSITION else DataRefusedError
        return kind(text, state, constraint, named_in(detail or ""))
    if state in BEHIND_STATES:
        return SchemaBehindError(f"{text}: the schema is not the one of this release; run `orderflow migrate`")
    return None


class Endable(Protocol):
    """A connection that can be cut."""

    def terminate(self) -> None: ...


@contextmanager
def unwritable() -> Iterator[None]:
    """For a block that turns changes into statements: values that no codec takes, or rows without a table, raise
    DataRefusedError, as if the database refused them. Left as defects they would be retried with their batch for
    ever.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, msgspec.MsgspecError) as error:
        raise DataRefusedError(f"{type(error).__name__}: {error}") from error


class translated:  # noqa: N801  # reads as a statement: `with translated(connection):`
    """For a block that calls the driver: its errors leave as the port's. Cheap enough for hot paths.

    After an error that leaves the session in doubt, or that another server may not have, the connection is cut: its
    holder finds it closed, and opens another.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Endable | None = None) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            ours = translate(error)
            if self._connection is not None and _ends_session(error, ours):
                self._connection.terminate()
            if ours is not None:
                raise ours from error


def _ends_session(error: Exception, ours: Exception | None) -> bool:
    if not isinstance(ours, StoreUnavailableError):
        return False
    return (getattr(error, "sqlstate", None) or "")[:2] not in SESSION_LIVES_CLASSES


if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 2.0
CLOSE_TIMEOUT_S = 2.0
ANSWER_GRACE_S = 2.0
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 8_000
"""A process that is suspended in a batch loses its locks after this time, so that others can go on."""

LOCK_WAIT_S = 3.0
"""A statement that waits longer than this for a lock waits for a stalled session: batches take milliseconds."""

_QUERIES = load_queries("orderflow.core.postgres", "sessions.sql")
Fetch = Callable[..., Awaitable[Sequence[asyncpg.Record]]]


async def require_no_lock_wait(fetch: Fetch) -> None:
    """Raises StoreUnavailableError, naming the session that holds a lock for which others have waited too long."""
    for pid, application, role, for_s in await fetch(_QUERIES["lock_wait"], LOCK_WAIT_S):
        raise StoreUnavailableError(
            f"statements have waited for a lock for {for_s:.0f} s. Session {pid} ({application or 'no name'}, role "
            f"{role}) holds it; to end that: SELECT pg_terminate_backend({pid})"
        )


async def clock_ms(fetch: Fetch) -> int:
    """The server's time in ms since the epoch."""
    rows = await fetch(_QUERIES["clock"])
    return int(rows[0][0])


async def connect(
    url: str,
    *,
    application_name: str,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    lookups_only: bool = False,
    settings: Mapping[str, str] | None = None,
    writable: bool = True,
) -> Connection:
    """Open a session with all settings pinned that the caller relies on; `settings` are the caller's own.

    `lookups_only`: every statement finds rows by key, so the planner must not choose to scan a table. It would for a
    table that was empty when the plan was made, and would keep that plan when the table is full. One generic plan
    serves all batches, because planning again, which the server prefers for batches of one, costs more than running.
    Keep-alives end the session of a dead peer within about 8 s, and release its locks. If the server does not report
    that a statement timed out (0: never), the connection is given up ANSWER_GRACE_S later.
    A URL with several hosts is tried host by host until one is writable, since a failover leaves the old primary
    read-only. With `writable` false a read-only server will do if there is no other.
    Raises StoreUnavailableError (ReadOnlyServerError, TransactionPoolingError), SchemaBehindError (no such database),
    ValueError (an invalid URL, or one that names a file that cannot be read).
    """
    require_tls_files(url)
    places = _places(url)
    opening = partial(
        _open,
        application_name=application_name,
        command_timeout_s=statement_timeout_ms / 1000 + ANSWER_GRACE_S if statement_timeout_ms else None,
        pinned=_pinned(statement_timeout_ms, lookups_only) | dict(settings or {}),
        timeout_s=CONNECT_TIMEOUT_S / len(places),
    )
    problems: list[StoreUnavailableError] = []
    for place in places:
        try:
            return await opening(place, writable=True)
        except StoreUnavailableError as error:
            problems.append(error)
    for place, problem in zip(places, problems, strict=True):
        if isinstance(problem, ReadOnlyServerError) and not writable:
            return await opening(place, writable=False)
    raise problems[-1]


def is_read_only(connection: Connection) -> bool:
    """Whether the server has reported so, at the start or since. Poolers do not pass that on."""
    reported = connection.get_settings()
    return "on" in (
        getattr(reported, "default_transaction_read_only", "off"),
        getattr(reported, "in_hot_standby", "off"),
    )


async def leave(connection: Connection) -> None:
    """Close gracefully; cut the connection if the server does not answer."""
    try:
        await connection.close(timeout=CLOSE_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        connection.terminate()


async def _open(
    url: str,
    *,
    application_name: str,
    command_timeout_s: float | None,
    pinned: Mapping[str, str],
    timeout_s: float,
    writable: bool,
) -> Connection:
    with translated():
        async with asyncio.timeout(timeout_s):
            connection = await asyncpg.connect(
                url, command_timeout=command_timeout_s, server_settings={"application_name": application_name}
            )
            try:
                await _configure(connection, url, pinned, writable)
            except BaseException:
                connection.terminate()
                raise
            return connection


async def _configure(connection: Connection, url: str, pinned: Mapping[str, str], writable: bool) -> None:
    """Apply the settings. Poolers refuse or silently ignore them as startup parameters, so they are set by a
    statement.
    """
    try:
        rows = await connection.fetch(_QUERIES["configure"], list(pinned), list(pinned.values()))
        pid, read_only, _ = rows[0]
        if pid != connection.get_server_pid():
            await _require_session(connection, url, pid)
    except asyncpg.PostgresError as error:
        if shows_transaction_pooling(error):
            raise TransactionPoolingError from error
        raise
    if read_only and writable:
        raise ReadOnlyServerError


async def _require_session(connection: Connection, url: str, pid: int) -> None:
    """Raises TransactionPoolingError if the pooler does not reserve server session `pid` for this connection.

    While another connection of ours is in a transaction, it must have another server process, and this one the same
    as before.
    """
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            other = await asyncpg.connect(url)
            try:
                await other.execute("BEGIN")
                shared = await other.fetchval(_QUERIES["backend"]) == pid
                if shared or await connection.fetchval(_QUERIES["backend"]) != pid:
                    raise TransactionPoolingError
            finally:
                other.terminate()
    except TimeoutError:
        # A pooler that has no free server session reserves them for their clients.
        return


def _places(url: str) -> list[str]:
    """The URL once for each of its hosts."""
    parts = urlsplit(url)
    user_info, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user_info}{at}{host}")) for host in hosts.split(",")]


def _pinned(statement_timeout_ms: int, lookups_only: bool) -> dict[str, str]:
    settings = {
        "search_path": "public",
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": str(min(LOCK_TIMEOUT_MS, statement_timeout_ms)),
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
        "idle_session_timeout": "0",
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "8000",
        "jit": "off",
        # A bitmap scan does not mark dead index entries as such: the next scan, which comes soon, reads them again.
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
    """A pool that opens up to `limit` connections as needed, and lends the most recently returned one first.

    It is leaner than the driver's pool: nothing is reset between uses, because every user ends its transaction and
    changes no settings. Waiting for a connection takes `patience_s` at most.
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
        writable: bool = True,
    ) -> None:
        self._open = partial(
            connect,
            url,
            application_name=application_name,
            statement_timeout_ms=statement_timeout_ms,
            lookups_only=lookups_only,
            writable=writable,
        )
        self._patience_s = patience_s
        self._limit = limit
        self._waiting = 0
        self._free = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._closed = False

    @property
    def usage(self) -> Usage:
        """How many connections are lent, and how many callers wait for one."""
        return Usage(len(self._lent), self._limit, self._waiting)

    async def acquire(self) -> Connection:
        """Borrow a connection. Raises StoreUnavailableError: closed, unreachable, or none came free in time."""
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            connection = self._pop() or await self._open()
        except BaseException:
            self._free.release()
            raise
        self._lent.add(connection)
        return connection

    def release(self, connection: Connection, *, reusable: bool) -> None:
        """Return a connection; one that is not reusable, or whose server has become read-only, is cut."""
        self._lent.discard(connection)
        if reusable and not self._closed and not connection.is_closed() and not is_read_only(connection):
            self._idle.append(connection)
        else:
            connection.terminate()
        self._free.release()

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Run one statement as one transaction. Raises as `acquire`; DataRefusedError, SchemaBehindError."""
        return await self.fetch_on(await self.acquire(), statement, *arguments)

    async def fetch_on(self, connection: Connection, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """As `fetch`, on an acquired connection, which is returned afterwards."""
        ended = False
        try:
            with translated(connection):
                return await connection.fetch(statement, *arguments)
        except asyncio.CancelledError:
            ended = True
            raise
        finally:
            self.release(connection, reusable=not ended)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Run several statements in one transaction. Raises as `fetch`."""
        connection = await self.acquire()
        ended = False
        try:
            with translated(connection):
                async with connection.transaction():
                    yield connection
            ended = True
        finally:
            self.release(connection, reusable=ended)

    async def close(self) -> None:
        """Close what is idle in good order and cut off what is lent. Idempotent."""
        self._closed = True
        idle, self._idle = self._idle, []
        try:
            for connection in idle:
                await leave(connection)
        finally:
            for connection in [*idle, *self._lent]:
                connection.terminate()

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailableError(f"no connection came free within {self._patience_s:g} s") from None
        finally:
            self._waiting -= 1

    def _pop(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None


class DatabaseSession:
    """One connection for one statement at a time, which is opened again after it was lost.

    `open` makes a new one. `begin` is awaited with each new connection before anything else. `on_notify` gets
    (channel, payload) of notifications. `on_connect` is called for each new connection, `on_loss` when one is lost.
    """

    def __init__(
        self,
        open: Callable[[], Awaitable[Connection]],  # noqa: A002  # as it is used: `await open()`
        *,
        begin: Callable[[Connection], Awaitable[None]] | None = None,
        on_notify: Callable[[str, str], None] | None = None,
        on_connect: Callable[[], None] | None = None,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self.used_at = 0.0
        self._connect = open
        self._begin = begin
        self._on_notify = on_notify
        self._on_connect = on_connect
        self._on_loss = on_loss
        self._connection: Connection | None = None
        self._channels: list[str] = []
        self._listening: set[str] = set()
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    @property
    def is_busy(self) -> bool:
        """Whether a statement is running."""
        return self._turn.locked()

    async def fetch(self, statement: str, *arguments: object, reopen: bool = True) -> Sequence[asyncpg.Record]:
        """Run one statement. With `reopen` false a lost connection raises, as for locks that were lost with it.

        Raises StoreUnavailableError, DataRefusedError, SchemaBehindError.
        """
        async with self._turn:
            connection = await self._open(reopen=reopen)
            try:
                with translated(connection):
                    return await connection.fetch(statement, *arguments)
            finally:
                self._used(connection)

    async def listen(self, channel: str) -> None:
        """Listen to a channel, on the present connection and every later one. Raises as `fetch`."""
        if channel in self._channels:
            return
        self._channels.append(channel)
        async with self._turn:
            connection = await self._open()
            try:
                await self._listen(connection, channel)
            finally:
                self._used(connection)

    def abort(self) -> None:
        """Close for good, without telling the server."""
        self._closed = True
        self._drop()

    async def close(self) -> None:
        """Close for good. Idempotent."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await leave(connection)

    async def _open(self, *, reopen: bool = True) -> Connection:
        if self._closed:
            raise StoreUnavailableError("the session was closed")
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if not reopen:
            raise StoreUnavailableError("the session was lost, and what it held")
        connection = await self._connect()
        if self._closed:
            connection.terminate()
            raise StoreUnavailableError("the session was closed")
        self._connection = connection
        self._listening.clear()
        connection.add_termination_listener(self._lost)
        try:
            if self._begin is not None:
                with translated(connection):
                    await self._begin(connection)
            for channel in self._channels:
                await self._listen(connection, channel)
        except BaseException:
            self._drop()
            raise
        if self._on_connect is not None:
            self._on_connect()
        return connection

    async def _listen(self, connection: Connection, channel: str) -> None:
        if channel not in self._listening:
            with translated(connection):
                await connection.add_listener(channel, self._notified)
            self._listening.add(channel)

    def _used(self, connection: Connection) -> None:
        self.used_at = asyncio.get_running_loop().time()
        if connection is self._connection and (connection.is_closed() or is_read_only(connection)):
            self._drop()

    def _notified(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        if self._on_notify is not None:
            self._on_notify(channel, str(payload))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            self._report_loss()

    def _lost(self, connection: object) -> None:
        if connection is self._connection:
            self._connection = None
            self._report_loss()

    def _report_loss(self) -> None:
        if self._on_loss is not None and not self._closed:
            self._on_loss()
