"""Errors of the driver, of PostgreSQL and of the network, in the terms of the store port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import asyncpg
import msgspec

from orderflow.messaging.store import DataRefusedError, SchemaBehindError, StoreUnavailableError

UNAVAILABLE_CLASSES = frozenset({"08", "28", "40", "53", "55", "57", "58", "F0", "XX"})
UNAVAILABLE_STATES = frozenset({"0A000", "25006", "25P03", "25P04", "42501"})
REFUSED_CLASSES = frozenset({"21", "22", "23", "27", "44", "54", "OF"})
REFUSED_STATES = frozenset({"P0001"})
BEHIND_STATES = frozenset({"3D000", "3F000", "42P01", "42703", "42704", "42883", "42P10"})


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
    if state in UNAVAILABLE_STATES or state[:2] in UNAVAILABLE_CLASSES:
        return StoreUnavailableError(f"{text} (SQLSTATE {state})")
    if state in REFUSED_STATES or state[:2] in REFUSED_CLASSES:
        constraint, detail = (getattr(error, name, None) for name in ("constraint_name", "detail"))
        return DataRefusedError(text, state, constraint, named_in(detail or ""))
    if state in BEHIND_STATES:
        return SchemaBehindError(f"{text}: the schema is not the one of this release; run `orderflow migrate`")
    return None


@contextmanager
def unwritable() -> Iterator[None]:
    """A block that turns changes into statements: what cannot become one (a value that no codec takes, a row without
    a table) is refused as the database refuses data. Left as a defect it would come again with its batch for ever.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, msgspec.MsgspecError) as error:
        raise DataRefusedError(f"{type(error).__name__}: {error}") from error


class translated:  # noqa: N801  # reads as a statement: `with translated():`
    """A block in which the driver is called: its errors leave as the port's. Cheap, for hot paths."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            ours = translate(error)
            if ours is not None:
                raise ours from error
