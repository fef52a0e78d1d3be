"""Moves the outbox to the log: unsent rows in id order, marked as sent only after the log has acknowledged them.

All rows of a key belong to one slot, and one relay at a time owns a slot. Rows that this process has just committed
are published without reading the outbox, provided that no earlier row of their keys can be unsent. Acknowledged rows
are marked by the statement that reads the next unsent ones, or after MARK_S if there is nothing more to read. Rows
that cannot be marked then are remembered, and hold up nothing. A crash before marking publishes rows again in the
same order: first occurrences stay in order, the others are duplicates.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Sequence
from contextlib import suppress

from orderflow.core.crash_points import Point, reached
from orderflow.core.dead_letters import SUFFIX, shortened, with_times
from orderflow.core.envelopes import with_time
from orderflow.core.store import OutboxReader, OutboxRecord, StoreUnavailableError, WakeUp
from orderflow.core.telemetry import Relayed, Signals, SlotsChanged
from orderflow.core.timing import Clock, Pacer
from orderflow.core.transport import ProducerRecord, RecordTooLargeError, Transport, size_of

BATCH_MAX = 1000
MARK_S = 0.5
"""Acknowledged rows are marked at most this long after the acknowledgement."""

CLAIM_S = 2.0
"""How often a relay at rest claims its slots, and so how soon it takes over those of a dead process."""

FRESH_S = 5.0
"""Rows read longer ago are published only after a check: a process that was suspended may have lost its slots."""

MARKED_ALONE_MAX = 100
"""When more rows than this wait to be marked, the outbox is read: the same statement marks them."""

UNMARKED_MAX = 5_000
LONG_LETTER_BYTES = 16 * 1024


class Relay:
    """Publishes the outbox; one per process. `step` publishes one batch of the slots that it owns."""

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
        """Ids of published rows that are not yet marked as sent."""
        return self._unmarked

    @property
    def held(self) -> Collection[int]:
        """Those of them that cannot be marked, because another session has locked them."""
        return self._reader.held

    @property
    def problem(self) -> str:
        """Which sessions keep slots from all relays; "" when none does."""
        return "; ".join(
            f"{count} outbox slots are held by database session {pid}, which is not a relay; to end it: "
            f"SELECT pg_terminate_backend({pid})"
            for pid, count in self._reader.usurped.items()
        )

    def wake(self) -> None:
        """Read the outbox now: there may be unsent rows."""
        self._must_look = True
        self._empty.clear()
        self._written.set()

    def hand_over(self) -> None:
        """Publish the rows that this process has committed; its store has offered them to the reader."""
        if not self._written.is_set():
            self._offered_at = self._clock.monotonic()
        self._empty.clear()
        self._written.set()

    async def flush(self) -> None:
        """Return when everything committed before is published and marked. From now on rows are marked at once."""
        self._flushing = True
        self.wake()
        await self._empty.wait()

    async def step(self) -> None:
        """Wait until something is due, and do it.

        Raises StoreUnavailableError, TransportUnavailableError; the next step then reads all unsent rows again.
        """
        try:
            await self._until_due()
            await self._claim_slots()
            if self._is_due_to_look:
                await self._relay()
        except BaseException:
            # Fresh rows may not have been published. The slots may have gone with the connection: claim them first.
            self._claim_at = self._look_at = -math.inf
            self._must_look = True
            raise

    async def listen(self) -> None:
        """Wake up when other processes have written rows for our slots, or when slots may change owners."""
        wake_up = await self._reader.wait(60.0)
        if wake_up is WakeUp.SLOTS:
            self._claim_at = -math.inf
        if wake_up is not WakeUp.NONE:
            self.wake()

    async def close(self) -> None:
        """Mark what is acknowledged, unless the database is unavailable, and give up the slots."""
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
        rows, read_at = self._fresh_rows(), self._offered_at
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
        # A batch that is not full was all there was: without a wake-up another look would find nothing.
        self._look_at = -math.inf if len(rows) == BATCH_MAX else self._mark_at()
        if self._look_at == math.inf and not self._written.is_set():
            self._empty.set()

    def _fresh_rows(self) -> Sequence[OutboxRecord] | None:
        """Fresh rows to publish without a look at the outbox; None when it is time to look."""
        if self._must_look or not self.slots or len(self._unmarked) > MARKED_ALONE_MAX:
            return None
        if self._clock.monotonic() >= self._look_at:
            return None
        return self._reader.take_fresh()

    def _mark_at(self) -> float:
        """When to look at the outbox again, if only to mark what the log has acknowledged."""
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
            # A statement on the connection that owns the slots: it raises if the connection is lost.
            await self._reader.mark_sent(())
        await self._append(rows)
        self._unmarked.update(row.id for row in rows)
        self.worked = True
        oldest_ms = max(0, self._clock.wall_ms() - rows[0].created_at)
        self._signals.emit(Relayed(self._service, rows, oldest_ms, self._clock.monotonic() - started))

    async def _append(self, rows: Sequence[OutboxRecord]) -> None:
        """Append the rows. Dead letters that are too large for their topic are shortened, so that they do not hold up
        the rest; the database keeps all of them.
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
            # The next owner of a slot publishes what is not marked. If the connection is lost, so are the slots.
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
    """Whether the row is a dead letter with more in it than our own description."""
    return row.topic.endswith(SUFFIX) and size_of(row) > LONG_LETTER_BYTES


def to_record(row: OutboxRecord) -> ProducerRecord:
    """The row as a record of the log. A dead letter keeps the headers of its original, `ce_time` included."""
    headers = (with_times if row.topic.endswith(SUFFIX) else with_time)(row.headers, row.created_at)
    return ProducerRecord(row.topic, row.key, row.value, headers)
