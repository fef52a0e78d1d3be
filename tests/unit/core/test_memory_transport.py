from __future__ import annotations

import random

import pytest

from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ProducerRecord, TopicSettings, TransportUnavailableError


def log(seed: int = 1) -> MemoryLog:
    return MemoryLog(SystemClock(), random.Random(seed))


async def test_the_same_chance_spreads_records_without_a_key_in_the_same_way() -> None:
    traces = []
    for _ in range(2):
        transport = MemoryTransport(log(seed=5))
        await transport.create_topics([TopicSettings("topic", 6)])
        await transport.append([ProducerRecord("topic", None, b"value")] * 50)
        traces.append(await transport.ends(["topic"]))
    assert traces[0] == traces[1]


async def test_an_acknowledgement_that_is_lost_leaves_the_record_in_the_log() -> None:
    async def lose_the_acknowledgement(crossing: str) -> None:
        if crossing == "appended":
            raise TransportUnavailableError(crossing)

    shared = log()
    transport = MemoryTransport(shared, hop=lose_the_acknowledgement)
    await transport.create_topics([TopicSettings("topic", 1)])
    with pytest.raises(TransportUnavailableError):
        await transport.append([ProducerRecord("topic", b"key", b"value")])
    assert [record.value for record in await MemoryTransport(shared).read("topic", 0, 0, 9)] == [b"value"]


async def test_every_crossing_of_the_network_can_be_delayed_or_broken() -> None:
    crossings: list[str] = []

    async def note(crossing: str) -> None:
        crossings.append(crossing)

    transport = MemoryTransport(log(), hop=note)
    await transport.create_topics([TopicSettings("topic", 1)])
    await transport.append([ProducerRecord("topic", b"key", b"value")])
    consumer = await transport.subscribe("group", ["topic"])
    await consumer.commit(await consumer.poll(1))
    await transport.close()
    assert crossings == ["append", "appended", "poll", "commit_offsets"]
