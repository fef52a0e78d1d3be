"""What a fault is, and the fault port: where the processes of a service share their faults.

Two implementations, one beside each store; one conformance suite holds for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec


class FaultKind(StrEnum):
    """What a fault does to an event that it strikes.

    PERMANENT: its decision raises, at every try, so it is parked, retried and given up. INFRASTRUCTURE: its
    decision fails as if a part were away, so its consumer waits and no attempt is burnt. HANG: it is not decided at
    all, so its consumer stands still.
    """

    PERMANENT = "permanent"
    INFRASTRUCTURE = "infrastructure"
    HANG = "hang"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Strikes events of a type whose payload has `field` with this value anywhere in it.

    `event_type` is a wire name (`orderflow.OrderPlaced.v1`), the name without its version, or its last part. `value`
    is compared with the field's value as text. `share`, above 0 and up to 1, is the part of all keys that it strikes:
    a key is always struck or never. `id` is given by the store, and never given again.
    """

    event_type: str
    field: str
    value: str
    error: FaultKind
    share: float = 1.0
    id: int = 0

    def __str__(self) -> str:
        part = "" if self.share == 1 else f" for {self.share:.3g} of the keys"
        return f"fault {self.id}: {self.error} at {self.event_type} with {self.field}={self.value}{part}"


class FaultSet(msgspec.Struct, frozen=True, kw_only=True):
    """Faults in order of id, and the revision at which they were so. Every change makes the revision one higher."""

    revision: int
    faults: tuple[Fault, ...]


class FaultReader(msgspec.Struct, frozen=True, kw_only=True):
    """A process that follows the faults, and the revision that it applies."""

    process: UUID
    revision: int


class FaultStore(Protocol):
    """Every call is a transaction of its own. All raise StoreUnavailableError. Revisions begin at 1."""

    async def current(self) -> FaultSet:
        """What is set."""
        ...

    async def add(self, fault: Fault) -> FaultSet:
        """Set it; returns it alone, with its id, and the revision of which it is a part."""
        ...

    async def clear(self, fault: int | None) -> FaultSet:
        """Take one away, or with None all; returns what was taken away, and the revision without it.

        Without any the revision stays.
        """
        ...

    async def follow(self, process: UUID, applied: int) -> FaultSet:
        """Say that this process lives and applies revision `applied` (0: none yet); returns what is set."""
        ...

    async def leave(self, process: UUID) -> None:
        """This process follows no longer."""
        ...

    async def readers(self, silent_ms: int) -> Sequence[FaultReader]:
        """The processes that follow. One that was silent for more than `silent_ms` is dead, and forgotten."""
        ...
