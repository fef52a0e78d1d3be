"""What the driver and the server say, in the port's words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from orderflow.messaging.transport import TransportUnavailableError

# SQLSTATE classes and codes (PostgreSQL, appendix A) that say nothing about the request itself: connection,
# insufficient resources, operator intervention, system error, lock timeout, deadlock, read-only standby.
_INFRASTRUCTURE = ("08", "53", "57", "58", "55P03", "40", "25006")


@contextmanager
def translated() -> Iterator[None]:
    """Raises TransportUnavailableError for what will pass; lets a defect in our own SQL through."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if not (error.sqlstate or "").startswith(_INFRASTRUCTURE):
            raise
        raise TransportUnavailableError(f"log database: {error}") from error
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncpg.InterfaceError) as error:
        raise TransportUnavailableError(f"log database: {type(error).__name__}: {error}") from error
