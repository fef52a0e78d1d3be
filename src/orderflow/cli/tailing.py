"""Reading a topic's partitions as one stream, in order of time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

from orderflow.messaging.transport import ConsumerRecord, Transport

CHUNK = 500
LOOK_EVERY_S = 0.2

Span = tuple[int, int]
Start = Callable[[int, int], int]


async def spans(transport: Transport, topic: str, start: Start) -> dict[int, Span]:
    """For each partition: where to start, and where it ends now.

    A key is looked for in all of them: it moves to another when partitions are added to a topic.
    `start` gets the first offset kept and the end. Raises TopicMissingError, TransportUnavailableError.
    """
    ends = {partition: span for (_, partition), span in (await transport.ends([topic])).items()}
    return {partition: (min(end, max(first, start(first, end))), end) for partition, (first, end) in ends.items()}


async def last_of(transport: Transport, topic: str, wanted: Mapping[int, Span], count: int) -> dict[int, Span]:
    """The spans narrowed to the `count` records that are last in time over all partitions."""
    records = [record async for record in merged(transport, topic, wanted)]
    narrowed = {partition: (end, end) for partition, (_, end) in wanted.items()}
    for record in reversed(records[-count:]):
        narrowed[record.partition] = (record.offset, wanted[record.partition][1])
    return narrowed


async def merged(transport: Transport, topic: str, wanted: Mapping[int, Span]) -> AsyncIterator[ConsumerRecord]:
    """All records of the spans, by time of appending; in a partition by offset."""
    stretches = [_Stretch(transport, topic, partition, span) for partition, span in wanted.items()]
    await asyncio.gather(*(stretch.fill() for stretch in stretches))
    while stretches := [stretch for stretch in stretches if stretch.records]:
        next_one = min(stretches, key=lambda stretch: stretch.records[0].timestamp)
        yield next_one.records.popleft()
        if not next_one.records:
            await next_one.fill()


async def followed(
    transport: Transport, topic: str, wanted: Mapping[int, Span]
) -> AsyncGenerator[ConsumerRecord, None]:
    """The same, and then what is appended, for ever."""
    current = dict(wanted)
    while True:
        async for record in merged(transport, topic, current):
            yield record
        await asyncio.sleep(LOOK_EVERY_S)
        ends = await transport.ends([topic])
        current = {
            # A partition that was added meanwhile is read from its first record.
            partition: (last, max(last, end))
            for (_, partition), (first, end) in ends.items()
            for last in [current[partition][1] if partition in current else first]
        }


class _Stretch:
    """What is left of one partition's span; `records` are read and not given out yet."""

    def __init__(self, transport: Transport, topic: str, partition: int, span: Span) -> None:
        self._transport = transport
        self._topic = topic
        self._partition = partition
        self._position, self._end = span
        self.records: deque[ConsumerRecord] = deque()

    async def fill(self) -> None:
        """Read on; `records` stays empty at the end of the span."""
        if self._position >= self._end:
            return
        limit = min(CHUNK, self._end - self._position)
        found = await self._transport.read(self._topic, self._partition, self._position, limit)
        self._position = found[-1].offset + 1 if found else self._end
        self.records.extend(record for record in found if record.offset < self._end)
