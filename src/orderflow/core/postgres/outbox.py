"""The outbox as its relays see it: slots owned by session locks of the connection that also marks rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

import asyncpg

from orderflow.core.fresh_records import FreshRecords
from orderflow.core.postgres.recovery import decode_headers
from orderflow.core.postgres.sessions import Connection, DatabaseSession, LockedError, connect
from orderflow.core.postgres.transaction import number_literal
from orderflow.core.store import OutboxRecord, StoreUnavailableError, WakeUp, beat_s, fair_share

SLOT_LOCKS = 1868981601
PRESENCE_LOCKS = 1868981602
CHANNEL = "orderflow_outbox"
MOVED = " slots"
"""Suffix of a notification that slots may change owners; all others announce rows."""

MARKED_WITH_LOOK_MAX = 100
"""Up to this many rows are marked by the statement that reads the next; for more, two statements are cheaper."""

LEAVE_S = 0.5
SPACING_S = 0.02
SETTINGS = {
    # If a crash of the server loses a mark, its rows are only published again.
    "synchronous_commit": "off",
    # A row that another session has locked must not hold up the others: it is marked later.
    "lock_timeout": "200",
}


class PostgresOutboxReader:
    """See `core.store.OutboxReader`.

    A slot is owned by a session lock on the server. So a reader that has lost its connection owns nothing, whatever
    it believes: its next statement raises StoreUnavailableError, and `claim_slots` connects again. A suspended
    process keeps its connection, so the other relays end it `silence_s` after its last statement; `wait` keeps a
    living process from being silent for so long.

    Of rows that were offered to it only the ids are read from the table. Notifications that begin with `own_name` are
    ignored. `forget` is called once, on close.
    """

    def __init__(
        self,
        url: str,
        application_name: str,
        queries: Mapping[str, str],
        slots: int,
        own_name: str,
        forget: Callable[[PostgresOutboxReader], None],
        silence_s: float,
    ) -> None:
        self._queries = queries
        self._slots = slots
        self._own_name = own_name
        self._forget = forget
        self._silence_s = silence_s
        self._session = DatabaseSession(
            partial(connect, url, application_name=application_name, lookups_only=True, settings=SETTINGS),
            begin=self._be_present,
            on_notify=self._heard,
            on_loss=self._lost,
        )
        self._woken = asyncio.Event()
        self._closed = False
        self._fresh = FreshRecords()
        self._moved = False
        self.held: frozenset[int] = frozenset()
        self.owned: frozenset[int] = frozenset()
        self.usurped: Mapping[int, int] = {}

    async def claim_slots(self) -> frozenset[int]:
        """Claim slots, by one statement if nothing changes. Call it between batches: others may take what it
        gives up.
        """
        if self._closed:
            raise StoreUnavailableError("the outbox reader is closed")
        await self._session.listen(CHANNEL)
        owned = await self._claim()
        if owned != self.owned:
            self._fresh.clear()
        self.owned = owned
        return self.owned

    def offer(self, records: Sequence[OutboxRecord], before: Collection[int] | None) -> None:
        """Keep rows that this process has committed; `before` are the ids that were unsent in their slots then."""
        self._fresh.add(records, self.owned, before)

    def take_fresh(self) -> Sequence[OutboxRecord] | None:
        return self._fresh.take_fresh() if self.owned and self._session.is_open else None

    async def unsent(self, limit: int, acknowledged: Collection[int] = ()) -> Sequence[OutboxRecord]:
        sent = list(acknowledged)
        slots = sorted(self.owned)
        self._fresh.before_read()
        if slots and 0 < len(sent) <= MARKED_WITH_LOOK_MAX and self.held.isdisjoint(sent):
            pending = await self._mark_and_look(slots, limit, sent)
        else:
            if sent:
                await self.mark_sent(sent)
                sent = list(self.held)
            pending = await self._ask("outbox_unsent", slots, limit, sent) if slots else ()
        ids = [row[0] for row in pending]
        self._fresh.after_read(frozenset(ids))
        return await self._records(ids)

    async def mark_sent(self, ids: Collection[int]) -> None:
        self._fresh.drop(ids)
        if self.held.isdisjoint(ids):
            try:
                await self._ask("outbox_mark_sent", number_literal(list(ids)))
            except LockedError:
                pass
            else:
                self.held = frozenset()
                return
        self.held = await self._mark_free(list(ids))

    async def wait(self, timeout_s: float) -> WakeUp:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while (left_s := until - loop.time()) > 0:
            # In each turn, because a reader that is woken all the time never waits for long.
            next_s = await self._beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, next_s)):
                    await self._woken.wait()
                self._woken.clear()
                moved, self._moved = self._moved, False
                return WakeUp.SLOTS if moved else WakeUp.ROWS
        return WakeUp.NONE

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._forget(self)
        self.owned = frozenset()
        self._wake_to_claim()
        try:
            if self._session.is_open:
                with suppress(StoreUnavailableError, TimeoutError):
                    async with asyncio.timeout(LEAVE_S):
                        await self._ask("outbox_leave", CHANNEL, self._own_name + MOVED)
        finally:
            await self._session.close()

    async def _ask(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Run a query on the connection that owns the slots; never on a new one."""
        return await self._session.fetch(self._queries[query], *arguments, reopen=False)

    async def _mark_and_look(self, slots: Sequence[int], limit: int, sent: Sequence[int]) -> Sequence[asyncpg.Record]:
        try:
            pending = await self._ask("outbox_mark_and_look", slots, limit, number_literal(sent))
        except LockedError:
            self.held = await self._mark_free(sent)
            pending = await self._ask("outbox_unsent", slots, limit, list(self.held))
        else:
            self.held = frozenset()
        self._fresh.drop(sent)
        return pending

    async def _records(self, ids: Sequence[int]) -> Sequence[OutboxRecord]:
        found = self._fresh.found(ids)
        if len(found) < len(ids):
            rows = await self._ask("outbox_read", [number for number in ids if number not in found])
            found |= {record.id: record for record in map(_record, rows)}
        return [found[number] for number in ids if number in found]

    async def _mark_free(self, ids: Sequence[int]) -> frozenset[int]:
        """Mark the rows that nobody has locked; returns the others."""
        try:
            await self._ask("outbox_mark_free", ids)
            return frozenset(row[0] for row in await self._ask("outbox_unmarked", ids))
        except LockedError:
            return frozenset(ids)

    async def _claim(self) -> frozenset[int]:
        standing = await self._session.fetch(self._queries["outbox_standing"], [SLOT_LOCKS, PRESENCE_LOCKS])
        if any(row["silent_s"] > self._silence_s for row in standing):
            await self._ask("outbox_fence", [SLOT_LOCKS, PRESENCE_LOCKS], self._silence_s)
            standing = await self._ask("outbox_standing", [SLOT_LOCKS, PRESENCE_LOCKS])
        taken = {row["number"]: row["mine"] for row in standing if row["class"] == SLOT_LOCKS}
        relays = {row["pid"] for row in standing if row["class"] == PRESENCE_LOCKS}
        self.usurped = Counter(row["pid"] for row in standing if row["pid"] not in relays)
        readers = sorted((row["number"], row["mine"]) for row in standing if row["class"] == PRESENCE_LOCKS)
        mine = {slot for slot, is_mine in taken.items() if is_mine}
        rank = next(rank for rank, (_, is_mine) in enumerate(readers) if is_mine)
        share = fair_share(self._slots, len(readers), rank)
        surplus = sorted(mine)[share:]
        if surplus:
            await self._ask("outbox_give_up_slots", SLOT_LOCKS, surplus)
            await self._tell_moved()
        free = sorted(set(range(self._slots)) - set(taken))
        if len(mine) < share and free:
            rows = await self._ask("outbox_take_slots", SLOT_LOCKS, free[: share - len(mine)])
            mine.update(row["slot"] for row in rows)
        if len(mine) < share:
            # Another reader has more than its share: notify it at once.
            await self._tell_moved()
        return frozenset(mine.difference(surplus))

    async def _beat(self) -> float:
        """Send a heartbeat if no statement was sent recently; returns the time until the next one, in s."""
        silence_max_s = beat_s(self._silence_s)
        if not self._session.is_open or self._session.is_busy:
            return silence_max_s
        left_s = self._session.used_at + silence_max_s - asyncio.get_running_loop().time()
        if left_s > 0:
            return left_s
        await self._ask("ping")
        return silence_max_s

    async def _be_present(self, connection: Connection) -> None:
        await connection.execute(self._queries["outbox_be_present"], PRESENCE_LOCKS)

    async def _tell_moved(self) -> None:
        await self._ask("outbox_notify", CHANNEL, self._own_name + MOVED)

    def _heard(self, channel: str, payload: str) -> None:
        """Wake up, except from notifications of this process itself."""
        if payload.startswith(self._own_name):
            return
        if payload.endswith(MOVED):
            self._wake_to_claim()
        self._woken.set()

    def _lost(self) -> None:
        self.owned = frozenset()
        self._wake_to_claim()

    def _wake_to_claim(self) -> None:
        self._moved = True
        self._woken.set()


def _record(row: asyncpg.Record) -> OutboxRecord:
    number, slot, topic, key, value, headers, event_id, created_at = row
    return OutboxRecord(
        topic=topic,
        key=key,
        value=value,
        headers=decode_headers(headers),
        event_id=event_id,
        slot=slot,
        id=number,
        created_at=created_at,
    )


class RelayNotifier:
    """Notifies the relays of other processes, outside every business transaction.

    `notify` calls `send` at once; calls within the next SPACING_S share one more.
    """

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
