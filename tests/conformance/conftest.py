"""The parts under test, one fixture a port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orderflow.core.operations.port import OperatedStore
from tests.conformance.store_backends import Backend, MemoryBackend, PostgresBackend


@pytest.fixture(params=["memory", "postgres"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """A database of this test alone, in memory or in PostgreSQL."""
    made: Backend
    if request.param == "memory":
        made = MemoryBackend()
    else:
        made = PostgresBackend(request.getfixturevalue("postgres"), request.getfixturevalue("database_url"))
    yield made
    await made.close()


@pytest.fixture
async def store(backend: Backend) -> OperatedStore:
    return await backend.open()
