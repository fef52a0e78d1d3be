"""What a service hands to the runtime, and what it gets back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from orderflow.messaging.clock import Clock
from orderflow.messaging.decision import Service
from orderflow.messaging.machine import StateMachine
from orderflow.messaging.message import Command, Message
from orderflow.messaging.recovery.port import OperatedStore
from orderflow.messaging.side_effects import Gateway
from orderflow.messaging.signals import Signals
from orderflow.messaging.store import Act
from orderflow.messaging.stores.postgres.migrations import MigrationSequence
from orderflow.messaging.stores.postgres.tables import Facts, Table
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

    async def carry_out(self, command: Command, act: Act) -> Any:
        """The same for an operator's repair, with its row in the operators' log by the same transaction.

        Raises ConfirmationNeededError, RefusedError, KeyBusyError, StoreUnavailableError.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """What services need of the settings, as plain values."""

    idempotency_keep_s: int = 24 * 3600
    unfinished_orders_max: int = 100_000
    gateway_timeout_s: float = 2.0
    http_waiting_max: int = 5_000
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
    store: OperatedStore
    signals: Signals
    clock: Clock
    chance: random.Random
    stopping: asyncio.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext(Surroundings):
    """What a service's API gets."""

    commands: Commands


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDefinition:
    """Everything that makes a service run. Each service's `service.py` has `definition()`, which returns it.

    `tables` are the mappings of its rows and facts for the PostgreSQL store, `migrations` its own sequence
    (after the core's), `machines` what code and database must enforce alike. `api` is called once, before
    the engine starts. `gateway` is there only where intents are; one with a `close` is closed at the end.
    `on_start` runs once the engine has started, in every process of the service: it must be harmless when
    done twice. `upkeep` runs every `upkeep_every_s`, in every process too. Both are tried again later when
    they raise StoreUnavailableError. `alarms` reads, every few seconds, what an operator has to see to: a sentence by
    name; it makes nothing unready. `logged` says what stands besides in the log line of a message that was
    handled, by name.
    """

    name: str
    title: str
    service: Service
    tables: Sequence[Table | Facts]
    migrations: MigrationSequence
    api: Callable[[ServiceContext], Sequence[Operation]]
    machines: Sequence[StateMachine] = ()
    gateway: Callable[[Surroundings], Awaitable[Gateway]] | None = None
    on_start: Callable[[ServiceContext], Awaitable[None]] | None = None
    upkeep: Callable[[ServiceContext], Awaitable[None]] | None = None
    upkeep_every_s: float = 60.0
    alarms: Callable[[ServiceContext], Awaitable[Mapping[str, str]]] | None = None
    logged: Callable[[Message], Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        """Whoever migrates makes the functions that write these tables."""
        object.__setattr__(self, "migrations", replace(self.migrations, tables=tuple(self.tables)))
