"""Consumer groups: who gets what, and from where."""

from __future__ import annotations

import asyncio
import itertools

from msgspec.structs import replace

from orderflow.core.transport import Consumer, ConsumerRecord, ProducerRecord, TopicSettings, Transport
from tests.conformance.transport.conftest import PARTITIONS
from tests.support.records import collect, committed_total, numbered, numbers, take
from tests.support.transports import Harness
from tests.support.waiting import eventually


async def test_a_new_group_starts_at_the_earliest_record(transport: Transport, topic: str, group: str) -> None:
    await transport.append(numbered(topic, 10))
    consumer = await transport.subscribe(group, [topic])
    assert sorted(numbers(await take(consumer, 10))) == list(range(10))


async def test_two_groups_each_get_everything(transport: Transport, topic: str, group: str) -> None:
    one = await transport.subscribe(group, [topic])
    two = await transport.subscribe(f"{group}-two", [topic])
    await transport.append(numbered(topic, 50))
    taken = await asyncio.gather(take(one, 50, commit=True), take(two, 50, commit=True))
    assert [sorted(numbers(records)) for records in taken] == [list(range(50))] * 2


async def test_a_poll_returns_no_more_than_it_was_asked_for(transport: Transport, topic: str, group: str) -> None:
    await transport.append(numbered(topic, 30))
    consumer = await transport.subscribe(group, [topic])
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(60):
        while len(found) < 30:
            records = await consumer.poll(7)
            assert len(records) <= 7
            found += records
    assert sorted(numbers(found)) == list(range(30))


async def test_one_consumer_reads_several_topics(harness: Harness, topic: str, group: str) -> None:
    transport = await harness.connect()
    await transport.create_topics([TopicSettings(f"{topic}-b", 2)])
    consumer = await transport.subscribe(group, [topic, f"{topic}-b"])
    await transport.append([*numbered(topic, 10), *numbered(f"{topic}-b", 10, start=10)])
    assert sorted(numbers(await take(consumer, 20))) == list(range(20))
    assert len(consumer.assignment()) == PARTITIONS + 2


