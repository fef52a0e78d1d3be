"""Whose database this is: the identity that all databases of an installation share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from orderflow.messaging.stores.postgres.queries import load_queries

PACKAGE = "orderflow.messaging.stores.postgres"
Fetch = Callable[..., Awaitable[Sequence[Any]]]


async def installation_of(fetch: Fetch) -> UUID | None:
    """None until it was settled. `fetch` runs a statement in the database."""
    rows = await fetch(load_queries(PACKAGE, "installation.sql")["installation"])
    return UUID(str(rows[0]["id"])) if rows else None


async def settle_installation(fetch: Fetch, proposed: UUID) -> UUID:
    """Settle it, unless it is; returns what it is. Whoever comes first, of processes side by side, has it."""
    await fetch(load_queries(PACKAGE, "installation.sql")["keep_installation"], proposed)
    settled = await installation_of(fetch)
    assert settled is not None
    return settled
