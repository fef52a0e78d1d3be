"""A member of a consumer group on the PostgreSQL log: its lease, what it holds, reads and commits.

Records come by three ways, one truth: a notice brings a small batch along, a notice or a renewal of the lease says
that there is more than was read, and then the table is read. Whatever came is handed out under a lease that has
certainly not run out, by this process's own clock: a process that stood still finds old notices in its socket.
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
"""Committed offsets are written together, so long after they were noted; a crash only causes redelivery."""

BUFFERED_MAX = 500
"""A member that does not poll keeps no more records than that of notices, and reads the rest from the table later."""

RECONNECT_S = 0.5
LOOK_AGAIN_S = 0.5
"""So long after partitions have changed hands their ends are asked for once more."""

LEAVE_TIMEOUT_S = 3.0
_PARTITION = itemgetter(0)


class OffsetWriter:
    """`write` writes what is noted at that moment, and leaves it noted when it fails; `noted`: whether anything is.

    `notify` hears of each failure.
    """

    def __init__(
        self, write: Callable[[], Awaitable[None]], noted: Callable[[], bool], notify: Callable[[Exception], None]
    ) -> None:
        self._write = write
        self._noted = noted
        self._notify = notify
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something was noted: it is written within `COMMIT_EVERY_S`, or as soon as that works again."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_soon(), name="postgres-log-offsets")

    async def stop(self) -> None:
        """Write nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _write_soon(self) -> None:
        """Go on until nothing is noted: what is noted while this runs is left to it."""
        while self._noted():
            await asyncio.sleep(COMMIT_EVERY_S)
            try:
                await self._write()
            except Exception as error:  # noqa: BLE001  # whatever it is, what was noted stays so and is written later
                self._notify(error)


@dataclass(slots=True, eq=False)
class HeldPartition:
    """A partition held since `generation`.

    `position` is the next offset to hand out, `next` the next to read. `known` is where the partition ended by the
    server's word, `end` also by that of notices, which is only reason enough to look.
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
        """Records that were read, in order; those that came before by another way are passed over."""
        if records and records[0].offset < self.next:
            records = [record for record in records if record.offset >= self.next]
        if records:
            self.buffer.extend(records)
            self.next = records[-1].offset + 1

    def take(self, limit: int) -> list[ConsumerRecord]:
        """Up to so many of the records that are buffered, which some are."""
        taken = list(islice(self.buffer, limit))
        if len(taken) == len(self.buffer):
            self.buffer.clear()
        else:
            for _ in taken:
                self.buffer.popleft()
        self.position = taken[-1].offset + 1
        return taken


class Membership:
    """Joins, renews, rejoins under a new name when the group went on without this member, writes offsets, leaves.

    `listen` is awaited with the channel on which the group says that its partitions are dealt anew. `doorbell`: where
    the process can be rung.
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
        """Whether the lease runs for certain: it was taken, at the server, no sooner than it was asked for here."""
        return self._member is not None and _now() < self.renewed_at + self._session_s

    def places(self) -> frozenset[Place]:
        return frozenset(self._by_place)

    async def renew(self) -> bool:
        """Renew the lease, and write what was noted, or join; True when the partitions changed.

        Raises TransportUnavailableError; then what was noted stays so.
        """
        async with self._turn:
            if self._member is not None and await self._renew():
                return False
            if self._member is None:
                await self._join()
            return True

    def note(self, records: Sequence[ConsumerRecord]) -> None:
        """Remember what is done. Only what was handed out under the present holding counts."""
        offsets: dict[Place, int] = {}
        for record in records:
            offsets[record.topic, record.partition] = record.offset + 1
        for place, offset in offsets.items():
            holding = self._by_place.get(place)
            if holding is not None and offset <= holding.position:
                self._note(holding, offset)

    def has_noted(self) -> bool:
        """Whether anything is noted that `renew` would look at."""
        return bool(self._done)

    async def leave(self) -> None:
        """Write what is noted, and go. Raises TransportUnavailableError."""
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
        """Whether everything is as before."""
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
        """Take over what the server says that this member holds. Whether it is what was held before."""
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
    """Made by `PostgresLogTransport.subscribe`. Sleeps until a notice names one of its partitions."""

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
        self._told = False
        self._closed = False

    async def start(self) -> None:
        """Join. Raises TransportUnavailableError; then this object is of no use."""
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
                self._told = False
                return self._take(max_records)
            elif self._told:
                # Let the caller see that it works again.
                self._told = False
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
        """Part of what the reader tells."""
        if channel not in self._channels or not payload:
            # The group is dealt anew, or nobody says which partitions: the server tells what is held, and its ends.
            self._renew_now.set()
            return
        try:
            for notice in read_notices(payload):
                holding = self._membership.holdings.get(notice.partition_id)
                if holding is not None and notice.end > holding.next:
                    self._received(notice, holding)
        except (ValueError, msgspec.MsgspecError):
            # Not one of ours, or of a release that says it otherwise.
            self._renew_now.set()

    def connected(self) -> None:
        """Part of what the reader tells: notices may have been missed, and a renewal says what is there."""
        self._renew_now.set()

    def lost(self) -> None:
        """Part of what the reader tells."""
        self._fail(TransportUnavailableError("log database: the connection was lost"))
        self._renew_now.set()

    def _received(self, notice: Notice, holding: HeldPartition) -> None:
        """Take the records, if they are the next ones; otherwise remember that there is more to read."""
        holding.end = max(holding.end, notice.end)
        if notice.body and notice.start == holding.next and self._buffered() < BUFFERED_MAX:
            holding.add(self._codec.brought(notice, holding.place))
        self._sort(holding)
        self._woken.set()

    def _buffered(self) -> int:
        return sum(len(holding.buffer) for holding in self._full)

    def _sort(self, holding: HeldPartition) -> None:
        """Where it belongs, behind those that wait there already: no partition starves the others."""
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
        """Read what is behind, in one statement."""
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
                # All that is kept: what is not among it has expired, and what was said beyond it is not so.
                holding.next = max(holding.next, known)
                if holding.end == end:
                    holding.end = holding.next
        held = self._membership.holdings
        for holding in sorted(asked, key=lambda each: each.partition_id in served):
            self._behind.pop(holding, None)
            # The group may have been dealt anew while the rows were on their way.
            if held.get(holding.partition_id) is holding:
                self._sort(holding)

    def _take(self, limit: int) -> list[ConsumerRecord]:
        """Up to so many records of what is buffered."""
        records: list[ConsumerRecord] = []
        while self._full and len(records) < limit:
            holding = next(iter(self._full))
            del self._full[holding]
            records += holding.take(limit - len(records))
            if holding.buffer:
                self._full[holding] = None
        return records

    async def _keep(self) -> None:
        """Renew the lease when it is time, or when something asks for it; one that writes offsets counts too."""
        while True:
            if self._problem is not None:
                # A server that is gone says so at once, and asking it without a pause helps nobody.
                await asyncio.sleep(RECONNECT_S)
            elif not await self._is_due():
                continue
            self._renew_now.clear()
            try:
                await self._renew()
            except Exception as error:  # noqa: BLE001  # a dead keeper would be a silent consumer: let `poll` say it
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
        """What was noted is written, and what nobody has told is found."""
        # First hear, then look: what comes in between is seen twice rather than never.
        await self._reader.ensure_open()
        if await self._membership.renew() and self._rings:
            # An appender that was under way may have told those who had the partitions before.
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
            self._told = True
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
