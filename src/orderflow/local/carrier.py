"""What carries the events: what was asked for, what the home remembers, and what is still under way on it."""

from __future__ import annotations

import asyncpg

from orderflow.local.errors import LocalError
from orderflow.local.home import Carrier
from orderflow.local.services import definitions
from orderflow.local.transports import patiently
from orderflow.messaging.store import SchemaBehindError, StoreUnavailableError
from orderflow.messaging.stores.postgres.connections import connect, leave
from orderflow.messaging.stores.postgres.errors import translated
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.transport import TopicMissingError, TransportUnavailableError
from orderflow.registry import service_names
from orderflow.runtime.transports import connect_transport
from orderflow.settings import Settings


def choose(settings: Settings, remembered: Carrier | None, *, own_broker: bool) -> Carrier:
    """`up --kafka`, else what a setting says, else what the home remembers, else the log in PostgreSQL."""
    if own_broker:
        return Carrier("kafka")
    if not settings.is_given("transport") and remembered is not None:
        return remembered
    if settings.transport == "kafka":
        return Carrier("kafka", settings.kafka_bootstrap)
    return Carrier("postgres")


async def under_way(settings: Settings) -> list[str]:
    """What is not finished yet on the transport of these settings, in words. Raises LocalError."""

    async def look() -> list[str]:
        return [await _unsent(settings), await _unfinished(settings), await _unread(settings)]

    try:
        found = await patiently(look)
    except (StoreUnavailableError, TransportUnavailableError, SchemaBehindError, asyncpg.PostgresError) as error:
        raise LocalError(f"cannot tell what is under way: {error}") from error
    return [words for words in found if words]


async def _unsent(settings: Settings) -> str:
    count = 0
    for name in service_names():
        count += await _count(settings, name, "unsent")
    return f"{count} unsent events" if count else ""


async def _unfinished(settings: Settings) -> str:
    count = await _count(settings, "order", "unfinished_orders")
    return f"{count} unfinished orders" if count else ""


async def _unread(settings: Settings) -> str:
    transport = await connect_transport(settings)
    count = 0
    try:
        for definition in definitions().values():
            for subscription in definition.subscriptions:
                lags = await transport.lag(subscription.consumer, subscription.topics)
                count += sum(partition.lag for partition in lags)
    except TopicMissingError:
        # Topics come before services: without them nothing was ever published.
        return ""
    finally:
        await transport.close()
    return f"{count} events not consumed" if count else ""


async def _count(settings: Settings, name: str, query: str) -> int:
    connection = await connect(settings.service_database_url(name), application_name="orderflow up", writable=False)
    try:
        with translated(connection):
            found: int = await connection.fetchval(load_queries("orderflow.local", "under_way.sql")[query])
    finally:
        await leave(connection)
    return found
