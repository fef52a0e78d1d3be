"""What a service gets of the process that runs it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from orderflow.core.access import Caller
from orderflow.core.messages import Command
from orderflow.core.operations.port import OperatedStore
from orderflow.core.side_effects import Gateway
from orderflow.core.store import Act
from orderflow.core.telemetry import Signals
from orderflow.core.timing import Clock
from orderflow.privacy.customers import ClearCustomers, Customers

View = TypeVar("View", bound=msgspec.Struct)


class Record(Protocol):
    """A row of a query's answer."""

    def keys(self) -> Iterable[str]: ...

    def __getitem__(self, column: str, /) -> Any: ...


class Database(Protocol):
    """A service's questions to its own tables, outside of any decision."""

    async def fetch(self, query: str, *arguments: object) -> Sequence[Record]:
        """All rows. Raises StoreUnavailableError."""
        ...


def view_of(kind: type[View], row: Record, /, **converted: object) -> View:
    """A row as what an API shows: fields are called as columns; `converted` are those that take more than that."""
    plain = {name: row[name] for name in kind.__struct_fields__ if name not in converted}
    return kind(**plain, **converted)


class Commands(Protocol):
    """The way in for commands: what a service needs of the engine."""

    async def submit(self, command: Command, by: Caller | Act, *, traceparent: str | None = None) -> Any:
        """Return the decision's answer once it is committed, by the same transaction with an act's row in the log.

        Raises ForbiddenError (the command's PERMISSION), RefusedError, OverloadedError, StoreUnavailableError,
        DecisionFailedError.
        """
        ...

    async def carry_out(self, command: Command, act: Act) -> Any:
        """The same for an operator's repair, with its row in the operators' log by the same transaction.

        Raises ForbiddenError, ConfirmationNeededError, RefusedError, KeyBusyError, StoreUnavailableError.
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
    two_person: bool = False
    bank_database_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is there before the engine is: enough to build a gateway.

    `customers` knows what they are called. `stopping` is set when the process begins to drain: whoever waits for
    something (a long poll) answers at once.
    """

    config: ServiceConfig
    database: Database
    store: OperatedStore
    signals: Signals
    clock: Clock
    rng: random.Random
    stopping: asyncio.Event
    customers: Customers = field(default_factory=ClearCustomers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext(Surroundings):
    """What a service's API gets."""

    commands: Commands
    gateway: Gateway | None = None
