"""Moves the outbox to the log: unsent rows in id order, marked only after the log has acknowledged them.

Each key's rows belong to one slot, each slot to one relay at a time. What this process has committed goes out without
a look at the outbox, where it is known that nothing comes before it. What is acknowledged is marked by the next look
at the outbox, in the same statement, or MARK_S later when there is nothing more to look for; what cannot be marked
then is remembered, and holds up nothing. A crash in between publishes it again, in the same order: first occurrences
stay in order, the rest are duplicates.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Sequence
from contextlib import suppress

from orderflow.core.crash_points import Point, reached
from orderflow.core.dead_letters import SUFFIX, shortened, with_times
from orderflow.core.envelopes import with_time
from orderflow.core.store import Heard, OutboxReader, OutboxRecord, StoreUnavailableError
from orderflow.core.telemetry import Relayed, Signals, SlotsChanged
from orderflow.core.timing import Clock, Pacer
from orderflow.core.transport import ProducerRecord, RecordTooLargeError, Transport, size_of

BATCH_MAX = 1000
MARK_S = 0.5
"""What is acknowledged is marked so much later at the latest."""

CLAIM_S = 2.0
"""How often a relay at rest looks which slots are its own: no later than that it takes up those of a dead process."""

FRESH_S = 5.0
"""How old may be what was read: a process that has stood still longer than that may own its slots no more."""

MARKED_ALONE_MAX = 100
"""When more rows than that are to be marked, it is time to look for others with the same statement."""

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
        self._flushing = False
        self._must_look = True
        self._offered_at = 0.0
        self._claim_at = -math.inf
        self._look_at = -math.inf
        self._unmarked: set[int] = set()

    @property
    def unmarked(self) -> Collection[int]:
        """Rows that the log has, and that are not marked yet."""
        return self._unmarked

    @property
    def held(self) -> Collection[int]:
        """Those of them that cannot be marked, because another session holds them."""
        return self._reader.held

    @property
    def problem(self) -> str:
        """Who keeps slots from all relays, "" when nobody does."""
        return "; ".join(
            f"{count} outbox slots are held by database session {pid}, which is not a relay; to end it: "
            f"SELECT pg_terminate_backend({pid})"
            for pid, count in self._reader.usurped.items()
        )

    def wake(self) -> None:
        """Rows are there, or may be: look for them now."""
        self._must_look = True
        self._empty.clear()
        self._written.set()

    def hand_over(self) -> None:
        """This process has committed rows, which its store has offered to the reader: publish them now."""
        if not self._written.is_set():
            self._offered_at = self._clock.monotonic()
        self._empty.clear()
        self._written.set()

    async def flush(self) -> None:
        """Return when all that was committed before is published and marked. From now on nothing is marked late."""
        self._flushing = True
        self.wake()
        await self._empty.wait()

    async def step(self) -> None:
        """Wait until something is due, and do it.

        Raises StoreUnavailableError, TransportUnavailableError; then everything unsent is read anew.
        """
        try:
            await self._until_due()
            await self._claim_slots()
            if self._is_due_to_look:
                await self._relay()
        except BaseException:
            # What was handed on may not be published. The slots may have gone with the connection: ask for them
            # before the next look.
            self._claim_at = self._look_at = -math.inf
            self._must_look = True
            raise

    async def listen(self) -> None:
        """Pass on what other processes say: of rows that they wrote for our slots, and of slots that change hands."""
        heard = await self._reader.wait(60.0)
        if heard is Heard.SLOTS:
            self._claim_at = -math.inf
        if heard is not Heard.NOTHING:
            self.wake()

    async def close(self) -> None:
        """Give the slots up, and before that mark what is acknowledged, unless the database is away."""
        with suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(MARK_S):
                await self._mark()
        await self._reader.close()

    @property
    def _is_due_to_look(self) -> bool:
        return self._written.is_set() or self._clock.monotonic() >= self._look_at

    async def _until_due(self) -> None:
        left = min(self._claim_at, self._look_at) - self._clock.monotonic()
        if left > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._written.wait()

    async def _relay(self) -> None:
        await self._pacer.gather()
        self._written.clear()
        rows, read_at = self._handed_on(), self._offered_at
        looks = rows is None
        if rows is None:
            self._must_look = False
            read_at = self._clock.monotonic()
            rows = await self._look()
        if rows:
            self._pacer.started(len(rows))
            await self._publish(rows, read_at)
            self._pacer.ended()
        if not looks:
            self._look_at = min(self._look_at, self._mark_at())
            return
        # Less than was asked for is all there was: without a wake-up another look would find nothing.
        self._look_at = -math.inf if len(rows) == BATCH_MAX else self._mark_at()
        if self._look_at == math.inf and not self._written.is_set():
            self._empty.set()

    def _handed_on(self) -> Sequence[OutboxRecord] | None:
        """Rows that need no look, of which none was published before; None when it is time to look."""
        if self._must_look or not self.slots or len(self._unmarked) > MARKED_ALONE_MAX:
            return None
        if self._clock.monotonic() >= self._look_at:
            return None
        return self._reader.hand_on()

    def _mark_at(self) -> float:
        """When to look again, if only to mark what the log has."""
        if len(self._unmarked) > len(self.held):
            return self._clock.monotonic() + (0.0 if self._flushing else MARK_S)
        return self._clock.monotonic() + CLAIM_S if self._unmarked and not self._flushing else math.inf

    async def _look(self) -> Sequence[OutboxRecord]:
        if not self.slots:
            await self._mark()
            return ()
        rows = await self._reader.unsent(BATCH_MAX, self._unmarked)
        self._marked()
        return rows

    async def _mark(self) -> None:
        if self._unmarked:
            await self._reader.mark_sent(self._unmarked)
            self._marked()

    def _marked(self) -> None:
        if self._unmarked:
            self._unmarked = set(self.held)
            reached(Point.RELAY_MARKED)

    async def _publish(self, rows: Sequence[OutboxRecord], read_at: float) -> None:
        reached(Point.RELAY_READ)
        started = self._clock.monotonic()
        if started - read_at > FRESH_S:
            # A word on the connection that owned the slots: raises if it is lost.
            await self._reader.mark_sent(())
        await self._append(rows)
        self._unmarked.update(row.id for row in rows)
        self.worked = True
        oldest_ms = max(0, self._clock.wall_ms() - rows[0].created_at)
        self._signals.emit(Relayed(self._service, rows, oldest_ms, self._clock.monotonic() - started))

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
        with suppress(StoreUnavailableError):
            # Whoever is given a slot publishes what is not marked there. If the connection is lost, so are the slots.
            await self._mark()
        slots = await self._reader.claim_slots()
        self._claim_at = self._clock.monotonic() + CLAIM_S
        if slots != self.slots:
            self.slots = slots
            self._look_at = -math.inf
            self._signals.emit(SlotsChanged(self._service, sorted(slots)))
            reached(Point.RELAY_CLAIMED)
        if len(self.held) >= UNMARKED_MAX:
            raise StoreUnavailableError(
                f"{len(self.held)} published rows cannot be marked as sent: another session holds them"
            )


def is_long_letter(row: OutboxRecord) -> bool:
    """A dead letter that holds more than what we say ourselves of it."""
    return row.topic.endswith(SUFFIX) and size_of(row) > LONG_LETTER_BYTES


def to_record(row: OutboxRecord) -> ProducerRecord:
    """The row as it goes into the log. A dead letter keeps the headers of its original, `ce_time` included."""
    headers = (with_times if row.topic.endswith(SUFFIX) else with_time)(row.headers, row.created_at)
    return ProducerRecord(row.topic, row.key, row.value, headers)
