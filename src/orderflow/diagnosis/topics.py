"""The records of one order in the topics: found by time, without a consumer group, a bounded number of reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from uuid import UUID

import msgspec

from orderflow.core.envelopes import traceparent_of
from orderflow.core.identity import Partitioner
from orderflow.core.operations.model import Content
from orderflow.core.timing import system_random
from orderflow.core.transport import ConsumerRecord, TopicMissingError, Transport, TransportUnavailableError
from orderflow.events.base import ORDER_EVENTS, TOPICS

TRACE_ID = slice(3, 35)
"""Of a `traceparent` (W3C Trace Context, 3.2)."""

EARLIER_MS = 2_000
LOOKED_MAX = 4_000
CHUNK = 500
TIMEOUT_S = 5.0

Log = Callable[[], AbstractAsyncContextManager[Transport]]


class TopicRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it stands in a topic. `time_ms` is when it was appended, in ms since the epoch; `trace_id` is ""
    where it carries none.
    """

    topic: str
    partition: int
    offset: int
    time_ms: int
    type: str
    event_id: str
    trace_id: str
    headers: Sequence[tuple[str, Content]]
    value: Content


@dataclass(frozen=True, slots=True)
class FoundRecords:
    """`problem` says in a sentence why the records may not be all."""

    records: Sequence[TopicRecord]
    problem: str = ""

    @property
    def trace_ids(self) -> Sequence[str]:
        """Those of the records, each once: the one that the order began with first."""
        return list(dict.fromkeys(each.trace_id for each in self.records if each.trace_id))


async def records_of(log: Log, order_id: UUID, topics: Sequence[str] = TOPICS) -> FoundRecords:
    """What the topics have of an order, oldest first."""
    try:
        async with asyncio.timeout(TIMEOUT_S), log() as transport:
            parts = [await _of_topic(transport, topic, order_id) for topic in topics]
    except TimeoutError:
        return FoundRecords((), f"The topics could not be read within {TIMEOUT_S:g} s. Try again.")
    except TransportUnavailableError as error:
        return FoundRecords((), f"The topics cannot be read: {error}")
    records = sorted((each for part in parts for each in part), key=lambda each: each.time_ms)
    return FoundRecords(records)


async def trace_of(log: Log, order_id: UUID) -> str:
    """The id of the trace that the order began; "" where its first events carry none, or cannot be read."""
    return next(iter((await records_of(log, order_id, (ORDER_EVENTS,))).trace_ids), "")


async def _of_topic(transport: Transport, topic: str, order_id: UUID) -> Sequence[TopicRecord]:
    try:
        ends = await transport.ends([topic])
    except TopicMissingError:
        return ()
    key = str(order_id).encode()
    partition = Partitioner(system_random()).partition(key, len(ends))
    first, end = ends[topic, partition]
    since_ms = (order_id.int >> 80) - EARLIER_MS
    position = await _since(transport, topic, partition, first, end, since_ms)
    limit = min(end, position + LOOKED_MAX)
    found: list[TopicRecord] = []
    while position < limit:
        records = await transport.read(topic, partition, position, CHUNK)
        found += [_told(record) for record in records if record.key == key]
        if not records or len(records) < CHUNK:
            break
        position = records[-1].offset + 1
    return found


async def _since(transport: Transport, topic: str, partition: int, first: int, end: int, since_ms: int) -> int:
    """The first offset whose record is not older; time does not run backwards in a partition, but for a little."""
    low, high = first, end
    while low < high:
        middle = (low + high) // 2
        found = await transport.read(topic, partition, middle, 1)
        if found and found[0].timestamp < since_ms:
            low = found[0].offset + 1
        else:
            high = middle
    return low


def _told(record: ConsumerRecord) -> TopicRecord:
    headers = [(name, Content.of(value)) for name, value in record.headers]
    texts = {name: content.text or "" for name, content in headers}
    return TopicRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        time_ms=record.timestamp,
        type=texts.get("ce_type", ""),
        event_id=texts.get("ce_id", ""),
        trace_id=(traceparent_of(record.headers) or "")[TRACE_ID],
        headers=headers,
        value=Content.of(record.value),
    )
