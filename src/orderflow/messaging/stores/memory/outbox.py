"""A relay's hold on the outbox of the twin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from orderflow.messaging.store import Heard, OutboxRecord, StoreUnavailableError
from orderflow.messaging.stores.memory.database import MemoryDatabase
from orderflow.messaging.stores.shares import SILENCE_S, fair_share


class MemoryOutboxReader:
    """See `messaging.store.OutboxReader`. `cut` ends its session as a lost connection does."""

    def __init__(
        self,
        database: MemoryDatabase,
        slots: int,
        forget: Callable[[MemoryOutboxReader], None],
        silence_s: float = SILENCE_S,
    ) -> None:
        self._database = database
        self._slots = slots
        self._forget = forget
        self._woken = asyncio.Event()
        self._closed = False
        self._silence_s = silence_s
        self._seen_at = 0.0
        self._waiting = 0
        self._moved = False
        self.held: frozenset[int] = frozenset()

    async def claim_slots(self) -> frozenset[int]:
        await self._database.gate("claim_slots")
        database = self._database
        if self._closed:
            raise StoreUnavailableError("the outbox reader is closed")
        database.require()
        self._beat()
        for other in list(database.readers):
            if other.stands_still():
                other.cut()
        if self not in database.readers:
            database.readers.append(self)
        mine = sorted(self._owned())
        share = fair_share(self._slots, len(database.readers), database.readers.index(self))
        for slot in mine[share:]:
            del database.slot_owners[slot]
        if mine[share:]:
            self._tell_others()
        free = [slot for slot in range(self._slots) if slot not in database.slot_owners and slot not in mine]
        for slot in free[: max(0, share - len(mine))]:
            database.slot_owners[slot] = self
        if len(self._owned()) < share:
            self._tell_others()
        return frozenset(self._owned())

    async def unsent(self, limit: int, acknowledged: Collection[int] = ()) -> Sequence[OutboxRecord]:
        if acknowledged:
            await self.mark_sent(acknowledged)
        await self._step("unsent")
        owned, sent = self._owned(), frozenset(acknowledged)
        state = self._database.state
        numbers = sorted(number for number, slot in state.pending.items() if slot in owned and number not in sent)
        return [state.outbox[number] for number in numbers[:limit]]

    async def mark_sent(self, ids: Collection[int]) -> None:
        await self._step("mark_sent")
        self.held = frozenset(self._database.held.intersection(ids))
        for number in set(ids) - self.held:
            self._database.state.pending.pop(number, None)

    async def wait(self, timeout_s: float) -> Heard:
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return Heard.NOTHING
        finally:
            self._waiting -= 1
            self._beat()
        self._woken.clear()
        moved, self._moved = self._moved, False
        return Heard.SLOTS if moved else Heard.ROWS

    async def close(self) -> None:
        self.end()
        self._tell_others()

    def end(self) -> None:
        """Close at once."""
        if not self._closed:
            self._closed = True
            self._forget(self)
            self.cut()

    def wake(self) -> None:
        """Another process has written rows."""
        self._woken.set()

    def wake_to_claim(self) -> None:
        """Slots may change hands."""
        self._moved = True
        self._woken.set()

    def stands_still(self) -> bool:
        """Its process has asked nothing for too long, and does not wait for anything here."""
        return not self._waiting and self._database.clock.monotonic() - self._seen_at > self._silence_s

    def cut(self) -> None:
        """The connection is lost: its slots are free."""
        database = self._database
        for slot in self._owned():
            del database.slot_owners[slot]
        if self in database.readers:
            database.readers.remove(self)
        self.wake_to_claim()

    def _tell_others(self) -> None:
        for other in self._database.readers:
            if other is not self:
                other.wake_to_claim()

    def _beat(self) -> None:
        self._seen_at = self._database.clock.monotonic()

    async def _step(self, name: str) -> None:
        await self._database.gate(name)
        self._database.require()
        if self not in self._database.readers:
            raise StoreUnavailableError("the connection that owned the slots is lost")
        self._beat()

    def _owned(self) -> set[int]:
        return {slot for slot, owner in self._database.slot_owners.items() if owner is self}
