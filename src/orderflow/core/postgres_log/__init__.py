"""A log kept in PostgreSQL: gap-free offsets in commit order, consumer groups with leases, no polling at rest."""

from orderflow.core.postgres_log.consumer import PostgresLogConsumer
from orderflow.core.postgres_log.transport import PostgresLogTransport, check, log_migrations, migrate

__all__ = ["PostgresLogConsumer", "PostgresLogTransport", "check", "log_migrations", "migrate"]
