"""What a service hands to the runtime, and what it gets back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orderflow.messaging.clock import Clock
from orderflow.messaging.decision import Service
from orderflow.messaging.gateway import Gateway
from orderflow.messaging.message import Command
from orderflow.messaging.signals import Signals
from orderflow.messaging.store import Store
from orderflow.runtime.operation import Operation


class Record(Protocol):
    """A row of a query's answer."""

    def __getitem__(self, column: str, /) -> Any: ...


class Database(Protocol):
    """A service's questions to its own tables, outside of any decision."""

    async def fetch(self, query: str, *arguments: object) -> Sequence[Record]:
        """All rows. Raises StoreUnavailableError."""
        ...


class Commands(Protocol):
    """The way in for commands: what a service needs of the engine."""

    async def submit(self, command: Command, *, traceparent: str | None = None) -> Any:
        """Return the decision's answer once it is committed.

        Raises RefusedError, OverloadedError, StoreUnavailableError, DecisionFailedError.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """What services need of the settings, as plain values."""

    idempotency_keep_s: int = 24 * 3600
    unfinished_orders_max: int = 100_000
    gateway_timeout_s: float = 2.0
    gateway_concurrency: int = 64
    demo_catalogue: bool = True
    bank_database_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is there before the engine is: enough to build a gateway.

    `stopping` is set when the process begins to drain: whoever waits for something (a long poll) answers
    at once.
    """

    config: ServiceConfig
    database: Database
    store: Store
    signals: Signals
    clock: Clock
    chance: random.Random
    stopping: asyncio.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext(Surroundings):
    """What a service's API gets."""

    commands: Commands


class ClosableGateway(Gateway, Protocol):
    """A gateway that holds connections of its own."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDefinition:
    """Everything that makes a service run; each service exports one as `DEFINITION`'s maker `definition()`.

    `tables` are the mappings of its rows and facts for the PostgreSQL store, `migrations` is the folder of
    its own migration sequence (after the core's). `api` is called once, when everything runs.
    `gateway` is there only where intents are. `on_start` runs once the engine has started, in every
    process of the service: it must be harmless when done twice. A gateway is closed by `close`, if it
    has one.
    """

    name: str
    title: str
    service: Service
    tables: Sequence[Any]
    migrations: Path
    api: Callable[[ServiceContext], Sequence[Operation]]
    gateway: Callable[[Surroundings], Awaitable[Gateway]] | None = None
    on_start: Callable[[ServiceContext], Awaitable[None]] | None = None
