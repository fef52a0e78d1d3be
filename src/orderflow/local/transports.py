"""The transport that the settings name, and its topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from orderflow.events.topics import TOPICS
from orderflow.local.errors import LocalError
from orderflow.messaging.dead_letters import SUFFIX
from orderflow.messaging.store import SchemaBehindError, StoreUnavailableError
from orderflow.messaging.transport import TopicSettings, Transport, TransportUnavailableError
from orderflow.messaging.transports.postgres_log import PostgresLogTransport
from orderflow.settings import Settings

HOUR_MS = 3_600_000
PATIENCE_S = 15.0
ASK_AGAIN_AFTER_S = 0.2

T = TypeVar("T")


async def open_transport(settings: Settings) -> Transport:
    """The caller closes it."""
    if settings.transport == "postgres":
        return await PostgresLogTransport.connect(settings.service_database_url("log"))
    from orderflow.messaging.transports.kafka import KafkaTransport

    return await KafkaTransport.connect(settings.kafka_bootstrap, replication=settings.replication_factor)


def topics(settings: Settings) -> list[TopicSettings]:
    """Every topic, and for each the one of its dead letters."""
    retention_ms = settings.topic_retention_hours * HOUR_MS
    names = [*TOPICS, *(f"{topic}{SUFFIX}" for topic in TOPICS)]
    return [TopicSettings(name, settings.partitions, retention_ms) for name in names]


async def make_topics(settings: Settings) -> None:
    """Make the topics that are missing. Raises LocalError."""
    where = "the log" if settings.transport == "postgres" else f"Kafka at {settings.kafka_bootstrap}"

    async def make() -> None:
        transport = await open_transport(settings)
        try:
            await transport.create_topics(topics(settings))
        finally:
            await transport.close()

    try:
        await patiently(make)
    except (TransportUnavailableError, SchemaBehindError) as error:
        raise LocalError(f"{where} does not answer: {error}") from error


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns, asked again for a while: a broker that has just started answers "not yet"."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await ask()
        except (StoreUnavailableError, TransportUnavailableError):
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(ASK_AGAIN_AFTER_S)
