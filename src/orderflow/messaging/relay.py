"""Moves the outbox to the log: unsent rows in id order, marked only after the log has acknowledged them.

Each key's rows belong to one slot, each slot to one relay at a time. What is acknowledged and cannot be marked is
remembered and marked later, and holds up nothing. A crash in between publishes it again, in the same order: first
occurrences stay in order, the rest are duplicates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

from orderflow.messaging.clock import Clock
from orderflow.messaging.cloudevents import with_time
from orderflow.messaging.crash_points import Point, reached
from orderflow.messaging.dead_letters import SUFFIX, shortened, with_times
from orderflow.messaging.pacing import Pacer
from orderflow.messaging.signals import Relayed, Signals, SlotsChanged
from orderflow.messaging.store import OutboxReader, OutboxRecord, StoreUnavailableError
from orderflow.messaging.transport import ProducerRecord, RecordTooLargeError, Transport, size_of

BATCH_MAX = 1000
IDLE_S = 1.0
FRESH_S = 5.0
"""How old may be what was read: a process that has stood still longer than that may own its slots no more."""

UNMARKED_MAX = 5_000
LONG_LETTER_BYTES = 16 * 1024


class Relay:
    """One per process. `step` publishes one batch of the slots that it owns."""

    def __init__(
        self,
        service: str,
        reader: OutboxReader,
        transport: Transport,
        pacer: Pacer,
        signals: Signals,
        clock: Clock,
    ) -> None:
        self.slots: frozenset[int] = frozenset()
        self.worked = False
        self._service = service
        self._reader = reader
        self._transport = transport
        self._pacer = pacer
        self._signals = signals
        self._clock = clock
        self._written = asyncio.Event()
        self._empty = asyncio.Event()
        self._claim_at = 0.0
        self._unmarked: set[int] = set()
        self._drained = False

    @property
    def unmarked(self) -> Collection[int]:
        """Rows that the log has, and that cannot be marked because another session holds them."""
        return self._unmarked

    def wake(self) -> None:
        """Rows were committed: publish them now rather than at the next look."""
        self._empty.clear()
        self._written.set()

    async def flush(self) -> None:
        """Return when everything that was committed before is published."""
        self.wake()
        await self._empty.wait()

    async def step(self) -> None:
        """Raises StoreUnavailableError, TransportUnavailableError; then everything unsent is read anew."""
        try:
            await self._step()
        except Exception:
            # The slots may have gone with the connection: ask for them before the next look.
            self._claim_at = self._clock.monotonic()
            raise

    async def _step(self) -> None:
        if self._drained:
            await self._rest()
        self._drained = False
        await self._claim_slots()
        await self._pacer.gather()
        self._written.clear()
        read_at = self._clock.monotonic()
        rows = await self._reader.unsent(BATCH_MAX, self._unmarked) if self.slots else ()
        if rows:
            self._pacer.started(len(rows))
            await self._publish(rows, read_at)
        # Less than was asked for is all there was: without a wake-up another look would find nothing.
        self._drained = len(rows) < BATCH_MAX and not self._written.is_set()
        if self._drained:
            self._empty.set()

    async def listen(self) -> None:
        """Pass on what other processes say of rows that they wrote for our slots."""
        await self._reader.wait(60.0)
        self.wake()

    async def close(self) -> None:
        """Give the slots up."""
        await self._reader.close()

    async def _publish(self, rows: Sequence[OutboxRecord], read_at: float) -> None:
        reached(Point.RELAY_READ)
        started = self._clock.monotonic()
        if started - read_at > FRESH_S:
            # A word on the connection that owned the slots: raises if it is lost.
            await self._reader.mark_sent(())
        await self._append(rows)
        self._unmarked.update(row.id for row in rows)
        await self._mark()
        self.worked = True
        oldest_ms = max(0, self._clock.wall_ms() - rows[0].created_at)
        self._signals.emit(Relayed(self._service, len(rows), oldest_ms, self._clock.monotonic() - started))

    async def _mark(self) -> None:
        self._unmarked = set(await self._reader.mark_sent(list(self._unmarked)))
        reached(Point.RELAY_MARKED)

    async def _append(self, rows: Sequence[OutboxRecord]) -> None:
        """A topic made with a lower limit than ours must not stop the rest: what a dead letter loses here is kept in
        the database.
        """
        try:
            await self._transport.append([to_record(row) for row in rows])
        except RecordTooLargeError:
            cut = [shortened(row) if is_long_letter(row) else row for row in rows]
            if cut == list(rows):
                raise
            await self._transport.append([to_record(row) for row in cut])
        reached(Point.RELAY_ACKNOWLEDGED)

    async def _claim_slots(self) -> None:
        if self._clock.monotonic() < self._claim_at:
            return
        slots = await self._reader.claim_slots()
        self._claim_at = self._clock.monotonic() + IDLE_S
        if slots != self.slots:
            self.slots = slots
            self._signals.emit(SlotsChanged(self._service, sorted(slots)))
            reached(Point.RELAY_CLAIMED)
        if self._unmarked:
            await self._mark()
            if len(self._unmarked) >= UNMARKED_MAX:
                raise StoreUnavailableError(
                    f"{len(self._unmarked)} published rows cannot be marked as sent: another session holds them"
                )

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._written.wait()


def is_long_letter(row: OutboxRecord) -> bool:
    """A dead letter that holds more than what we say ourselves of it."""
    return row.topic.endswith(SUFFIX) and size_of(row) > LONG_LETTER_BYTES


def to_record(row: OutboxRecord) -> ProducerRecord:
    """The row as it goes into the log. A dead letter keeps the headers of its original, `ce_time` included."""
    headers = (with_times if row.topic.endswith(SUFFIX) else with_time)(row.headers, row.created_at)
    return ProducerRecord(row.topic, row.key, row.value, headers)
