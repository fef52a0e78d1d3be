"""What others do to Kafka while we read: topics replaced and grown, foreign transactions, answers that never come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest
from confluent_kafka import Consumer as Client
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from orderflow.cli import topic as tailing
from orderflow.core.kafka import KafkaTransport
from orderflow.core.kafka.membership import BACK_PRESSURE_S, MAX_RECORDS
from orderflow.core.transport import (
    Consumer,
    ConsumerRecord,
    ProducerRecord,
    TopicMissingError,
    TopicReplacedError,
    TopicSettings,
    Transport,
    TransportUnavailableError,
)
from tests.support.kafka import KafkaServer
from tests.support.kafka_gate import OFFSET_COMMIT, gate
from tests.support.records import committed_total, numbered, numbers, take
from tests.support.waiting import eventually

PATIENCE_S = 120.0


@pytest.fixture
async def transport(kafka: KafkaServer) -> AsyncIterator[KafkaTransport]:
    transport = await KafkaTransport.connect(kafka.bootstrap, session_timeout_s=6.0)
    yield transport
    await transport.close()


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid4().hex[:12]}"


@pytest.fixture
def group() -> str:
    return f"group-{uuid4().hex[:12]}"


async def test_a_member_whose_commit_is_never_answered_comes_back(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str
) -> None:
    await transport.create_topics([TopicSettings(topic, 4)])
    async with gate(kafka.gate, kafka.behind_gate) as gated:
        unlucky = await KafkaTransport.connect(f"127.0.0.1:{kafka.gate}", session_timeout_s=6.0)
        consumer = await unlucky.subscribe(group, [topic])
        await transport.append(numbered(topic, 40, keys=40))
        gated.swallows.add(OFFSET_COMMIT)
        await take(consumer, 40, commit=True)
        await eventually(lambda: gated.swallowed)
        other = await transport.subscribe(group, [topic])
        await eventually(lambda: 0 < len(consumer.assignment()) < 4, timeout_s=PATIENCE_S)
        gated.swallows.clear()
        await other.close()

        await transport.append(numbered(topic, 40, keys=40, start=100))

        await _take_patiently(consumer, set(range(100, 140)))
        await eventually(lambda: _lag(transport, group, topic, 0), timeout_s=PATIENCE_S)
        await unlucky.close()


async def test_each_member_gets_a_share_of_every_topic(kafka: KafkaServer, transport: KafkaTransport) -> None:
    busy, quiet, group = (f"{name}-{uuid4().hex[:8]}" for name in ("busy", "quiet", "group"))
    await transport.create_topics([TopicSettings(busy, 6), TopicSettings(quiet, 6)])
    members = [await transport.subscribe(group, [busy, quiet])]
    await eventually(lambda: len(members[0].assignment()) == 12, timeout_s=PATIENCE_S)
    members.append(await transport.subscribe(group, [busy, quiet]))
    await eventually(lambda: _shares(members, busy) == _shares(members, quiet) == [3, 3], timeout_s=PATIENCE_S)
    members.append(await transport.subscribe(group, [busy, quiet]))
    await eventually(lambda: _shares(members, busy) == _shares(members, quiet) == [2, 2, 2], timeout_s=PATIENCE_S)


async def test_partitions_that_are_added_are_written_and_read(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str
) -> None:
    await transport.create_topics([TopicSettings(topic, 2)])
    consumer = await transport.subscribe(group, [topic])
    await transport.append(numbered(topic, 20, keys=20))
    await take(consumer, 20, commit=True)
    followed = tailing.followed(transport, topic, await tailing.spans(transport, topic, lambda first, _: first))
    shown = {int((await anext(followed)).value or b"") for _ in range(20)}

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    [grown] = admin.create_partitions([NewPartitions(topic, 5)]).values()
    await asyncio.wrap_future(grown)

    await eventually(lambda: len(consumer.assignment()) == 5)
    written = set(range(20))

    async def all_are_written() -> bool:
        await transport.append(numbered(topic, 20, keys=20, start=len(written)))
        written.update(range(len(written), len(written) + 20))
        return all([await transport.read(topic, partition, 0, 1) for partition in range(5)])

    await eventually(all_are_written)
    await _take_patiently(consumer, set(written) - set(range(20)))
    await eventually(lambda: _lag(transport, group, topic, 0), timeout_s=PATIENCE_S)
    assert len(await transport.lag(group, [topic])) == 5
    async with asyncio.timeout(PATIENCE_S):
        while shown != written:
            shown.add(int((await anext(followed)).value or b""))
    await followed.aclose()


async def test_a_topic_made_again_is_noticed_and_read_from_its_beginning(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str
) -> None:
    await transport.create_topics([TopicSettings(topic, 1)])
    consumer = await transport.subscribe(group, [topic])
    await transport.append(numbered(topic, 5))
    await take(consumer, 5, commit=True)
    await eventually(lambda: _has_committed(transport, group, topic, 5))

    await _make_again(kafka, topic)
    await _append_patiently(transport, numbered(topic, 12, start=100))

    found, replaced = await _take_patiently(consumer, set(range(100, 112)))
    assert set(numbers(found)) == set(range(100, 112))
    assert [(error.topic, error.how) for error in replaced] == [(topic, "it was deleted and made again")]
    await eventually(lambda: _has_committed(transport, group, topic, 12), timeout_s=PATIENCE_S)


async def test_an_offset_committed_for_an_earlier_topic_of_the_name_is_not_trusted(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str
) -> None:
    """Brokers forget the offsets of a topic that is deleted, but not those that are committed after that."""
    await transport.create_topics([TopicSettings(topic, 1)])
    consumer = await transport.subscribe(group, [topic])
    await transport.append(numbered(topic, 5))
    await take(consumer, 5, commit=True)
    await eventually(lambda: _has_committed(transport, group, topic, 5))
    await consumer.close()
    committed = await asyncio.to_thread(_committed, kafka, group, topic)
    await _make_again(kafka, topic)
    await _append_patiently(transport, numbered(topic, 12, start=100))
    await asyncio.to_thread(_commit, kafka, group, committed)

    found, replaced = await _take_patiently(await transport.subscribe(group, [topic]), set(range(100, 112)))

    assert numbers(found) == list(range(100, 112))
    assert [(error.topic, error.how) for error in replaced] == [(topic, "it was deleted and made again")]


async def test_a_log_that_has_lost_its_end_is_noticed_and_read_from_its_beginning(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str
) -> None:
    await transport.create_topics([TopicSettings(topic, 1)])
    await transport.append(numbered(topic, 12))
    await asyncio.to_thread(_commit, kafka, group, TopicPartition(topic, 0, 100))

    found, replaced = await _take_patiently(await transport.subscribe(group, [topic]), set(range(12)))

    assert numbers(found) == list(range(12))
    assert [error.topic for error in replaced] == [topic]
    await eventually(lambda: _has_committed(transport, group, topic, 12), timeout_s=PATIENCE_S)


async def test_records_that_expired_are_passed_over_at_the_start(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str
) -> None:
    await transport.create_topics([TopicSettings(topic, 1)])
    await transport.append(numbered(topic, 12))
    await asyncio.to_thread(_commit, kafka, group, TopicPartition(topic, 0, 2))
    await _expire(kafka, topic, 10)

    found, replaced = await _take_patiently(await transport.subscribe(group, [topic]), {10, 11})

    assert numbers(found) == [10, 11]
    assert replaced == []


async def test_records_that_expire_under_a_slow_reader_are_passed_over(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str
) -> None:
    await transport.create_topics([TopicSettings(topic, 1)])
    count = 4 * MAX_RECORDS
    for start in range(0, count, 1000):
        await transport.append(numbered(topic, 1000, start=start))
    consumer = await transport.subscribe(group, [topic])
    await take(consumer, 1, commit=True)
    # By then the member has paused its partitions, and what was fetched ahead is thrown away.
    paused_by = asyncio.get_running_loop().time() + 3 * BACK_PRESSURE_S
    await eventually(lambda: asyncio.get_running_loop().time() > paused_by)
    await _expire(kafka, topic, count)
    await transport.append(numbered(topic, 3, start=count))

    found, replaced = await _take_patiently(consumer, set(range(count, count + 3)))

    assert numbers(found)[-3:] == list(range(count, count + 3))
    assert len(found) < count
    assert replaced == []
    await eventually(lambda: _lag(transport, group, topic, 0), timeout_s=PATIENCE_S)


@pytest.mark.parametrize("before", [[], [0, 1, 2]], ids=["nothing else", "records before them"])
async def test_control_records_are_passed_over(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str, before: list[int]
) -> None:
    await transport.create_topics([TopicSettings(topic, 1)])
    await transport.append([ProducerRecord(topic, b"key", str(number).encode()) for number in before])
    consumer = await transport.subscribe(group, [topic])
    await take(consumer, len(before), commit=True)

    await asyncio.to_thread(_transaction, kafka, topic, [10, 11, 12], commit=True)
    await asyncio.to_thread(_transaction, kafka, topic, [20, 21], commit=False)

    found = await take(consumer, 3, commit=True)
    assert numbers(found) == [10, 11, 12]
    await eventually(lambda: _lag(transport, group, topic, 0), timeout_s=PATIENCE_S)
    assert numbers(await transport.read(topic, 0, 0, 100)) == [*before, 10, 11, 12]


async def test_control_records_count_as_read_only_when_all_before_them_is_committed(
    kafka: KafkaServer, transport: KafkaTransport, topic: str, group: str
) -> None:
    await transport.create_topics([TopicSettings(topic, 1)])
    await asyncio.to_thread(_transaction, kafka, topic, [1, 2, 3], commit=True)
    consumer = await transport.subscribe(group, [topic])
    first, *rest = await take(consumer, 3)
    await consumer.commit([first])
    await eventually(lambda: _has_committed(transport, group, topic, 1))
    await consumer.commit(rest)
    await eventually(lambda: _lag(transport, group, topic, 0), timeout_s=PATIENCE_S)


async def test_a_transaction_that_stays_open_holds_up_no_read_of_what_is_before_it(
    kafka: KafkaServer, transport: KafkaTransport, topic: str
) -> None:
    await transport.create_topics([TopicSettings(topic, 1)])
    await transport.append([ProducerRecord(topic, b"key", b"0")])
    producer = await asyncio.to_thread(_open_transaction, kafka, topic, [1])
    assert numbers(await transport.read(topic, 0, 0, 100)) == [0]
    assert numbers(await transport.read(topic, 0, 1, 100)) == []
    await asyncio.to_thread(producer.abort_transaction, 30.0)


def _shares(members: Sequence[Consumer], topic: str) -> list[int]:
    return [sum(name == topic for name, _ in member.assignment()) for member in members]


async def _has_committed(transport: Transport, group: str, topic: str, count: int) -> bool:
    return await committed_total(transport, group, topic) == count


async def _lag(transport: Transport, group: str, topic: str, lag: int) -> bool:
    return sum(place.lag for place in await transport.lag(group, [topic])) == lag


async def _take_patiently(
    consumer: Consumer, wanted: set[int], timeout_s: float = PATIENCE_S
) -> tuple[list[ConsumerRecord], list[TopicReplacedError]]:
    """Poll and commit as a consumer loop does; what came, and what was said of topics that are others now."""
    found: list[ConsumerRecord] = []
    replaced: list[TopicReplacedError] = []
    async with asyncio.timeout(timeout_s):
        while not wanted <= set(numbers(found)):
            try:
                records = await consumer.poll(100)
            except TopicReplacedError as error:
                replaced.append(error)
            except (TopicMissingError, TransportUnavailableError):
                continue
            else:
                found += records
                await consumer.commit(records)
    return found, replaced


async def _append_patiently(transport: Transport, records: Sequence[ProducerRecord]) -> None:
    async def appended() -> bool:
        try:
            await transport.append(records)
        except (TopicMissingError, TransportUnavailableError):
            return False
        return True

    await eventually(appended, timeout_s=PATIENCE_S)


async def _make_again(kafka: KafkaServer, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    [deleted] = admin.delete_topics([topic]).values()
    await asyncio.wrap_future(deleted)
    [made] = admin.create_topics([NewTopic(topic, 1, 1)]).values()
    await asyncio.wrap_future(made)


async def _expire(kafka: KafkaServer, topic: str, before: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    [deleted] = admin.delete_records([TopicPartition(topic, 0, before)]).values()
    await asyncio.wrap_future(deleted)


def _client(kafka: KafkaServer, group: str) -> Client:
    return Client(
        {"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0}
    )


def _committed(kafka: KafkaServer, group: str, topic: str) -> TopicPartition:
    client = _client(kafka, group)
    [committed] = client.committed([TopicPartition(topic, 0)], timeout=30.0)
    client.close()
    return committed


def _commit(kafka: KafkaServer, group: str, offset: TopicPartition) -> None:
    client = _client(kafka, group)
    client.commit(offsets=[offset], asynchronous=False)
    client.close()


def _open_transaction(kafka: KafkaServer, topic: str, values: Sequence[int]) -> Producer:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid4().hex, "log_level": 0})
    producer.init_transactions(30.0)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, str(value).encode(), b"key", partition=0)
    producer.flush(30.0)
    return producer


def _transaction(kafka: KafkaServer, topic: str, values: Sequence[int], *, commit: bool) -> None:
    producer = _open_transaction(kafka, topic, values)
    if commit:
        producer.commit_transaction(30.0)
    else:
        producer.abort_transaction(30.0)
