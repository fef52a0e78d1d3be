"""Many callers of one thing that can be away: while it is, one of them asks, and the others wait for the news."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from orderflow.messaging.patience import INFRASTRUCTURE, Patience

T = TypeVar("T")


class ProbeGate:
    """Open, it lets calls through side by side. One that meets infrastructure shuts it: then one call alone is tried,
    with the back-off of `patience`, until infrastructure is back and all go on.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._open = True
        self._probing = asyncio.Lock()

    async def until_done(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` returns, or raises, once it is not infrastructure."""
        while True:
            met: Exception | None = None
            if self._open:
                try:
                    return await call()
                except INFRASTRUCTURE as error:
                    self._open = False
                    met = error
            async with self._probing:
                if not self._open:
                    return await self._probe(call, met)

    async def _probe(self, call: Callable[[], Awaitable[T]], met: Exception | None) -> T:
        """`met` is what the call has met just now: it waits before it is tried again."""
        failures = [met] if met is not None else []
        said: list[T] = []
        raised: list[Exception] = []

        async def step() -> None:
            if failures:
                raise failures.pop()
            try:
                said.append(await call())
            except INFRASTRUCTURE:
                raise
            except Exception as error:  # noqa: BLE001  # raised again below, outside of the patience
                raised.append(error)

        await self._patience.until_done(step)
        self._open = True
        if raised:
            raise raised[0]
        return said[0]
