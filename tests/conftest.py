"""Fixtures of every layer. A test that asks for nothing here needs no service at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support import folders
from tests.support.kafka import KafkaServer, fetch_jars, missing
from tests.support.postgres import PostgresServer


def pytest_configure() -> None:
    folders.keep_in_memory()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One real PostgreSQL 18 for the whole run. A test that stops it must start it again."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def kafka_jars(pytestconfig: pytest.Config) -> Path:
    """What a broker of ours needs."""
    reason = missing()
    if reason is not None:
        pytest.skip(f"no Apache Kafka: {reason}")
    return fetch_jars(pytestconfig.cache.mkdir("kafka"))


@pytest.fixture(scope="session")
def kafka(kafka_jars: Path) -> Iterator[KafkaServer]:
    """One real Apache Kafka for the whole run. A test that stops it must start it again."""
    server = KafkaServer(kafka_jars)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of this test alone."""
    name = f"test_{uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)
