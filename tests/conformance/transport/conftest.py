"""Each test here runs three times: on memory, on the log in PostgreSQL, on Apache Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from orderflow.core.postgres_log import migrate
from orderflow.core.transport import TopicSettings, Transport
from tests.support.kafka import KafkaServer
from tests.support.postgres import PostgresServer
from tests.support.transports import Harness, MemoryHarness, ServerHarness

PARTITIONS = 3


@pytest.fixture(params=["memory", "postgres-log", "kafka"])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    made: Harness
    if request.param == "memory":
        made = MemoryHarness()
    elif request.param == "postgres-log":
        server: PostgresServer = request.getfixturevalue("postgres")
        url: str = request.getfixturevalue("database_url")
        await migrate(url)
        made = ServerHarness("postgres-log", url, 6.0, server)
    else:
        broker: KafkaServer = request.getfixturevalue("kafka")
        # The broker's own minimum (group.min.session.timeout.ms).
        made = ServerHarness("kafka", broker.bootstrap, 6.0, broker)
    yield made
    made.bring_back()
    await made.close()


@pytest.fixture
async def transport(harness: Harness) -> Transport:
    return await harness.connect()


@pytest.fixture
async def topic(transport: Transport) -> str:
    """A topic of this test alone, of three partitions."""
    name = f"topic-{uuid4().hex[:12]}"
    await transport.create_topics([TopicSettings(name, PARTITIONS)])
    return name


@pytest.fixture
def group() -> str:
    return f"group-{uuid4().hex[:12]}"
