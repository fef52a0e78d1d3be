"""The log that the settings name, and how its topics are made."""

from __future__ import annotations

import random
from collections.abc import Iterable

from orderflow.messaging.dead_letters import topic_of
from orderflow.messaging.store import StoreUnavailableError
from orderflow.messaging.stores.postgres.errors import TransactionPoolingError
from orderflow.messaging.transport import (
    Claim,
    ClaimedError,
    TopicSettings,
    Transport,
    TransportUnavailableError,
)
from orderflow.messaging.transports import postgres_log
from orderflow.messaging.transports.prefixed import PrefixedTransport
from orderflow.settings import Settings, SettingsError

_MS_A_HOUR = 3_600_000


async def connect_transport(settings: Settings, chance: random.Random | None = None) -> Transport:
    """The caller closes it.

    Raises TransportUnavailableError, SchemaBehindError, SettingsError (a URL that cannot be used).
    """
    return named(await _connect(settings, chance), settings)


def named(transport: Transport, settings: Settings) -> Transport:
    """The transport, on which topics and groups have the prefixes of the settings."""
    topics = settings.topic_prefix
    groups = topics if settings.group_prefix is None else settings.group_prefix
    return PrefixedTransport(transport, topics=topics, groups=groups) if topics or groups else transport


async def _connect(settings: Settings, chance: random.Random | None) -> Transport:
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


async def claim_topics(transport: Transport, claim: Claim, settings: Settings) -> None:
    """Raises TransportUnavailableError, SettingsError: another installation uses them."""
    try:
        await transport.claim(claim)
    except ClaimedError as error:
        names = sorted(error.owners, key=lambda name: (not name.startswith("topic "), name))
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        where = f"Kafka at {settings.kafka_bootstrap}" if settings.transport == "kafka" else "the log in PostgreSQL"
        raise SettingsError(
            f"on {where} another installation of Orderflow ({error.owners[names[0]]}) uses {shown}; the events of "
            "both would mix. Set ORDERFLOW_TOPIC_PREFIX, so that this one has names of its own, or, if the other one "
            "is gone for good, take them over: `orderflow up --take-over-topics`, or, for services that run by "
            "themselves, `orderflow migrate --take-over-topics`"
        ) from error


def topic_settings(written: Iterable[str], consumed: Iterable[str], settings: Settings) -> list[TopicSettings]:
    """These topics, and for each that is consumed the one of its dead letters."""
    read = list(consumed)
    names = {*written, *read, *map(topic_of, read)}
    retention_ms = settings.topic_retention_hours * _MS_A_HOUR
    return [TopicSettings(name, settings.partitions, retention_ms) for name in sorted(names)]
