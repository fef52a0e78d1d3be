"""A member of a consumer group on the PostgreSQL log: its lease, its partitions, and the offsets that it commits.

A notice may carry the records of a small batch. Otherwise a notice, or the renewal of the lease, says that there is
more to read, and the table is read. Records are handed out only while the lease certainly runs by this process's own
clock: a process that was suspended finds old notices in its socket.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from uuid import UUID, uuid4

import asyncpg
import msgspec

from orderflow.core.crash_points import Point, reached
from orderflow.core.postgres_log.link import LogSession, NoticeListener
from orderflow.core.postgres_log.records import Notice, Place, RecordCodec, Topic, read_notices
from orderflow.core.transport import POLL_BYTES_MAX, ConsumerRecord, TransportUnavailableError

COMMIT_EVERY_S = 0.5
"""Noted offsets are written together after this time; a crash before that only causes redelivery."""

BUFFERED_MAX = 500
"""A member that does not poll keeps at most this many records from notices, and reads the rest from the table
later.
"""

RECONNECT_S = 0.5
LOOK_AGAIN_S = 0.5
"""When partitions have changed owners, their ends are asked for once more after this time."""

LEAVE_TIMEOUT_S = 3.0
_PARTITION = itemgetter(0)


class OffsetWriter:
    """Writes noted offsets soon, until none is left.

    `write` writes all offsets that are noted, and leaves them noted if it fails. `noted` returns whether there are
    any. `notify` gets each error.
    """

    def __init__(
        self, write: Callable[[], Awaitable[None]], noted: Callable[[], bool], notify: Callable[[Exception], None]
    ) -> None:
        self._write = write
        self._noted = noted
        self._notify = notify
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Write what is noted within COMMIT_EVERY_S, or as soon as that works again."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_soon(), name="postgres-log-offsets")

    async def stop(self) -> None:
        """Stop writing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _write_soon(self) -> None:
        """Write until nothing is noted, including what is noted meanwhile."""
        while self._noted():
            await asyncio.sleep(COMMIT_EVERY_S)
            try:
                await self._write()
            except Exception as error:  # noqa: BLE001  # whatever it is, the offsets stay noted and are written later
                self._notify(error)


@dataclass(slots=True, eq=False)
class HeldPartition:
    """A partition that this member holds since `generation`.

    `position` is the next offset to hand out, `next` the next to read. `known` is the end of the partition as the
    server reported it. `end` may come from a notice too: that is a reason to read, but no proof.
    """

    partition_id: int
    place: Place
    generation: int
    position: int
    next: int
    known: int = 0
    end: int = 0
    buffer: deque[ConsumerRecord] = field(default_factory=deque)

    @property
    def is_behind(self) -> bool:
        return self.end > self.next

    def add(self, records: Sequence[ConsumerRecord]) -> None:
        """Buffer records in order, without those that have arrived before by another way."""
        if records and records[0].offset < self.next:
            records = [record for record in records if record.offset >= self.next]
        if records:
            self.buffer.extend(records)
            self.next = records[-1].offset + 1

    def take(self, limit: int) -> list[ConsumerRecord]:
        """Take up to `limit` buffered records; at least one is buffered."""
        taken = list(islice(self.buffer, limit))
        if len(taken) == len(self.buffer):
            self.buffer.clear()
        else:
            for _ in taken:
                self.buffer.popleft()
        self.position = taken[-1].offset + 1
        return taken


