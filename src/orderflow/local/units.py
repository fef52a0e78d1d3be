"""What a supervisor starts, watches and stops."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Protocol

from orderflow.local.kafka import LocalKafka
from orderflow.local.postgres import EmbeddedPostgres


class Unit(Protocol):
    """One process. `start` returns when it is ready and may be called again after its end."""

    name: str
    kind: str

    @property
    def address(self) -> str: ...

    @property
    def process(self) -> subprocess.Popen[bytes] | None: ...

    async def start(self) -> None:
        """Raises LocalError."""
        ...

    async def stop(self) -> None:
        """In good order, with a limit of time. Idempotent."""
        ...


class PostgresUnit:
    """The embedded PostgreSQL."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.name = "postgres"
        self.kind = "postgres"
        self.server = server

    @property
    def address(self) -> str:
        return self.server.where

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self.server.process

    async def start(self) -> None:
        await asyncio.to_thread(self.server.prepare)
        self.server.spawn()
        await asyncio.to_thread(self.server.wait_ready)

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.stop)


class KafkaUnit:
    """The local broker."""

    def __init__(self, broker: LocalKafka) -> None:
        self.name = "kafka"
        self.kind = "kafka"
        self.broker = broker

    @property
    def address(self) -> str:
        return self.broker.bootstrap

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self.broker.process

    async def start(self) -> None:
        await asyncio.to_thread(self.broker.prepare)
        self.broker.spawn()
        await asyncio.to_thread(self.broker.wait_ready)

    async def stop(self) -> None:
        await asyncio.to_thread(self.broker.stop)
