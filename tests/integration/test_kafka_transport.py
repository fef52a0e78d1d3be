"""What only the Kafka transport has: a thread that fetches ahead, and a producer that is thrown away."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from orderflow.core import envelopes
from orderflow.core.dead_letters import FLOW_STATUS
from orderflow.core.envelopes import from_record, header_text
from orderflow.core.kafka import KafkaTransport
from orderflow.core.kafka.membership import BACK_PRESSURE_S, MAX_RECORDS
from orderflow.core.messages import Catalogue, UndecodableError
from orderflow.core.relay import Relay
from orderflow.core.timing import Pacer
from orderflow.core.transport import (
    UNREADABLE_HEADERS,
    ProducerRecord,
    TopicSettings,
    TransportUnavailableError,
    size_of,
)
from tests.support.forged_kafka import produce
from tests.support.kafka import KafkaServer
from tests.support.records import numbered, numbers, take
from tests.support.waiting import eventually
from tests.unit.core.world import World, poisoned


@pytest.fixture
async def transport(kafka: KafkaServer) -> AsyncIterator[KafkaTransport]:
    transport = await KafkaTransport.connect(kafka.bootstrap, request_timeout_s=60.0)
    yield transport
    await transport.close()


async def test_a_reader_that_is_slow_gets_everything_in_order(transport: KafkaTransport) -> None:
    topic = f"topic-{uuid4().hex[:12]}"
    await transport.create_topics([TopicSettings(topic, 1)])
    count = 4 * MAX_RECORDS
    for start in range(0, count, 1000):
        await transport.append(numbered(topic, 1000, start=start))
    consumer = await transport.subscribe("slow", [topic])
    found = numbers(await take(consumer, 1, commit=True))
    # By then the member has paused its partitions, and what was fetched ahead is thrown away.
    paused_by = asyncio.get_running_loop().time() + 3 * BACK_PRESSURE_S
    await eventually(lambda: asyncio.get_running_loop().time() > paused_by)
    found += numbers(await take(consumer, count - len(found), commit=True))
    assert found == list(range(count))


async def test_topics_are_made_with_explicit_settings(kafka: KafkaServer, transport: KafkaTransport) -> None:
    topic = f"topic-{uuid4().hex[:12]}"
    await transport.create_topics([TopicSettings(topic, 2, 3_600_000)])
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    [future] = admin.describe_configs([resource]).values()
    settings = await asyncio.wrap_future(future)
    wanted = {"retention.ms": "3600000", "max.message.bytes": "2097152", "cleanup.policy": "delete"}
    assert {name: settings[name].value for name in wanted} == wanted


async def test_a_record_that_is_small_only_in_the_log_is_read_whole(
    kafka: KafkaServer, transport: KafkaTransport
) -> None:
    topic = f"topic-{uuid4().hex[:12]}"
    await transport.create_topics([TopicSettings(topic, 1)])
    value = b"x" * 40_000_000
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 10**8, "compression.type": "zstd"}
    )
    producer.produce(topic, value, b"key")
    assert await asyncio.to_thread(producer.flush, 20) == 0
    [record] = await take(await transport.subscribe("compressed", [topic]), 1)
    assert record.value == value


async def test_a_name_of_a_header_that_is_no_utf_8_is_said_in_the_place_of_the_headers(
    kafka: KafkaServer, transport: KafkaTransport
) -> None:
    topic = f"topic-{uuid4().hex[:12]}"
    await transport.create_topics([TopicSettings(topic, 1)])
    headers = [(b"ce_specversion", b"1.0"), (b"\xff\xfe", b"x")]
    await asyncio.to_thread(produce, kafka.bootstrap, topic, b"key", b"value", headers)
    [record] = await take(await transport.subscribe("forged", [topic]), 1)
    assert (record.key, record.value) == (b"key", b"value")
    why = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert record.headers == ((UNREADABLE_HEADERS, why.encode()),)
    with pytest.raises(UndecodableError, match="a header's name is not UTF-8, so that none can be read"):
        envelopes.read(record, Catalogue(()))


async def test_a_topic_of_a_lower_limit_than_ours_takes_dead_letters_without_what_is_too_much(
    kafka: KafkaServer, transport: KafkaTransport
) -> None:
    """One letter that its topic does not take would keep the relay from all that it has to publish."""
    await transport.create_topics([TopicSettings(FLOW_STATUS, 1)])
    made = AdminClient({"bootstrap.servers": kafka.bootstrap})
    lower = NewTopic("counts.DLT", 1, 1, config={"max.message.bytes": "50000"})
    await asyncio.wrap_future(made.create_topics([lower])["counts.DLT"])
    world = World()
    long = poisoned(7, key=b"long", value=b"x" * 200_000, headers=(("h", b"v"),))
    short = poisoned(8, key=b"short", value=b"?", headers=(("h", b"v"),))
    await world.admit(*(from_record(each, world.service.catalogue) for each in (long, short)))
    relay = Relay("counter", world.store.outbox(), transport, Pacer(world.clock, 0, 1), world.signals, world.clock)

    await relay.step()
    await relay.close()

    assert world.database.state.pending == {}
    letters = await take(await transport.subscribe("letters", ["counts.DLT"]), 2)
    found = {each.key: each for each in letters}
    assert (found[b"short"].value, found[b"short"].headers[0]) == (b"?", ("h", b"v"))
    cut = found[b"long"]
    assert cut.value is None
    assert header_text(cut.headers, "dlt_omitted") == str(size_of(long))
    assert header_text(cut.headers, "dlt_omitted_parts") == "value, headers"
    assert header_text(cut.headers, "dlt_value_sha256") == hashlib.sha256(b"x" * 200_000).hexdigest()
    assert header_text(cut.headers, "dlt_offset") == "7"
    assert header_text(cut.headers, "dlt_first_failed_at") == header_text(cut.headers, "dlt_last_failed_at") != ""


async def test_an_append_that_nobody_acknowledges_ends_in_time() -> None:
    lonely = await KafkaTransport.connect("127.0.0.1:1", delivery_timeout_s=1.0, request_timeout_s=1.0)
    with pytest.raises(TransportUnavailableError):
        await lonely.append([ProducerRecord("topic", b"key", b"value")])
    with pytest.raises(TransportUnavailableError):
        await lonely.ping()
    await lonely.close()


async def test_a_producer_that_failed_is_replaced_and_the_order_holds(
    kafka: KafkaServer, transport: KafkaTransport
) -> None:
    topic = f"topic-{uuid4().hex[:12]}"
    await transport.create_topics([TopicSettings(topic, 1)])
    impatient = await KafkaTransport.connect(kafka.bootstrap, delivery_timeout_s=1.0)

    async def appended(start: int) -> bool:
        try:
            await impatient.append(numbered(topic, 3, start=start))
        except TransportUnavailableError:
            return False
        return True

    await eventually(lambda: appended(0))
    kafka.crash()
    with pytest.raises(TransportUnavailableError):
        await impatient.append(numbered(topic, 3, start=3))
    kafka.start()

    await eventually(lambda: appended(3), timeout_s=60)
    found = numbers(await transport.read(topic, 0, 0, 100))
    assert list(dict.fromkeys(found)) == list(range(6))
    await impatient.close()
