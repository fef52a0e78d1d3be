"""The records of one order in the topics, and the trace that it began."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from orderflow.core.identity import uuid7
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import SystemClock
from orderflow.core.transport import Headers, ProducerRecord, TopicSettings, Transport
from orderflow.diagnosis.topics import records_of, trace_of
from orderflow.events.base import ORDER_EVENTS, PAYMENT_STATUS, TOPICS

TRACE, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
ORDER, NEIGHBOUR = (uuid7(SystemClock().wall_ms(), random.Random(number)) for number in (1, 2))


def carrying(trace_id: str) -> Headers:
    return (("ce_type", b"orderflow.OrderPlaced.v1"), ("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01".encode()))


class Log:
    """One partition a topic, so that others' records are between those of the order."""

    def __init__(self) -> None:
        self.memory = MemoryLog(SystemClock(), random.Random(1))
        self.memory.create([TopicSettings(name, 1) for name in TOPICS])

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Transport]:
        yield MemoryTransport(self.memory)

    def append(self, topic: str, order_id: UUID, headers: Headers) -> None:
        self.memory.append([ProducerRecord(topic, str(order_id).encode(), b"{}", headers)])


async def test_the_trace_is_the_one_that_the_order_began() -> None:
    log = Log()
    log.append(ORDER_EVENTS, NEIGHBOUR, carrying(OTHER))
    log.append(ORDER_EVENTS, ORDER, carrying(TRACE))
    log.append(PAYMENT_STATUS, ORDER, carrying(OTHER))

    assert await trace_of(log, ORDER) == TRACE
    found = await records_of(log, ORDER)
    assert [(each.topic, each.offset) for each in found.records] == [(ORDER_EVENTS, 1), (PAYMENT_STATUS, 0)]
    assert found.trace_ids == [TRACE, OTHER]


async def test_no_trace_is_told_where_there_is_none_or_it_is_malformed() -> None:
    log = Log()
    log.append(ORDER_EVENTS, ORDER, ())
    log.append(ORDER_EVENTS, NEIGHBOUR, (("traceparent", b"00-<script>-00f067aa0ba902b7-01"),))

    assert [await trace_of(log, each) for each in (ORDER, NEIGHBOUR)] == ["", ""]
    assert len((await records_of(log, NEIGHBOUR)).records) == 1


async def test_a_log_that_is_away_has_no_trace_and_is_told() -> None:
    log = Log()
    log.append(ORDER_EVENTS, ORDER, carrying(TRACE))
    log.memory.reachable = False

    assert await trace_of(log, ORDER) == ""
    assert "cannot be read" in (await records_of(log, ORDER)).problem
