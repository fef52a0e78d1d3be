"""The sessions with the log's database, in the words of the transport port."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import asyncpg

from orderflow.messaging.store import StoreUnavailableError
from orderflow.messaging.stores.postgres.connections import Session, connect
from orderflow.messaging.transport import TransportUnavailableError

_SETTINGS = {
    # The statements are few and always the same; a plan made while the tables were empty must still be right
    # when they are full.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_sort": "off",
}


@contextmanager
def translated() -> Iterator[None]:
    """Raises TransportUnavailableError for what will pass."""
    try:
        yield
    except StoreUnavailableError as error:
        raise TransportUnavailableError(f"log database: {error}") from error


class Link:
    """A session with the log's database: one statement at a time, opened again when it has to be.

    `on_notify` gets (channel, payload); `on_connect` is called for each new connection, `on_loss` when one
    that was open is gone.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        settings: Mapping[str, str] | None = None,
        writable: bool = True,
        on_notify: Callable[[str, str], None] | None = None,
        on_connect: Callable[[], None] | None = None,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        opening = partial(
            connect,
            url,
            application_name="orderflow-log",
            statement_timeout_ms=int(timeout_s * 1000),
            settings={**_SETTINGS, **(settings or {})},
            writable=writable,
        )
        self._session = Session(opening, on_notify=on_notify, on_connect=on_connect, on_loss=on_loss)

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Raises TransportUnavailableError, SchemaBehindError."""
        with translated():
            return await self._session.fetch(statement, *arguments)

    async def value(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row. Raises as `fetch`."""
        rows = await self.fetch(statement, *arguments)
        return rows[0][0] if rows else None

    async def listen(self, channel: str) -> None:
        """Hear this channel on the present connection and on every later one. Raises as `fetch`."""
        with translated():
            await self._session.listen(channel)

    def abort(self) -> None:
        """Close for good without a word to the server."""
        self._session.abort()

    async def close(self) -> None:
        """Close for good. Idempotent."""
        await self._session.close()
