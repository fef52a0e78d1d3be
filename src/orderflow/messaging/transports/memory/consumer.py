"""A member of a consumer group on the log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from orderflow.messaging.transport import ConsumerRecord, size_of
from orderflow.messaging.transports.limits import POLL_BYTES_MAX, within
from orderflow.messaging.transports.memory.groups import Member, TopicPartition
from orderflow.messaging.transports.memory.log import MemoryLog


class MemoryConsumer:
    """Made by `MemoryTransport.subscribe`."""

    def __init__(
        self, log: MemoryLog, group: str, topics: Sequence[str], hop: Callable[[str], Awaitable[None]]
    ) -> None:
        self._log = log
        self._group = group
        self._topics = tuple(topics)
        self._hop = hop
        self._woken = asyncio.Event()
        self._closed = False
        self._expiry: asyncio.Task[None] | None = None
        self._member: Member = log.join(group, self._topics, self._woken.set)

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        await self._hop("poll")
        self._resume()
        while not self._closed:
            self._woken.clear()
            self._log.check()
            if self._member.fenced:
                self._member = self._log.join(self._group, self._topics, self._woken.set)
            batch = self._fetch(max_records)
            if batch:
                return batch
            await self._woken.wait()
        return ()

    async def settle(self, records: Sequence[ConsumerRecord]) -> None:
        member = self._member
        await self._hop("settle")
        self._log.check()
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            place = (record.topic, record.partition)
            offsets[place] = max(record.offset + 1, offsets.get(place, 0))
        self._log.group(self._group).settle(member, offsets)

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._member.positions)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._woken.set()
        await self._finish()
        self._resume()
        self._log.leave(self._group, self._member)

    async def _finish(self) -> None:
        """Between the last poll and leaving the group; who closes once more meanwhile does not leave before it."""

    def stop_heartbeats(self) -> None:
        """As when the process is killed or stands still: the session times out, and the group goes on.

        A poll (the process goes on) takes the heartbeats up again, and joins anew if it is too late.
        """
        self._resume()
        self._expiry = asyncio.ensure_future(self._expire(self._member))

    def _resume(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    async def _expire(self, member: Member) -> None:
        await self._log.clock.sleep(self._log.session_timeout_s)
        self._log.leave(self._group, member)

    def _fetch(self, limit: int) -> list[ConsumerRecord]:
        batch: list[ConsumerRecord] = []
        taken = 0
        positions = self._member.positions
        for place, position in list(positions.items()):
            room = limit - len(batch)
            if room == 0 or taken >= POLL_BYTES_MAX:
                break
            records = within(POLL_BYTES_MAX - taken, self._log.slice(*place, position, room))
            taken += sum(map(size_of, records))
            if records:
                batch += records
                # Served last, asked last: no partition starves the others.
                del positions[place]
                positions[place] = records[-1].offset + 1
        return batch
