"""The log's tables."""

from __future__ import annotations

from orderflow.messaging.stores.postgres import migrations
from orderflow.messaging.stores.postgres.migrations import Applied, MigrationSequence

PACKAGE = "orderflow.messaging.transports.postgres_log"


def log_migrations() -> MigrationSequence:
    return MigrationSequence.from_package("log", PACKAGE)


async def migrate(url: str) -> list[Applied]:
    """Bring the log's database to this release. Raises StoreUnavailableError, SchemaBehindError."""
    return await migrations.migrate(url, [log_migrations()])


async def check(url: str) -> None:
    """Raises SchemaBehindError when `migrate` has not been run, StoreUnavailableError."""
    await migrations.check(url, [log_migrations()])
