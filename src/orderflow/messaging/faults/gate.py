"""What a process on a game day applies, and the way in that stands still where a fault hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from orderflow.messaging.faults.injection import strikes
from orderflow.messaging.faults.port import Fault, FaultKind, FaultSet
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.processor import Processor
from orderflow.messaging.result import Result


class ActiveFaults:
    """The faults that this process applies at this moment, and what stands still because of them."""

    def __init__(self) -> None:
        self._applied = FaultSet(revision=0, faults=())
        self._changed = asyncio.Event()
        self._hanging: dict[str, str] = {}

    @property
    def revision(self) -> int:
        return self._applied.revision

    @property
    def faults(self) -> tuple[Fault, ...]:
        return self._applied.faults

    @property
    def hanging(self) -> Mapping[str, str]:
        """By consumer that stands still: why."""
        return self._hanging

    def apply(self, found: FaultSet) -> None:
        """From here on these, and no others."""
        self._applied = found
        self._changed.set()
        self._changed = asyncio.Event()

    async def let_pass(self, consumer: str, batch: Sequence[Incoming]) -> None:
        """Return when nothing in the batch meets a fault that hangs."""
        try:
            while fault := self._that_hangs(batch):
                self._hanging[consumer] = f"stands still: {fault}"
                await self._changed.wait()
        finally:
            self._hanging.pop(consumer, None)

    def _that_hangs(self, batch: Sequence[Incoming]) -> Fault | None:
        hangs = [fault for fault in self.faults if fault.error is FaultKind.HANG]
        messages = [incoming.envelope.message for incoming in batch if incoming.envelope] if hangs else []
        return next((fault for fault in hangs if any(strikes(fault, message) for message in messages)), None)


class GameDayProcessor(Processor):
    """Admits a batch once nothing in it hangs; all of it waits, and what comes behind it."""

    def __init__(self, active: ActiveFaults, *parts: Any) -> None:
        super().__init__(*parts)
        self._active = active

    def standing_still(self, consumer: str) -> str:
        return self._active.hanging.get(consumer, "")

    async def admit(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        await self._active.let_pass(consumer, batch)
        return await super().admit(consumer, batch)
