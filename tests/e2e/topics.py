"""The topics of a running system, as any other program would read and write them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from orderflow.core.transport import ConsumerRecord, ProducerRecord, Transport
from orderflow.runtime.wiring import connect_transport
from tests.e2e.system import System

PAGE = 1_000


@asynccontextmanager
async def transport_of(system: System) -> AsyncIterator[Transport]:
    transport = await connect_transport(system.settings())
    try:
        yield transport
    finally:
        await transport.close()


async def everything_on(transport: Transport, topic: str) -> list[ConsumerRecord]:
    """All records of a topic, in offset order within each partition."""
    records: list[ConsumerRecord] = []
    for (_, partition), (first, end) in sorted((await transport.ends([topic])).items()):
        position = first
        while position < end:
            page = await transport.read(topic, partition, position, PAGE)
            if not page:
                break
            records.extend(page)
            position = page[-1].offset + 1
    return records


def again(records: Sequence[ConsumerRecord]) -> list[ProducerRecord]:
    """The same records, to be appended once more."""
    return [ProducerRecord(each.topic, each.key, each.value, each.headers) for each in records]
