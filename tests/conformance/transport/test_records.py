"""What is appended is what is read, byte for byte, in order."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest
from msgspec.structs import replace

from orderflow.core.identity import murmur2
from orderflow.core.transport import (
    MAX_HEADERS,
    MAX_RECORD_BYTES,
    Headers,
    ProducerRecord,
    RecordTooLargeError,
    TopicMissingError,
    TopicSettings,
    Transport,
    size_of,
)
from tests.conformance.transport.conftest import PARTITIONS
from tests.support.records import by_key, numbered, numbers, take
from tests.support.transports import Harness

HEADERS: Headers = (
    ("ce_id", b"1"),
    ("repeated", b"first"),
    ("repeated", b"second"),
    ("none", None),
    ("empty", b""),
    ("not-utf-8", b"\xff\x00\xfe"),
    ("näme", "wörth".encode()),
)


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        pytest.param(b"key", b"value", HEADERS, id="every kind of header"),
        pytest.param(b"key", b"value", (), id="no headers"),
        pytest.param(b"key", None, (), id="no value (a tombstone)"),
        pytest.param(b"key", b"", (), id="an empty value"),
        pytest.param(b"", b"value", (), id="an empty key"),
        pytest.param(None, b"value", (), id="no key"),
        pytest.param(None, None, (), id="nothing at all"),
        pytest.param(b"\xff\x00", b"\x00\xff", (), id="bytes that are no text"),
        pytest.param(b"key", b"x" * 900_000, (), id="a value of 900 kB"),
    ],
)
async def test_a_record_comes_back_as_it_was_appended(
    transport: Transport, topic: str, group: str, key: bytes | None, value: bytes | None, headers: Headers
) -> None:
    before = time.time() * 1000
    await transport.append([ProducerRecord(topic, key, value, headers)])
    [record] = await take(await transport.subscribe(group, [topic]), 1)
    assert (record.topic, record.key, record.value, record.headers) == (topic, key, value, headers)
    assert record.offset == 0
    assert abs(record.timestamp - before) < 60_000


async def test_the_partition_is_the_one_that_kafka_clients_choose(transport: Transport, topic: str) -> None:
    keys = [b"", b"a", b"abc", b"\xff\xfe", *(str(uuid4()).encode() for _ in range(20))]
    await transport.append([ProducerRecord(topic, key, b"value") for key in keys])
    for partition in range(PARTITIONS):
        found = {record.key for record in await transport.read(topic, partition, 0, 100)}
        assert found == {key for key in keys if (murmur2(key) & 0x7FFFFFFF) % PARTITIONS == partition}


async def test_a_long_batch_keeps_the_order_of_each_key(transport: Transport, topic: str, group: str) -> None:
    await transport.append(numbered(topic, 3000, keys=20))
    records = await take(await transport.subscribe(group, [topic]), 3000)
    assert sorted(numbers(records)) == list(range(3000))
    for key, found in by_key(records).items():
        assert found == sorted(found), key


async def test_appenders_side_by_side_leave_no_gap_in_the_offsets(
    harness: Harness, transport: Transport, topic: str
) -> None:
    appenders = [await harness.connect() for _ in range(4)]
    await asyncio.gather(
        *(appenders[n % 4].append(numbered(topic, 40, start=40 * n)) for n in range(10)),
    )
    total = 0
    for (_, partition), (first, end) in (await transport.ends([topic])).items():
        records = await transport.read(topic, partition, first, 1000)
        assert [record.offset for record in records] == list(range(first, end))
        total += len(records)
    assert total == 400


async def test_appends_one_after_the_other_keep_their_order(transport: Transport, topic: str) -> None:
    for number in range(20):
        await transport.append([ProducerRecord(topic, b"key", str(number).encode())])
    partition = (murmur2(b"key") & 0x7FFFFFFF) % PARTITIONS
    assert numbers(await transport.read(topic, partition, 0, 100)) == list(range(20))


async def test_appending_nothing_does_nothing(transport: Transport, topic: str) -> None:
    await transport.append([])
    assert set((await transport.ends([topic])).values()) == {(0, 0)}


async def test_a_record_over_the_limit_is_refused_with_all_of_its_batch(transport: Transport, topic: str) -> None:
    small = ProducerRecord(topic, b"key", b"value")
    with pytest.raises(RecordTooLargeError, match="limit"):
        await transport.append([small, filled(ProducerRecord(topic, b"key", b""), 1)])
    with pytest.raises(RecordTooLargeError, match="limit"):
        await transport.append([small, ProducerRecord(topic, b"key", b"", (("", None),) * (MAX_HEADERS + 1))])
    assert set((await transport.ends([topic])).values()) == {(0, 0)}


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        pytest.param(b"key", (), id="of a value"),
        pytest.param(b"key", (("", None),) * 99_990, id="of headers without a name"),
        pytest.param(b"key", (("", b""),) * MAX_HEADERS, id="of empty headers"),
        pytest.param(b"key", (("n" * 64, b"v" * 64),) * 9_000, id="of headers"),
        pytest.param(b"key", (("😀" * 20_000, b"v" * 8192),) * 12, id="of long headers"),
        pytest.param(b"k" * 1_000_000, (), id="of a key"),
    ],
)
async def test_a_record_that_just_fits_is_taken_by_every_log(
    transport: Transport, topic: str, group: str, key: bytes, headers: Headers
) -> None:
    full = filled(ProducerRecord(topic, key, b"", headers))
    await transport.append([full])
    [record] = await take(await transport.subscribe(group, [topic]), 1)
    assert (record.key, record.value, record.headers) == (full.key, full.value, full.headers)


def filled(record: ProducerRecord, more: int = 0) -> ProducerRecord:
    """With a value that makes it as large as any may be, and `more` bytes."""
    return replace(record, value=b"x" * (MAX_RECORD_BYTES - size_of(record) + more))


async def test_reading_starts_and_stops_where_it_is_told(transport: Transport, topic: str) -> None:
    await transport.append([ProducerRecord(topic, b"key", str(number).encode()) for number in range(10)])
    partition = (murmur2(b"key") & 0x7FFFFFFF) % PARTITIONS
    assert numbers(await transport.read(topic, partition, 3, 4)) == [3, 4, 5, 6]
    assert numbers(await transport.read(topic, partition, 8, 100)) == [8, 9]
    assert list(await transport.read(topic, partition, 10, 100)) == []
    assert list(await transport.read(topic, partition, 99, 100)) == []
    assert list(await transport.read(topic, (partition + 1) % PARTITIONS, 0, 100)) == []


async def test_the_ends_say_how_much_is_there(transport: Transport, topic: str) -> None:
    await transport.append(numbered(topic, 30, keys=7))
    ends = await transport.ends([topic])
    assert set(ends) == {(topic, partition) for partition in range(PARTITIONS)}
    assert sum(end for _, end in ends.values()) == 30
    assert {first for first, _ in ends.values()} == {0}


async def test_a_topic_that_is_there_is_left_as_it_is(transport: Transport, topic: str) -> None:
    await transport.append(numbered(topic, 5))
    other = f"topic-{uuid4().hex[:12]}"
    await transport.create_topics([TopicSettings(topic, PARTITIONS + 4), TopicSettings(other, 1, 3_600_000)])
    ends = await transport.ends([topic, other])
    assert len(ends) == PARTITIONS + 1
    assert sum(end for _, end in ends.values()) == 5


async def test_an_unknown_topic_is_said_to_be_missing(transport: Transport, topic: str, group: str) -> None:
    missing = f"missing-{uuid4().hex}"
    with pytest.raises(TopicMissingError, match=missing):
        await transport.append([ProducerRecord(topic, b"key", b"value"), ProducerRecord(missing, b"key", b"")])
    with pytest.raises(TopicMissingError, match=missing):
        await transport.subscribe(group, [topic, missing])
    with pytest.raises(TopicMissingError, match=missing):
        await transport.read(missing, 0, 0, 1)
    with pytest.raises(TopicMissingError, match=topic):
        await transport.read(topic, PARTITIONS, 0, 1)
    with pytest.raises(TopicMissingError, match=missing):
        await transport.ends([topic, missing])
    with pytest.raises(TopicMissingError, match=missing):
        await transport.lag(group, [missing])
    assert set((await transport.ends([topic])).values()) == {(0, 0)}


async def test_a_topic_made_later_by_somebody_else_is_found(transport: Transport, topic: str, group: str) -> None:
    name = f"later-{uuid4().hex[:12]}"
    with pytest.raises(TopicMissingError):
        await transport.append([ProducerRecord(name, b"key", b"value")])
    await transport.create_topics([TopicSettings(name, 1)])
    await transport.append([ProducerRecord(name, b"key", b"value")])
    assert len(await take(await transport.subscribe(group, [topic, name]), 1)) == 1
