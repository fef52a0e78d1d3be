"""A coalesced wake-up for the relays of other processes, outside every business transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from orderflow.messaging.store import StoreUnavailableError

SPACING_S = 0.02


class Notifier:
    """Calls `send` at once when asked, and again after `SPACING_S` for all who asked in between."""

    def __init__(self, send: Callable[[], Awaitable[object]]) -> None:
        self._send = send
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    def notify(self) -> None:
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while self._asked:
            self._asked = False
            with suppress(StoreUnavailableError):
                await self._send()
            await asyncio.sleep(SPACING_S)