async def test_members_share_the_partitions_and_no_record_comes_twice(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    consumers = [await transport.subscribe(group, [topic])]
    consumers.append(await (await harness.connect()).subscribe(group, [topic]))
    taken: list[ConsumerRecord] = []
    tasks = [asyncio.create_task(collect(consumer, taken)) for consumer in consumers]
    await eventually(lambda: _shared(consumers))
    await transport.append(numbered(topic, 200, keys=50))
    await eventually(lambda: len(taken) >= 200)
    assert sorted(numbers(taken)) == list(range(200))
    for consumer in consumers:
        await consumer.close()
    await asyncio.gather(*tasks)


async def test_members_share_every_topic_and_not_the_topics_among_them(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    topics = [topic, f"{topic}-b"]
    await transport.create_topics([TopicSettings(topics[1], PARTITIONS)])
    consumers = [await transport.subscribe(group, topics)]
    tasks = [asyncio.create_task(collect(consumers[0], []))]
    await eventually(lambda: len(consumers[0].assignment()) == 2 * PARTITIONS)
    consumers.append(await (await harness.connect()).subscribe(group, topics))
    tasks.append(asyncio.create_task(collect(consumers[1], [])))
    await eventually(lambda: _has_some_of_each(consumers, topics))
    for consumer in consumers:
        await consumer.close()
    await asyncio.gather(*tasks)


async def test_what_was_committed_does_not_come_again(transport: Transport, topic: str, group: str) -> None:
    await transport.append(numbered(topic, 10))
    consumer = await transport.subscribe(group, [topic])
    await take(consumer, 10, commit=True)
    await consumer.close()
    await transport.append(numbered(topic, 5, start=10))
    assert sorted(numbers(await take(await transport.subscribe(group, [topic]), 5))) == list(range(10, 15))


async def test_what_was_not_committed_comes_again(transport: Transport, topic: str, group: str) -> None:
    await transport.append([ProducerRecord(topic, b"key", str(number).encode()) for number in range(10)])
    consumer = await transport.subscribe(group, [topic])
    done = await consumer.poll(4)
    await consumer.commit(done)
    await take(consumer, 10 - len(done))
    await consumer.close()
    again = await take(await transport.subscribe(group, [topic]), 10 - len(done))
    assert numbers(again) == list(range(len(done), 10))


async def test_committing_the_older_batch_last_does_not_go_back(transport: Transport, topic: str, group: str) -> None:
    await transport.append([ProducerRecord(topic, b"key", str(number).encode()) for number in range(10)])
    consumer = await transport.subscribe(group, [topic])
    older = await consumer.poll(3)
    newer = await consumer.poll(3)
    await consumer.commit(newer)
    await consumer.commit(older)
    await eventually(lambda: _committed(transport, group, topic, len(older) + len(newer)))
    await consumer.close()
    assert await committed_total(transport, group, topic) == len(older) + len(newer)


async def test_what_is_committed_is_a_place_in_the_partition_also_while_a_poll_waits(
    transport: Transport, topic: str, group: str
) -> None:
    await transport.append([ProducerRecord(topic, b"key", str(number).encode()) for number in range(10)])
    consumer = await transport.subscribe(group, [topic])
    polled = await take(consumer, 10)
    waiting = asyncio.ensure_future(consumer.poll(10))
    await asyncio.sleep(0)

    await consumer.commit([replace(polled[4], offset=polled[4].offset - 1, value=None)])

    await eventually(lambda: _committed(transport, group, topic, 4))
    await consumer.close()
    assert list(await waiting) == []
    assert numbers(await take(await transport.subscribe(group, [topic]), 6)) == list(range(4, 10))


async def test_the_lag_is_what_is_not_committed(transport: Transport, topic: str, group: str) -> None:
    await transport.append(numbered(topic, 12))
    before = await transport.lag(group, [topic])
    assert sum(place.lag for place in before) == 12
    assert {(place.topic, place.partition) for place in before} == {(topic, n) for n in range(PARTITIONS)}
    await take(await transport.subscribe(group, [topic]), 12, commit=True)
    await eventually(lambda: _committed(transport, group, topic, 12))
    assert sum(place.lag for place in await transport.lag(group, [topic])) == 0
    await transport.append(numbered(topic, 3))
    assert sum(place.lag for place in await transport.lag(group, [topic])) == 3


async def test_records_that_expired_unread_are_counted_until_the_group_reads_on(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    await transport.append(numbered(topic, 10))
    leaving = await transport.subscribe(group, [topic])
    await take(leaving, 10, commit=True)
    await leaving.close()
    await transport.append(numbered(topic, 12, keys=9, start=10))
    assert sum(place.expired for place in await transport.lag(group, [topic])) == 0

    await harness.expire(topic)
    await transport.append(numbered(topic, 20, keys=20, start=22))

    stands = await transport.lag(group, [topic])
    assert sum(place.expired for place in stands) == 12
    assert sum(place.lag for place in stands) == 20
    assert {(place.topic, place.partition): (place.first, place.end) for place in stands} == await transport.ends(
        [topic]
    )
    assert sum(place.committed or 0 for place in stands) == 10
    newcomer = await transport.subscribe(f"{group}-new", [topic])
    assert sorted(numbers(await take(newcomer, 20))) == list(range(22, 42))
    assert sum(place.expired for place in await transport.lag(f"{group}-new", [topic])) == 0
    await take(await transport.subscribe(group, [topic]), 20, commit=True)
    await eventually(lambda: _nothing_is_behind(transport, group, topic))
    assert sum(place.expired for place in await transport.lag(group, [topic])) == 0


async def test_a_member_that_leaves_is_followed_at_once(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    harness.keep_sessions()
    leaving, staying = [await (await harness.connect()).subscribe(group, [topic]) for _ in range(2)]
    taken: list[ConsumerRecord] = []
    tasks = [asyncio.create_task(collect(consumer, taken)) for consumer in (leaving, staying)]
    await eventually(lambda: _shared([leaving, staying]))
    await leaving.close()
    await eventually(lambda: len(staying.assignment()) == PARTITIONS)
    await transport.append(numbered(topic, 30, keys=30))
    await eventually(lambda: len(taken) >= 30)
    await staying.close()
    await asyncio.gather(*tasks)


async def test_each_key_comes_in_order_while_members_join_and_leave(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    taken: list[ConsumerRecord] = []
    first = await transport.subscribe(group, [topic])
    tasks = [asyncio.create_task(collect(first, taken))]
    for round_number in range(3):
        await transport.append(numbered(topic, 100, keys=10, start=round_number * 200))
        guest = await (await harness.connect()).subscribe(group, [topic])
        tasks.append(asyncio.create_task(collect(guest, taken)))
        await transport.append(numbered(topic, 100, keys=10, start=round_number * 200 + 100))
        await eventually(lambda: _shared([first, guest]))  # noqa: B023
        await guest.close()
    await eventually(lambda: set(numbers(taken)) == set(range(600)))
    _assert_first_occurrences_in_order(taken)
    await first.close()
    await asyncio.gather(*tasks)


async def test_a_waiting_poll_is_woken_by_an_append(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    """Not by what a member does to keep its session, which is not due before the test is over."""
    harness.keep_sessions()
    consumer = await (await harness.connect()).subscribe(group, [topic])
    await transport.append([ProducerRecord(topic, b"key", b"0")])
    await take(consumer, 1, commit=True)
    for number in range(10):
        poll = asyncio.create_task(take(consumer, 1, commit=True))
        looks = itertools.count()
        await eventually(lambda: next(looks) > 2)  # noqa: B023  # by now it waits
        await transport.append([ProducerRecord(topic, b"key", str(number).encode())])
        assert numbers(await poll) == [number]


async def test_a_waiting_poll_returns_nothing_when_the_consumer_closes(
    transport: Transport, topic: str, group: str
) -> None:
    consumer = await transport.subscribe(group, [topic])
    poll = asyncio.create_task(consumer.poll(10))
    await eventually(lambda: len(consumer.assignment()) == PARTITIONS)
    await consumer.close()
    async with asyncio.timeout(60):
        while await poll:
            poll = asyncio.create_task(consumer.poll(10))
    await consumer.close()
    assert not await consumer.poll(10)
    assert consumer.assignment() == frozenset()


async def test_a_settle_after_closing_is_no_error(transport: Transport, topic: str, group: str) -> None:
    await transport.append(numbered(topic, 3))
    consumer = await transport.subscribe(group, [topic])
    records = await take(consumer, 3)
    await consumer.close()
    await consumer.commit(records)
    assert await committed_total(transport, group, topic) == 0


async def test_closing_a_transport_closes_its_consumers(harness: Harness, topic: str, group: str) -> None:
    transport = await harness.connect()
    consumer = await transport.subscribe(group, [topic])
    await transport.close()
    assert not await consumer.poll(1)
    await transport.close()


def _has_some_of_each(consumers: list[Consumer], topics: list[str]) -> bool:
    held = [consumer.assignment() for consumer in consumers]
    whole = sum(map(len, held)) == PARTITIONS * len(topics) == len(frozenset().union(*held))
    return whole and all({topic for topic, _ in each} == set(topics) for each in held)


def _shared(consumers: list[Consumer]) -> bool:
    held = [consumer.assignment() for consumer in consumers]
    return all(held) and sum(map(len, held)) == PARTITIONS == len(frozenset().union(*held))


async def _nothing_is_behind(transport: Transport, group: str, topic: str) -> bool:
    return all(place.lag == 0 for place in await transport.lag(group, [topic]))


async def _committed(transport: Transport, group: str, topic: str, count: int) -> bool:
    return await committed_total(transport, group, topic) == count


def _assert_first_occurrences_in_order(records: list[ConsumerRecord]) -> None:
    seen: dict[bytes | None, list[int]] = {}
    for record in records:
        offsets = seen.setdefault(record.key, [])
        if record.offset not in offsets:
            offsets.append(record.offset)
    for key, offsets in seen.items():
        assert offsets == sorted(offsets), key
