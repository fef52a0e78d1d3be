"""The log in memory with late deliveries, appends of which only a part arrives, and members that hang."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from orderflow.core.postgres_log.consumer import OffsetWriter
from orderflow.core.testing import MemoryConsumer, MemoryLog, MemoryTransport
from orderflow.core.testing.log import ConsumerGroup, GroupMember
from orderflow.core.timing import Clock
from orderflow.core.transport import ConsumerRecord, ProducerRecord, TransportUnavailableError

Place = tuple[str, int]


class WatchedGroup(ConsumerGroup):
    """A group that tells what is committed: partition, from, to."""

    def __init__(self, committed: Callable[[Place, int, int], None]) -> None:
        super().__init__()
        self._committed = committed

    def commit(self, member: GroupMember, offsets: Mapping[Place, int]) -> None:
        before = {place: self.committed.get(place, 0) for place in offsets}
        super().commit(member, offsets)
        for place, start in before.items():
            end = self.committed.get(place, 0)
            if end != start:
                self._committed(place, start, end)


class TroubledLog(MemoryLog):
    """Partitions in `late` show nothing new to those who poll. `committed` is told what a group has committed,
    `appended` what relays have appended.
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        session_timeout_s: float,
        committed: Callable[[str, Sequence[ConsumerRecord]], None] = lambda *_: None,
        appended: Callable[[Sequence[ProducerRecord]], None] = lambda _: None,
    ) -> None:
        super().__init__(clock, rng, session_timeout_s=session_timeout_s)
        self.late: set[Place] = set()
        self._tell_committed = committed
        self._tell_appended = appended

    def append(self, records: Sequence[ProducerRecord]) -> None:
        super().append(records)
        self._tell_appended(records)

    def slip_in(self, records: Sequence[ProducerRecord]) -> None:
        """Append what no relay of ours has appended."""
        super().append(records)

    def group(self, name: str) -> ConsumerGroup:
        if name not in self._groups:
            self._groups[name] = WatchedGroup(lambda place, start, end: self._committed(name, place, start, end))
        return self._groups[name]

    def _committed(self, group: str, place: Place, start: int, end: int) -> None:
        topic, partition = place
        self._tell_committed(group, self._topics[topic][partition][start:end])

    def topics(self) -> list[str]:
        """All topics, dead letters included."""
        return list(self._topics)

    def slice(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        if self.late and (topic, partition) in self.late:
            return ()
        return super().slice(topic, partition, offset, limit)


class TroubledConsumer(MemoryConsumer):
    """`late`: committed offsets are noted, and written down as the log in PostgreSQL does it, by its own code."""

    def __init__(
        self, log: MemoryLog, group: str, topics: Sequence[str], hop: Callable[[str], Awaitable[None]], *, late: bool
    ) -> None:
        super().__init__(log, group, topics, hop)
        self.group = group
        self._served = asyncio.Event()
        self._served.set()
        self._noted: dict[Place, tuple[GroupMember, ConsumerRecord]] = {}
        self._offsets = OffsetWriter(self._write, lambda: bool(self._noted), lambda _: None) if late else None

    def stop_serving(self, *, leaves: bool) -> None:
        """Nothing comes any more, and no error: a client that hangs. `leaves`: its group goes on without it."""
        self._served.clear()
        self._member.wake = lambda: None
        if leaves:
            self._log.leave(self.group, self._member)

    def unread(self) -> bool:
        """Whether there is something that only this member could read: in its partitions, or in those of nobody."""
        group = self._log.group(self.group)
        others = {place for member in group.members if member is not self._member for place in member.positions}
        ends = self._log.ends(self._topics)
        return any(end > group.committed.get(place, 0) for place, (_, end) in ends.items() if place not in others)

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        if not self._served.is_set():
            await self._served.wait()
        return await super().poll(max_records)

    async def commit(self, records: Sequence[ConsumerRecord]) -> None:
        if self._offsets is None:
            await super().commit(records)
        elif not self._closed:
            for record in records:
                place = (record.topic, record.partition)
                member, last = self._noted.get(place, (None, record))
                if member is not self._member or last.offset < record.offset:
                    self._noted[place] = (self._member, record)
            self._offsets.wake()

    async def close(self) -> None:
        self._served.set()
        await super().close()

    async def _finish(self) -> None:
        if self._offsets is not None:
            await self._offsets.stop()
            with suppress(TransportUnavailableError):
                await self._write()

    async def _write(self) -> None:
        """What was noted under another membership counts no more."""
        noted, self._noted = self._noted, {}
        try:
            await super().commit([record for member, record in noted.values() if member is self._member])
        except BaseException:
            self._noted = {**noted, **self._noted}
            raise


class TroubledTransport(MemoryTransport):
    """`members` are the consumers of this connection. `cut` says after how many records an append breaks off."""

    def __init__(
        self,
        log: MemoryLog,
        hop: Callable[[str], Awaitable[None]],
        cut: Callable[[int], int | None],
        *,
        commit_late: bool,
    ) -> None:
        super().__init__(log, hop=hop)
        self.members: list[TroubledConsumer] = []
        self._cut = cut
        self._commit_late = commit_late

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        arrived = self._cut(len(records))
        if arrived is None:
            await super().append(records)
            return
        await super().append(records[:arrived])
        raise TransportUnavailableError("the connection broke off in the middle of an append")

    async def subscribe(self, group: str, topics: Sequence[str]) -> TroubledConsumer:
        consumer = TroubledConsumer(self._log, group, topics, self._hop, late=self._commit_late)
        self.members.append(consumer)
        return consumer

    async def close(self) -> None:
        for member in self.members:
            await member.close()
