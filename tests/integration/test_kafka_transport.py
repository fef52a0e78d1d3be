"""What only the Kafka transport has: a thread that fetches ahead, and a producer that is thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from orderflow.messaging.transport import ProducerRecord, TopicSettings, TransportUnavailableError
from orderflow.messaging.transports.kafka import KafkaTransport
from orderflow.messaging.transports.kafka.inbox import MAX_RECORDS
from orderflow.messaging.transports.kafka.member import BACK_PRESSURE_S
from tests.support.kafka import KafkaServer
from tests.support.records import numbered, numbers, take
from tests.support.waiting import eventually


@pytest.fixture
async def transport(kafka: KafkaServer) -> AsyncIterator[KafkaTransport]:
    transport = await KafkaTransport.connect(kafka.bootstrap, request_timeout_s=5.0)
    yield transport
    await transport.close()


async def test_a_reader_that_is_slow_gets_everything_in_order(transport: KafkaTransport) -> None:
    topic = f"topic-{uuid4().hex[:12]}"
    await transport.create_topics([TopicSettings(topic, 1)])
    count = 4 * MAX_RECORDS
    for start in range(0, count, 1000):
        await transport.append(numbered(topic, 1000, start=start))
    consumer = await transport.subscribe("slow", [topic])
    found = numbers(await take(consumer, 1, settle=True))
    # By then the member has paused its partitions, and what was fetched ahead is thrown away.
    paused_by = asyncio.get_running_loop().time() + 3 * BACK_PRESSURE_S
    await eventually(lambda: asyncio.get_running_loop().time() > paused_by)
    found += numbers(await take(consumer, count - len(found), settle=True))
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
    await impatient.append(numbered(topic, 3))
    kafka.crash()
    with pytest.raises(TransportUnavailableError):
        await impatient.append(numbered(topic, 3, start=3))
    kafka.start()

    async def appended() -> bool:
        try:
            await impatient.append(numbered(topic, 3, start=3))
        except TransportUnavailableError:
            return False
        return True

    await eventually(appended, timeout_s=60)
    found = numbers(await transport.read(topic, 0, 0, 100))
    assert list(dict.fromkeys(found)) == list(range(6))
    await impatient.close()
