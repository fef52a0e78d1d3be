"""A relay's hold on the outbox: slots owned by session locks of the connection that also marks rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import asyncpg

from orderflow.messaging.store import OutboxRecord, StoreUnavailableError
from orderflow.messaging.stores.postgres import core_rows
from orderflow.messaging.stores.postgres.connections import Connection, connect
from orderflow.messaging.stores.postgres.errors import translated
from orderflow.messaging.stores.postgres.fresh_records import FreshRecords
from orderflow.messaging.stores.shares import fair_share

SLOT_LOCKS = 1868981601
PRESENCE_LOCKS = 1868981602
CHANNEL = "orderflow_outbox"


class PostgresOutboxReader:
    """See `messaging.store.OutboxReader`.

    Owning is a lock of the server, so a reader whose connection is cut owns nothing, whatever it
    believes: its next statement raises StoreUnavailableError, and `claim_slots` connects anew.
    Rows that were offered to it are looked up in the table, but not read from it. Notifications that carry `own_name`
    are not heard. `forget` is called once, on close.
    """

    def __init__(
        self,
        url: str,
        application_name: str,
        queries: Mapping[str, str],
        slots: int,
        own_name: str,
        forget: Callable[[PostgresOutboxReader], None],
    ) -> None:
        self._url = url
        self._application_name = application_name
        self._queries = queries
        self._slots = slots
        self._own_name = own_name
        self._forget = forget
        self._connection: Connection | None = None
        self._woken = asyncio.Event()
        self._closed = False
        self._fresh = FreshRecords()
        self.owned: frozenset[int] = frozenset()

    async def claim_slots(self) -> frozenset[int]:
        """One statement when nothing changes. Call it between batches: a slot given up may be taken at once."""
        owned = await self._claim(await self._connected())
        if owned != self.owned:
            self._fresh.clear()
        self.owned = owned
        return self.owned

    def offer(self, records: Sequence[OutboxRecord]) -> None:
        """Rows that this process has committed."""
        self._fresh.add(records, self.owned)

    async def unsent(self, limit: int) -> Sequence[OutboxRecord]:
        if not self.owned:
            return []
        with translated():
            pending = await self._open().fetch(self._queries["outbox_unsent"], sorted(self.owned), limit)
        ids = [row[0] for row in pending]
        found = self._fresh.found(ids)
        if len(found) < len(ids):
            found |= await self._read([number for number in ids if number not in found])
        return [found[number] for number in ids if number in found]

    async def mark_sent(self, ids: Sequence[int]) -> None:
        with translated():
            await self._open().execute(self._queries["outbox_mark_sent"], ids)
        self._fresh.drop(ids)

    async def wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._forget(self)
        self._woken.set()
        connection, self._connection, self.owned = self._connection, None, frozenset()
        if connection is not None:
            try:
                await connection.close(timeout=2)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    async def _read(self, ids: Sequence[int]) -> dict[int, OutboxRecord]:
        with translated():
            rows = await self._open().fetch(self._queries["outbox_read"], ids)
        return {record.id: record for record in map(core_rows.read_outbox, rows)}

    async def _connected(self) -> Connection:
        if self._closed:
            raise StoreUnavailableError("the outbox reader is closed")
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self._connection, self.owned = None, frozenset()
        # A mark that a crash of the server takes back only causes its rows to be published again.
        settings = {"synchronous_commit": "off"}
        connection = await connect(
            self._url, application_name=self._application_name, lookups_only=True, settings=settings
        )
        try:
            with translated():
                connection.add_termination_listener(self._lost)
                await connection.add_listener(CHANNEL, self._heard)
                await connection.execute(self._queries["outbox_be_present"], PRESENCE_LOCKS)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    async def _claim(self, connection: Connection) -> frozenset[int]:
        with translated():
            standing = await connection.fetch(self._queries["outbox_standing"], [SLOT_LOCKS, PRESENCE_LOCKS])
            owners = {row["number"]: row["pid"] for row in standing if row["class"] == SLOT_LOCKS}
            readers = sorted(row["pid"] for row in standing if row["class"] == PRESENCE_LOCKS)
            me = connection.get_server_pid()
            mine = {slot for slot, pid in owners.items() if pid == me}
            share = fair_share(self._slots, len(readers), readers.index(me))
            surplus = sorted(mine)[share:]
            if surplus:
                await connection.fetch(self._queries["outbox_give_up_slots"], SLOT_LOCKS, surplus)
            free = sorted(set(range(self._slots)) - set(owners))
            if len(mine) < share and free:
                rows = await connection.fetch(
                    self._queries["outbox_take_slots"], SLOT_LOCKS, free[: share - len(mine)]
                )
                mine.update(row["slot"] for row in rows)
        return frozenset(mine.difference(surplus))

    def _open(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self.owned = frozenset()
            raise StoreUnavailableError("the connection that owned the slots is lost")
        return self._connection

    def _heard(self, connection: object, pid: int, channel: str, payload: object) -> None:
        """What this process itself has sent is for the others."""
        if payload != self._own_name:
            self._woken.set()

    def _lost(self, connection: object) -> None:
        self.owned = frozenset()
        self._woken.set()
