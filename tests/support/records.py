"""Short ways to append and to take records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from orderflow.core import envelopes, identity
from orderflow.core.messages import Envelope, Event
from orderflow.core.store import OutboxRecord
from orderflow.core.transport import Consumer, ConsumerRecord, ProducerRecord, Transport

TAKE_TIMEOUT_S = 120.0


def numbered(topic: str, count: int, keys: int = 5, start: int = 0) -> list[ProducerRecord]:
    """`count` records whose values are the numbers from `start` on, over `keys` keys in turn."""
    return [
        ProducerRecord(topic, f"key-{number % keys}".encode(), str(number).encode())
        for number in range(start, start + count)
    ]


def published(event: Event, number: int = 1) -> ProducerRecord:
    """As another service would have published it."""
    event_id = identity.event_id("/test", event.TYPE, event.key, number)
    envelope = Envelope(id=event_id, message=event, source="/test", key=event.key, sequence=number)
    headers = envelopes.to_headers(envelope)
    return ProducerRecord(event.TOPIC, event.key.encode(), msgspec.json.encode(event), headers)


def written(number: int = 1) -> OutboxRecord:
    """A row of the outbox."""
    return OutboxRecord(topic="t", key=b"k", value=b"{}", headers=(), event_id=UUID(int=number), slot=0, id=number)


def numbers(records: Iterable[ConsumerRecord]) -> list[int]:
    return [int(record.value or b"-1") for record in records]


async def take(consumer: Consumer, count: int, *, commit: bool = False) -> list[ConsumerRecord]:
    """Poll until `count` records are there; more may come with the last batch."""
    taken: list[ConsumerRecord] = []
    async with asyncio.timeout(TAKE_TIMEOUT_S):
        while len(taken) < count:
            records = await consumer.poll(100)
            taken += records
            if commit:
                await consumer.commit(records)
    return taken


async def collect(consumer: Consumer, taken: list[ConsumerRecord]) -> None:
    """Poll and commit until the consumer is closed."""
    while True:
        records = await consumer.poll(20)
        taken += records
        if not records and not consumer.assignment():
            return
        await consumer.commit(records)


async def committed_total(transport: Transport, group: str, topic: str) -> int:
    """How many records the group has committed, over all partitions."""
    return sum(place.committed or 0 for place in await transport.lag(group, [topic]))


def by_key(records: Sequence[ConsumerRecord]) -> dict[bytes | None, list[int]]:
    """The numbers of each key, in the order in which they came."""
    found: dict[bytes | None, list[int]] = {}
    for record in records:
        found.setdefault(record.key, []).append(int(record.value or b"-1"))
    return found
