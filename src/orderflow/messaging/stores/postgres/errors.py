"""Errors of the driver, of PostgreSQL and of the network, in the terms of the store port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

import asyncpg
import msgspec

from orderflow.messaging.store import (
    DataRefusedError,
    SchemaBehindError,
    StoreUnavailableError,
    TransitionRefusedError,
)
from orderflow.messaging.stores.postgres.machines import ILLEGAL_TRANSITION

READ_ONLY = (
    "the server is read-only, as a standby is, or one after a failover: waiting for one that can be written to"
)
TRANSACTION_POOLING = (
    "between us and PostgreSQL stands a pooler that gives every transaction another session, and that cannot work: "
    "set pool_mode = session in PgBouncer (server_reset_query = DISCARD ALL), or give the server's own address"
)

SESSION_LIVES_CLASSES = frozenset({"40", "55"})
"""The server has chosen another transaction over ours, or would not wait for a lock: the session is as it was."""

LOCK_NOT_AVAILABLE = "55P03"

STRAY_STATES = frozenset({"26000", "42P05"})
"""A prepared statement that is not there, or is there already."""

UNAVAILABLE_CLASSES = frozenset({"08", "28", "40", "53", "55", "57", "58", "F0", "XX"})
UNAVAILABLE_STATES = frozenset({"0A000", "25006", "25P03", "25P04", "42501"})
REFUSED_CLASSES = frozenset({"21", "22", "23", "27", "44", "54", "OF"})
REFUSED_STATES = frozenset({"P0001"})
BEHIND_STATES = frozenset({"3D000", "3F000", "42P01", "42703", "42704", "42883", "42P10"})


class ReadOnlyServerError(StoreUnavailableError):
    """The server that answers cannot be written to."""

    def __init__(self) -> None:
        super().__init__(READ_ONLY)


class LockedError(StoreUnavailableError):
    """Another session holds what was asked for, and did not let go in time."""


class TransactionPoolingError(StoreUnavailableError):
    """A pooler stands in between that keeps no session for its client."""

    def __init__(self) -> None:
        super().__init__(TRANSACTION_POOLING)


def shows_transaction_pooling(error: BaseException) -> bool:
    """Whether one session's statements have gone to several, or a transaction was refused as such (by PgBouncer)."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    return error.sqlstate in STRAY_STATES or "pooling mode" in str(error)


def translate(error: Exception) -> Exception | None:
    """The port's error for a driver's error; None if it is a defect of ours and should stay as it is.

    Beside the plain cases: a cached plan that a migration has made void (0A000) and a right that the role
    lacks (42501) are mended without any change of the data, so the caller waits. Class 42 (syntax) about
    things that do not exist means that the schema is not the one of this release; the rest of that class
    is a wrong statement of ours, which neither waiting nor parking an event would mend: it stays loud.
    """
    if isinstance(error, asyncpg.PostgresError):
        return _from_state(error, getattr(error, "sqlstate", None) or "")
    if isinstance(error, asyncpg.InterfaceError):
        closed = "closed" in str(error) or "connection" in str(error)
        return StoreUnavailableError(f"connection lost: {error}") if closed else None
    if isinstance(error, (OSError, TimeoutError, asyncpg.InternalClientError)):
        return StoreUnavailableError(f"{type(error).__name__}: {error}")
    return None


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
    """What can be cut off without a word: a connection."""

    def terminate(self) -> None: ...


@contextmanager
def unwritable() -> Iterator[None]:
    """A block that turns changes into statements: what cannot become one (a value that no codec takes, a row without
    a table) is refused as the database refuses data. Left as a defect it would come again with its batch for ever.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, msgspec.MsgspecError) as error:
        raise DataRefusedError(f"{type(error).__name__}: {error}") from error


class translated:  # noqa: N801  # reads as a statement: `with translated(connection):`
    """A block in which the driver is called: its errors leave as the port's. Cheap, for hot paths.

    This is where a session ends: after an error that leaves it in doubt, or that another server may not have, its
    connection is cut, so that whoever holds it sees that it is closed and opens another.
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
