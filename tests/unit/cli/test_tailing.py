"""Reading a topic's partitions as one stream, over the memory transport."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable

import pytest

from orderflow.cli import topic as tailing
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ConsumerRecord, ProducerRecord, TopicMissingError, TopicSettings, Transport

TOPIC = "order-events"


class Ticking(SystemClock):
    """Each look at it is a millisecond later than the one before."""

    def __init__(self) -> None:
        self._now = 0

    def wall_ms(self) -> int:
        self._now += 1
        return self._now


async def log_of(keys: Iterable[bytes]) -> MemoryTransport:
    """Records of these keys, numbered, each appended later than the one before."""
    transport = MemoryTransport(MemoryLog(Ticking(), random.Random(1)))
    await transport.create_topics([TopicSettings(TOPIC, 3)])
    for number, key in enumerate(keys):
        await transport.append([ProducerRecord(TOPIC, key, b"%d" % number)])
    return transport


async def values(records: AsyncIterator[ConsumerRecord]) -> list[int]:
    return [int(record.value or b"-1") async for record in records]


async def all_spans(transport: Transport) -> dict[int, tailing.Span]:
    return await tailing.spans(transport, TOPIC, lambda first, _: first)


def many() -> Iterable[bytes]:
    return (b"key-%d" % (number % 17) for number in range(100))


async def test_the_records_of_all_partitions_come_in_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "CHUNK", 7)
    transport = await log_of(many())

    assert await values(tailing.merged(transport, TOPIC, await all_spans(transport))) == list(range(100))


async def test_the_last_ones_are_the_last_in_time_over_all_partitions() -> None:
    transport = await log_of(many())
    narrowed = await tailing.last_of(transport, TOPIC, await all_spans(transport), 10)

    assert await values(tailing.merged(transport, TOPIC, narrowed)) == list(range(90, 100))


@pytest.mark.parametrize("start", [-5, 0, 2, 10**6])
async def test_a_place_to_start_is_kept_within_what_is_there(start: int) -> None:
    transport = await log_of([b"a"] * 3)
    spans = await tailing.spans(transport, TOPIC, lambda first, end: start if end else first)

    assert await values(tailing.merged(transport, TOPIC, spans)) == list(range(3))[max(0, start) :]


async def test_following_goes_on_with_what_is_appended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "LOOK_EVERY_S", 0)
    transport = await log_of([b"a", b"b"])
    records = tailing.followed(transport, TOPIC, await all_spans(transport))
    assert sorted([int((await anext(records)).value or b"") for _ in range(2)]) == [0, 1]

    await transport.append([ProducerRecord(TOPIC, b"c", b"2")])

    assert (await anext(records)).value == b"2"


async def test_a_topic_that_is_not_there_is_said() -> None:
    with pytest.raises(TopicMissingError):
        await tailing.spans(await log_of([]), "other", lambda first, _: first)
