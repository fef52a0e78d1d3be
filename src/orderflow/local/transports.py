"""All topics, made while their log is perhaps just starting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from orderflow.local.errors import LocalError
from orderflow.local.services import definitions
from orderflow.messaging.flow import FLOW_STATUS
from orderflow.messaging.store import SchemaBehindError, StoreUnavailableError
from orderflow.messaging.transport import Claim, TopicSettings, TransportUnavailableError
from orderflow.runtime.transports import claim_topics, connect_transport, topic_settings
from orderflow.settings import Settings

PATIENCE_S = 15.0
ASK_AGAIN_AFTER_S = 0.2

T = TypeVar("T")


def topics(settings: Settings) -> list[TopicSettings]:
    """Every topic that a service writes or reads, and for each that is read the one of its dead letters."""
    services = definitions().values()
    published = {topic for service in services for topic in service.publishes}
    consumed = {topic for service in services for each in service.subscriptions for topic in each.topics}
    return topic_settings([*published, FLOW_STATUS], consumed, settings)


async def make_topics(settings: Settings, installation: UUID, *, take_over: bool = False) -> None:
    """Claim the topics and groups for this installation, and make the topics that are missing.

    `take_over`: also those that are another's. Raises LocalError, SettingsError: they are another's.
    """
    groups = [each.consumer for known in definitions().values() for each in known.subscriptions]
    wanted = topics(settings)
    claim = Claim(installation, [topic.name for topic in wanted], groups, takes_over=take_over)
    where = "the log" if settings.transport == "postgres" else f"Kafka at {settings.kafka_bootstrap}"

    async def make() -> None:
        transport = await connect_transport(settings)
        try:
            await claim_topics(transport, claim, settings)
            await transport.create_topics(wanted)
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