class Membership:
    """Joins the group, renews the lease, writes offsets and leaves.

    It joins again, as a new member, when the group has removed it. `listen` is awaited with the channel on which the
    group announces a new assignment of partitions. `doorbell` is the address of this process's doorbell, if any.
    """

    def __init__(
        self,
        link: LogSession,
        queries: Mapping[str, str],
        group: str,
        topics: Sequence[Topic],
        session_s: float,
        listen: Callable[[str], Awaitable[None]],
        doorbell: str | None = None,
    ) -> None:
        self.holdings: dict[int, HeldPartition] = {}
        self.renewed_at = -math.inf
        self._link = link
        self._queries = queries
        self._group = group
        self._topics = [topic.name for topic in topics]
        self._place_of = {
            number: (topic.name, partition)
            for topic in topics
            for partition, number in enumerate(topic.partition_ids)
        }
        self._session_s = session_s
        self._listen = listen
        self._doorbell = doorbell
        self._by_place: dict[Place, HeldPartition] = {}
        self._done: dict[HeldPartition, int] = {}
        self._member: UUID | None = None
        self._group_id = 0
        self._turn = asyncio.Lock()

    @property
    def is_certain(self) -> bool:
        """Whether the lease certainly runs: the server granted it no earlier than it was asked for here."""
        return self._member is not None and _now() < self.renewed_at + self._session_s

    def places(self) -> frozenset[Place]:
        return frozenset(self._by_place)

    async def renew(self) -> bool:
        """Renew the lease and write the noted offsets, or join; returns whether the partitions have changed.

        Raises TransportUnavailableError; the offsets then stay noted.
        """
        async with self._turn:
            if self._member is not None and await self._renew():
                return False
            if self._member is None:
                await self._join()
            return True

    def note(self, records: Sequence[ConsumerRecord]) -> None:
        """Note the offsets of processed records. Only records handed out under the present lease count."""
        offsets: dict[Place, int] = {}
        for record in records:
            offsets[record.topic, record.partition] = record.offset + 1
        for place, offset in offsets.items():
            holding = self._by_place.get(place)
            if holding is not None and offset <= holding.position:
                self._note(holding, offset)

    def has_noted(self) -> bool:
        """Whether any offset is noted."""
        return bool(self._done)

    async def leave(self) -> None:
        """Write the noted offsets, and leave the group. Raises TransportUnavailableError."""
        async with self._turn:
            if self._member is not None and self._done:
                await self._renew()
            member, self._member = self._member, None
            self._hold({})
            if member is not None:
                await self._link.fetch(self._queries["leave_group"], self._group_id, member)

    def _note(self, holding: HeldPartition, offset: int) -> None:
        self._done[holding] = max(offset, self._done.get(holding, 0))

    async def _renew(self) -> bool:
        """Renew the lease; returns whether this member and its partitions are unchanged."""
        done, self._done = self._done, {}
        held = sorted(
            (holding.partition_id, holding.generation, offset)
            for holding, offset in done.items()
            if self._by_place.get(holding.place) is holding
        )
        if held:
            reached(Point.OFFSETS_WRITING)
        try:
            rows = await self._ask(*zip(*held, strict=True)) if held else await self._ask((), (), ())
        except BaseException:
            for holding, offset in done.items():
                self._note(holding, offset)
            raise
        if not rows:
            self._member = None
            return False
        if held:
            reached(Point.OFFSETS_WRITTEN)
        return self._assigned(rows)

    async def _join(self) -> None:
        self._hold({})
        self.renewed_at = -math.inf
        member = uuid4()
        self._group_id = await self._link.value(
            self._queries["join_group"], self._group, member, self._topics, int(self._session_s * 1000)
        )
        self._member = member
        await self._listen(f"g{self._group_id}")
        if self._doorbell is not None:
            await self._link.fetch(self._queries["hang_doorbell"], member, self._doorbell)
        self._assigned(await self._ask((), (), ()))

    async def _ask(self, *arrays: Sequence[int]) -> Sequence[asyncpg.Record]:
        asked_at = _now()
        rows = await self._link.fetch(
            self._queries["renew"], self._group_id, self._member, int(self._session_s * 1000), *arrays
        )
        self.renewed_at = asked_at
        return rows

    def _assigned(self, rows: Sequence[asyncpg.Record]) -> bool:
        """Adopt the assignment that the server reports; returns whether it is unchanged."""
        before = self.holdings
        holdings: dict[int, HeldPartition] = {}
        for number, generation, committed, end in rows:
            if number is None:
                continue
            held = before.get(number)
            if held is None or held.generation != generation:
                held = HeldPartition(number, self._place_of[number], generation, committed, committed)
            held.known = max(held.known, end)
            held.end = max(held.end, end)
            holdings[number] = held
        if len(holdings) == len(before) and all(before.get(number) is held for number, held in holdings.items()):
            return True
        if not before.keys() <= holdings.keys():
            reached(Point.PARTITIONS_REVOKED)
        self._hold(holdings)
        return False

    def _hold(self, holdings: dict[int, HeldPartition]) -> None:
        self.holdings = holdings
        self._by_place = {holding.place: holding for holding in holdings.values()}


