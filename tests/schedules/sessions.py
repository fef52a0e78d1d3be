"""Sessions whose statements wait for their turn. The driver's own seam for that is the class of its connections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import asyncpg

from tests.schedules.turns import CURRENT, SESSIONS

if TYPE_CHECKING:
    Base = asyncpg.Connection[asyncpg.Record]
else:
    Base = asyncpg.Connection

UNSCHEDULED = ("SELECT pg_backend_pid(), current_setting", "LISTEN")
"""What a session says once, when it is opened, is no turn: the first schedule would have more than later ones."""

SETTINGS = {"deadlock_timeout": "20ms"}
_connect = asyncpg.connect


class TakingTurns(Base):
    """A connection on which an actor stops before each statement. Whoever is no actor does not stop."""

    async def execute(self, query: str, *args: Any, **how: Any) -> Any:
        return await self._in_turn(query, partial(super().execute, query, *args, **how))

    async def fetch(self, query: str, *args: Any, **how: Any) -> Any:
        return await self._in_turn(query, partial(super().fetch, query, *args, **how))

    async def fetchrow(self, query: str, *args: Any, **how: Any) -> Any:
        return await self._in_turn(query, partial(super().fetchrow, query, *args, **how))

    async def fetchval(self, query: str, *args: Any, **how: Any) -> Any:
        return await self._in_turn(query, partial(super().fetchval, query, *args, **how))

    async def _in_turn(self, query: str, run: Any) -> Any:
        actor = CURRENT.get()
        if actor is None or query.startswith(UNSCHEDULED):
            return await run()
        return await actor.statement(self, shown(query), run)


@cache
def shown(query: str) -> str:
    """The statement in a line, without comments."""
    return " ".join(re.sub(r"^--.*$", "", query, flags=re.MULTILINE).split())[:100]


@contextmanager
def taking_turns() -> Iterator[None]:
    """Within, whatever opens a session through the driver gets one that takes turns."""
    with patch.object(asyncpg, "connect", connect):
        yield


async def connect(url: str, **how: Any) -> Any:
    settings = {**SETTINGS, **(how.pop("server_settings", None) or {})}
    opened = await _connect(url, connection_class=TakingTurns, server_settings=settings, **how)
    SESSIONS.add(opened)
    return opened


async def plain(url: str) -> Any:
    """A session that takes no turns, whoever uses it."""
    return await _connect(url)
