"""When a member of a group writes down the offsets that were settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

SETTLE_EVERY_S = 0.2
"""Offsets settled sooner after the last ones are written together; a crash only causes their redelivery."""

AGAIN_S = 0.5


class Settler:
    """`write` writes what is noted at that moment, and leaves it noted when it fails; `noted`: whether anything is.

    `told` hears of each failure that has no caller.
    """

    def __init__(
        self, write: Callable[[], Awaitable[None]], noted: Callable[[], bool], told: Callable[[Exception], None]
    ) -> None:
        self._write = write
        self._noted = noted
        self._told = told
        self._later: asyncio.Task[None] | None = None
        self._not_before = 0.0

    async def settle(self) -> None:
        """Something was noted: write it now, or soon. Raises TransportUnavailableError; then it stays noted."""
        if self._later is not None and not self._later.done():
            return
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            self._later = asyncio.create_task(self._settle_later(self._not_before - now), name="postgres-log-settle")
            return
        self._not_before = now + SETTLE_EVERY_S
        await self._write()

    async def stop(self) -> None:
        """Write nothing any more."""
        if self._later is not None:
            self._later.cancel()
            await asyncio.wait({self._later})

    async def _settle_later(self, pause_s: float) -> None:
        """Go on until nothing is noted: who settles while this runs leaves it to this."""
        while self._noted():
            await asyncio.sleep(pause_s)
            self._not_before = asyncio.get_running_loop().time() + SETTLE_EVERY_S
            pause_s = SETTLE_EVERY_S
            try:
                await self._write()
            except Exception as error:  # noqa: BLE001  # whatever it is, what was noted stays so and is written later
                pause_s = AGAIN_S
                self._told(error)
