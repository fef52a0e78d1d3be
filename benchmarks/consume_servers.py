"""What the consume figure runs on: a PostgreSQL and a log of its own, apart from any running system."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orderflow.local.kafka import LocalKafka
from orderflow.local.postgres import EmbeddedPostgres
from orderflow.messaging.transport import Transport
from orderflow.messaging.transports.kafka.transport import KafkaTransport
from orderflow.messaging.transports.postgres_log.transport import PostgresLogTransport


@contextmanager
def servers(transport: str) -> Iterator[tuple[str, str | None]]:
    """The superuser's URL of a PostgreSQL, and the address of a broker where the log is Kafka."""
    with tempfile.TemporaryDirectory(prefix="orderflow-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        postgres = EmbeddedPostgres(home)
        broker = LocalKafka(home, 0) if transport == "kafka" else None
        postgres.start()
        try:
            if broker is not None:
                broker.start()
            yield postgres.url(), broker.bootstrap if broker else None
        finally:
            if broker is not None:
                broker.stop()
            postgres.stop()


async def connect(urls: Mapping[str, str], bootstrap: str | None) -> Transport:
    """The log: the broker where there is one, else the log database."""
    if bootstrap is not None:
        return await KafkaTransport.connect(bootstrap)
    return await PostgresLogTransport.connect(urls["log"])
