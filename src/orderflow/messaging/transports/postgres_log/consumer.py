"""A member of a consumer group on the PostgreSQL log."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import asyncpg

from orderflow.messaging.transport import ConsumerRecord, TransportUnavailableError
from orderflow.messaging.transports.limits import POLL_BYTES_MAX
from orderflow.messaging.transports.postgres_log.headers import HeaderCodec
from orderflow.messaging.transports.postgres_log.link import Link
from orderflow.messaging.transports.postgres_log.membership import Holding, Membership, Place
from orderflow.messaging.transports.postgres_log.settling import Settler
from orderflow.messaging.transports.postgres_log.topics import Topic

LOOK_ANYWAY_S = 3.0
"""How often a member looks for records although nobody has said that there are any."""

RECONNECT_S = 0.5
LEAVE_TIMEOUT_S = 3.0


class PostgresLogConsumer:
    """Made by `PostgresLogTransport.subscribe`. Sleeps until a notification names one of its partitions."""

    def __init__(
        self,
        url: str,
        queries: Mapping[str, str],
        group: str,
        topics: Sequence[Topic],
        *,
        session_timeout_s: float,
        timeout_s: float,
    ) -> None:
        # What a crash of the server takes back here (an offset, a lease) only causes a redelivery.
        settings = {"synchronous_commit": "off"}
        self._link = Link(
            url,
            timeout_s=timeout_s,
            settings=settings,
            on_notify=self._notified,
            on_connect=self._connected,
            on_loss=self._lost,
        )
        names = [topic.name for topic in topics]
        self._membership = Membership(self._link, queries, group, names, int(session_timeout_s * 1000))
        self._topics = {topic.channel: topic for topic in topics}
        self._fetch_statement = queries["fetch"]
        self._renew_every_s = session_timeout_s / 3
        self._codec = HeaderCodec()
        self._ready: dict[int, None] = {}
        self._woken = asyncio.Event()
        self._renew_now = asyncio.Event()
        self._problem: TransportUnavailableError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._settler = Settler(self._membership.settle, self._membership.has_noted, self._troubled)
        self._looked_at = 0.0
        self._told = False
        self._closed = False

    async def start(self) -> None:
        """Join. Raises TransportUnavailableError; then this object is of no use."""
        try:
            for channel in self._topics:
                await self._link.listen(channel)
            await self._renew()
        except BaseException:
            await self._link.close()
            raise
        self._keeper = asyncio.create_task(self._keep(), name="postgres-log-member")

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        while not self._closed:
            self._woken.clear()
            if self._problem is not None:
                await self._wait_for_recovery(self._problem)
            elif self._ready:
                records = await self._fetch(max_records)
                if records:
                    self._told = False
                    return records
            elif self._told:
                # Let the caller see that it works again.
                self._told = False
                break
            else:
                await self._woken.wait()
        return ()

    async def settle(self, records: Sequence[ConsumerRecord]) -> None:
        if self._closed:
            return
        self._membership.note(records)
        await self._settler.settle()

    def assignment(self) -> frozenset[Place]:
        return frozenset() if self._closed else self._membership.places()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._woken.set()
        await self._stop_tasks()
        with suppress(TransportUnavailableError, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self._membership.leave()
        await self._link.close()

    async def abort(self) -> None:
        """Stop without leaving the group, as a killed process would."""
        self._closed = True
        self._woken.set()
        await self._stop_tasks()
        self._link.abort()

    async def _fetch(self, limit: int) -> list[ConsumerRecord]:
        held = self._membership.holdings
        asked = {number: held[number] for number in self._ready if number in held}
        self._ready.clear()
        positions = [holding.position for holding in asked.values()]
        try:
            rows = await self._link.fetch(self._fetch_statement, list(asked), positions, limit, POLL_BYTES_MAX)
        except BaseException:
            self._mark_ready(asked)
            raise
        if len(rows) == limit or (rows and rows[-1]["taken"] >= POLL_BYTES_MAX):
            served = {row[0] for row in rows}
            self._mark_ready([number for number in asked if number not in served])
            self._mark_ready(served)
        return self._received(rows, asked)

    def _received(self, rows: Sequence[asyncpg.Record], asked: Mapping[int, Holding]) -> list[ConsumerRecord]:
        # The group may have been dealt anew while the rows were on their way.
        held = self._membership.holdings
        still = {number: holding for number, holding in asked.items() if held.get(number) is holding}
        decode = self._codec.decode
        records: list[ConsumerRecord] = []
        for number, offset, at_ms, key, value, headers, _ in rows:
            holding = still.get(number)
            if holding is not None:
                topic, partition = holding.place
                records.append(ConsumerRecord(topic, partition, offset, key, value, decode(headers), at_ms))
                holding.position = offset + 1
        return records

    async def _keep(self) -> None:
        while True:
            self._renew_now.clear()
            try:
                await self._renew()
            except Exception as error:  # noqa: BLE001  # a dead keeper would be a silent consumer: let `poll` say it
                self._troubled(error)
            pause = self._renew_every_s if self._problem is None else RECONNECT_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._renew_now.wait()
            if self._problem is not None:
                # A server that is gone says so at once, and asking it without a pause helps nobody.
                await asyncio.sleep(RECONNECT_S)

    async def _renew(self) -> None:
        changed = await self._membership.renew()
        now = asyncio.get_running_loop().time()
        if changed or self._problem is not None or now >= self._looked_at + LOOK_ANYWAY_S:
            self._looked_at = now
            self._problem = None
            self._mark_ready(self._membership.holdings)
            self._woken.set()

    async def _wait_for_recovery(self, problem: TransportUnavailableError) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_S):
                await self._woken.wait()
        if self._problem is not None and not self._closed:
            self._told = True
            raise TransportUnavailableError(str(problem)) from problem

    async def _stop_tasks(self) -> None:
        await self._settler.stop()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    def _mark_ready(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._ready[number] = None

    def _notified(self, channel: str, payload: str) -> None:
        topic = self._topics.get(channel)
        if topic is None:
            self._renew_now.set()
            return
        named = map(int, payload.split(",")) if payload else topic.partition_ids
        held = [number for number in named if number in self._membership.holdings]
        if held:
            self._mark_ready(held)
            self._woken.set()

    def _connected(self) -> None:
        # Notifications may have been missed: renew, and look at everything.
        self._looked_at = -math.inf
        self._renew_now.set()

    def _lost(self) -> None:
        self._fail(TransportUnavailableError("log database: the connection was lost"))
        self._renew_now.set()

    def _troubled(self, error: Exception) -> None:
        if not isinstance(error, TransportUnavailableError):
            error = TransportUnavailableError(f"log database: {type(error).__name__}: {error}")
        self._fail(error)

    def _fail(self, error: TransportUnavailableError) -> None:
        self._problem = error
        self._woken.set()
