"""The log that the settings name, and how its topics are made."""

from __future__ import annotations

import random
from collections.abc import Iterable

from orderflow.messaging.dead_letters import topic_of
from orderflow.messaging.store import StoreUnavailableError
from orderflow.messaging.stores.postgres.errors import TransactionPoolingError
from orderflow.messaging.transport import TopicSettings, Transport, TransportUnavailableError
from orderflow.messaging.transports import postgres_log
from orderflow.settings import Settings, SettingsError

_MS_A_HOUR = 3_600_000


async def connect_transport(settings: Settings, chance: random.Random | None = None) -> Transport:
    """The caller closes it.

    Raises TransportUnavailableError, SchemaBehindError, SettingsError (a URL that cannot be used).
    """
    if settings.transport == "kafka":
        from orderflow.messaging.transports.kafka import KafkaTransport

        return await KafkaTransport.connect(settings.kafka_bootstrap, replication=settings.replication_factor)
    url = settings.service_database_url("log")
    try:
        await postgres_log.check(url)
        return await postgres_log.PostgresLogTransport.connect(url, chance=chance)
    except TransactionPoolingError as error:
        raise SettingsError(f"the database URL of the log cannot be used: {error}") from error
    except StoreUnavailableError as error:
        raise TransportUnavailableError(str(error)) from error
    except ValueError as error:
        raise SettingsError(f"the database URL of the log cannot be used: {error}") from error


def topic_settings(written: Iterable[str], consumed: Iterable[str], settings: Settings) -> list[TopicSettings]:
    """These topics, and for each that is consumed the one of its dead letters."""
    read = list(consumed)
    names = {*written, *read, *map(topic_of, read)}
    retention_ms = settings.topic_retention_hours * _MS_A_HOUR
    return [TopicSettings(name, settings.partitions, retention_ms) for name in sorted(names)]
