"""Many callers of one thing that can be away: while it is, one of them asks, and the others wait for the news."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from orderflow.messaging.patience import INFRASTRUCTURE, Patience


class ProbeGate:
    """Open, it lets calls through side by side. One that meets infrastructure shuts it: then one call alone is tried,
    with the back-off of `patience`, until it succeeds and all go on.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._open = True
        self._probing = asyncio.Lock()

    async def until_done(self, call: Callable[[], Awaitable[None]]) -> None:
        """Run `call` until it succeeds once. Whatever it raises but infrastructure is told by `patience`."""
        while True:
            met: list[Exception] = []
            if self._open:
                try:
                    await call()
                except INFRASTRUCTURE as error:
                    self._open = False
                    met.append(error)
                else:
                    return
            async with self._probing:
                if not self._open:
                    await self._probe(call, met)
                    return

    async def _probe(self, call: Callable[[], Awaitable[None]], met: list[Exception]) -> None:
        async def step() -> None:
            if met:
                raise met.pop()
            await call()

        await self._patience.until_done(step)
        self._open = True