class PostgresLogConsumer:
    """A group member, made by `PostgresLogTransport.subscribe`. It sleeps until a notice names one of its
    partitions.
    """

    def __init__(
        self,
        link: LogSession,
        reader: NoticeListener,
        queries: Mapping[str, str],
        group: str,
        topics: Sequence[Topic],
        *,
        session_timeout_s: float,
        doorbell: str | None = None,
    ) -> None:
        self._link = link
        self._reader = reader
        self._membership = Membership(link, queries, group, topics, session_timeout_s, self._hear, doorbell)
        self._rings = doorbell is not None
        self._channels = frozenset(topic.channel for topic in topics)
        self._channels_before = frozenset(topic.channel_before for topic in topics)
        self._fetch_statement = queries["fetch"]
        self._renew_every_s = session_timeout_s / 3
        self._codec = RecordCodec()
        self._full: dict[HeldPartition, None] = {}
        self._behind: dict[HeldPartition, None] = {}
        self._woken = asyncio.Event()
        self._renew_now = asyncio.Event()
        self._problem: TransportUnavailableError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._offsets = OffsetWriter(self._renew, self._membership.has_noted, self._troubled)
        self._raised = False
        self._closed = False

    async def start(self) -> None:
        """Join the group. Raises TransportUnavailableError; this object cannot be used then."""
        try:
            for channel in self._channels | self._channels_before:
                await self._hear(channel)
            await self._renew()
        except BaseException:
            self._reader.forget(self)
            await self._link.close()
            raise
        self._keeper = asyncio.create_task(self._keep(), name="postgres-log-member")

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        has_read = False
        while not self._closed:
            self._woken.clear()
            if self._problem is not None:
                await self._wait_for_recovery(self._problem)
            elif not self._membership.is_certain:
                await self._woken.wait()
            elif self._behind and not has_read and (room := max_records - self._buffered()) > 0:
                await self._fetch(room)
                has_read = True
            elif self._full:
                self._raised = False
                return self._take(max_records)
            elif self._raised:
                # An empty batch shows the caller that it works again.
                self._raised = False
                break
            elif self._behind:
                has_read = False
            else:
                await self._woken.wait()
        return ()

    async def commit(self, records: Sequence[ConsumerRecord]) -> None:
        if self._closed:
            return
        self._membership.note(records)
        self._offsets.wake()

    def assignment(self) -> frozenset[Place]:
        return frozenset() if self._closed else self._membership.places()

    async def close(self) -> None:
        if self._closed:
            return
        try:
            await self._stop()
            with suppress(TransportUnavailableError, TimeoutError):
                async with asyncio.timeout(LEAVE_TIMEOUT_S):
                    await self._membership.leave()
        finally:
            await self._link.close()

    async def abort(self) -> None:
        """Stop without leaving the group, as a killed process would."""
        await self._stop()
        self._link.abort()

    def notified(self, channel: str, payload: str) -> None:
        """Called by the listener: a notification has come."""
        if channel not in self._channels or not payload:
            # A new assignment, or a notice without partitions: a renewal returns the partitions and their ends.
            self._renew_now.set()
            return
        try:
            for notice in read_notices(payload):
                holding = self._membership.holdings.get(notice.partition_id)
                if holding is not None and notice.end > holding.next:
                    self._received(notice, holding)
        except (ValueError, msgspec.MsgspecError):
            # Not a notice of ours, or one of a release with another format.
            self._renew_now.set()

    def connected(self) -> None:
        """Called by the listener: it has connected. Notices may have been missed, which a renewal makes up for."""
        self._renew_now.set()

    def lost(self) -> None:
        """Called by the listener: it has lost its connection."""
        self._fail(TransportUnavailableError("log database: the connection was lost"))
        self._renew_now.set()

    def _received(self, notice: Notice, holding: HeldPartition) -> None:
        """Take the notice's records if they are the next ones; otherwise note that there is more to read."""
        holding.end = max(holding.end, notice.end)
        if notice.body and notice.start == holding.next and self._buffered() < BUFFERED_MAX:
            holding.add(self._codec.brought(notice, holding.place))
        self._sort(holding)
        self._woken.set()

    def _buffered(self) -> int:
        return sum(len(holding.buffer) for holding in self._full)

    def _sort(self, holding: HeldPartition) -> None:
        """Queue the partition for handing out or reading, behind the others, so that none starves."""
        if holding.buffer:
            self._full.setdefault(holding)
        else:
            self._full.pop(holding, None)
        if holding.is_behind:
            self._behind.setdefault(holding)
        else:
            self._behind.pop(holding, None)

    def _sort_all(self) -> None:
        held = self._membership.holdings
        for holding in {**self._full, **self._behind}:
            if held.get(holding.partition_id) is not holding:
                self._full.pop(holding, None)
                self._behind.pop(holding, None)
        for holding in held.values():
            self._sort(holding)

    async def _fetch(self, limit: int) -> None:
        """Read the partitions that are behind, in one statement."""
        asked = list(self._behind)
        ends = [(holding.end, holding.known) for holding in asked]
        numbers = [holding.partition_id for holding in asked]
        rows = await self._reader.fetch(
            self._fetch_statement, numbers, [holding.next for holding in asked], limit, POLL_BYTES_MAX
        )
        by_number = dict(zip(numbers, asked, strict=True))
        served: set[int] = set()
        for number, its_rows in groupby(rows, _PARTITION):
            served.add(number)
            by_number[number].add(self._codec.records(by_number[number].place, its_rows))
        if len(rows) < limit and not (rows and rows[-1]["taken"] >= POLL_BYTES_MAX):
            for holding, (end, known) in zip(asked, ends, strict=True):
                # This was everything up to `known`: missing offsets have expired, and further ones do not exist.
                holding.next = max(holding.next, known)
                if holding.end == end:
                    holding.end = holding.next
        held = self._membership.holdings
        for holding in sorted(asked, key=lambda each: each.partition_id in served):
            self._behind.pop(holding, None)
            # The assignment may have changed while the rows were on their way.
            if held.get(holding.partition_id) is holding:
                self._sort(holding)

    def _take(self, limit: int) -> list[ConsumerRecord]:
        """Take up to `limit` buffered records, of one partition after the other."""
        records: list[ConsumerRecord] = []
        while self._full and len(records) < limit:
            holding = next(iter(self._full))
            del self._full[holding]
            records += holding.take(limit - len(records))
            if holding.buffer:
                self._full[holding] = None
        return records

    async def _keep(self) -> None:
        """Renew the lease when it is due or asked for; a renewal that writes offsets counts too."""
        while True:
            if self._problem is not None:
                # A server that is down refuses at once: pause, rather than ask in a tight loop.
                await asyncio.sleep(RECONNECT_S)
            elif not await self._is_due():
                continue
            self._renew_now.clear()
            try:
                await self._renew()
            except Exception as error:  # noqa: BLE001  # a dead task would be a silent consumer: `poll` raises it
                self._troubled(error)

    async def _is_due(self) -> bool:
        due_at = self._membership.renewed_at + self._renew_every_s
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due_at):
                await self._renew_now.wait()
        return self._problem is None and (
            self._renew_now.is_set() or _now() >= self._membership.renewed_at + self._renew_every_s
        )

    async def _renew(self) -> None:
        """Renew the lease, write noted offsets, and find what no notice has announced."""
        # Listen before looking: what comes in between is then seen twice rather than never.
        await self._reader.ensure_open()
        if await self._membership.renew() and self._rings:
            # An append in progress may have rung the doorbells of the former owners.
            asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._renew_now.set)
        self._problem = None
        self._sort_all()
        self._woken.set()

    async def _hear(self, channel: str) -> None:
        await self._reader.hear(channel, self)

    async def _wait_for_recovery(self, problem: TransportUnavailableError) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_S):
                await self._woken.wait()
        if self._problem is not None and not self._closed:
            self._raised = True
            raise TransportUnavailableError(str(problem)) from problem

    async def _stop(self) -> None:
        self._closed = True
        self._woken.set()
        self._reader.forget(self)
        await self._offsets.stop()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    def _troubled(self, error: Exception) -> None:
        if not isinstance(error, TransportUnavailableError):
            error = TransportUnavailableError(f"log database: {type(error).__name__}: {error}")
        self._fail(error)

    def _fail(self, error: TransportUnavailableError) -> None:
        self._problem = error
        self._woken.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
