"""The event log, for reading: as a person does, without a consumer group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orderflow.cli.errors import CliError, UnreachableError
from orderflow.cli.running import database_url
from orderflow.messaging.store import SchemaBehindError
from orderflow.messaging.transport import Transport, TransportUnavailableError
from orderflow.settings import Settings

NEVER_S = 1e9


@asynccontextmanager
async def open_log(settings: Settings) -> AsyncIterator[Transport]:
    """The log that the settings name, closed at the end. Raises UnreachableError, SettingsError, CliError."""
    import asyncpg

    from orderflow.runtime.transports import named

    transport = named(await _connect(settings), settings)
    try:
        yield transport
    except TransportUnavailableError as error:
        raise UnreachableError(
            f"{_where(settings)} does not answer: {error}. Is it running? Start everything with: orderflow up"
        ) from error
    except (SchemaBehindError, asyncpg.PostgresError) as error:
        raise CliError(
            f"{_where(settings)} cannot be read: {error}. If its tables are missing, run: orderflow migrate"
        ) from error
    finally:
        await transport.close()


async def _connect(settings: Settings) -> Transport:
    if settings.transport == "kafka":
        from orderflow.messaging.transports.kafka import KafkaTransport

        return await KafkaTransport.connect(settings.kafka_bootstrap)
    from orderflow.messaging.transports.postgres_log import PostgresLogTransport

    # Who only reads does not tidy up.
    return await PostgresLogTransport.connect(
        database_url(settings, "log"), maintenance_every_s=NEVER_S, writable=False
    )


def _where(settings: Settings) -> str:
    if settings.transport == "kafka":
        return f"Kafka at {settings.kafka_bootstrap}"
    return "The event log in PostgreSQL"
