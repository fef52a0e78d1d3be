"""The transport that the settings name, and its topics."""

from __future__ import annotations

from orderflow.events.topics import TOPICS
from orderflow.local.errors import LocalError
from orderflow.messaging.dead_letters import SUFFIX
from orderflow.messaging.store import SchemaBehindError
from orderflow.messaging.transport import TopicSettings, Transport, TransportUnavailableError
from orderflow.messaging.transports.postgres_log import PostgresLogTransport
from orderflow.settings import Settings

HOUR_MS = 3_600_000


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
    try:
        transport = await open_transport(settings)
        try:
            await transport.create_topics(topics(settings))
        finally:
            await transport.close()
    except (TransportUnavailableError, SchemaBehindError) as error:
        raise LocalError(f"{where} does not answer: {error}") from error
