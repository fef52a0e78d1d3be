"""What a fault is, which events it strikes, and how a service's decisions fail by it.

A game day is a plug-in: `with_faults` wraps a service's handlers, and nothing of the core knows of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec

from orderflow.core.failures import InfrastructureError
from orderflow.core.messages import Envelope, Event, Message, wire_name
from orderflow.core.service import Decision, Handler, Rows, Service
from orderflow.core.store import Act

_HASHES = 2**64


class FaultKind(StrEnum):
    """What a fault does to an event that it strikes.

    PERMANENT: its decision raises, at every try, so it is parked, retried and given up. INFRASTRUCTURE: its decision
    fails as if a part were away, so its consumer waits and no attempt is used up. HANG: it is not decided at all, so
    its consumer stands still.
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
        part = "" if self.share == 1 else f" for {self.share} of the keys"
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
    """Where the processes of a service share their faults: in its database, or in memory. One conformance suite holds
    for both.

    Every call is a transaction of its own. All raise StoreUnavailableError. Revisions begin at 1."""

    async def current(self) -> FaultSet:
        """What is set."""
        ...

    async def add(self, fault: Fault, act: Act) -> FaultSet:
        """Set it; returns it alone, with its id, and the revision of which it is a part. Logged as `fault add`."""
        ...

    async def clear(self, fault: int | None, act: Act) -> FaultSet:
        """Take one away, or with None all; returns what was taken away, and the revision without it.

        Without any the revision stays. Each that was there is logged as `fault clear`.
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


class InjectedFaultError(Exception):
    """What a decision raises for a permanent fault: as a defect of its own code would."""


def names_of(message_type: type[Message]) -> tuple[str, str, str]:
    """How a type may be called: its wire name, the name without the version, the last part of that."""
    return wire_name(message_type), message_type.TYPE, message_type.TYPE.rpartition(".")[2]


def strikes(fault: Fault, message: Message) -> bool:
    """Whether this message meets the fault. The same message always meets the same fate."""
    return (
        fault.event_type in names_of(type(message))
        and fault.value in values_of(fault.field, message)
        and is_chosen(fault, message.key)
    )


def values_of(field: str, message: Message) -> Iterator[str]:
    """Every value under this name in the payload, as text; of a list each item."""
    waiting = [msgspec.to_builtins(message, str_keys=True)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
            if field in value:
                yield from _texts(value[field])
        elif isinstance(value, list | tuple):
            waiting += value


def is_chosen(fault: Fault, key: str) -> bool:
    """Whether the key is in the fault's share: by a hash, so that a redelivery meets the same fate."""
    digest = hashlib.blake2b(f"{fault.id}\n{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fault.share * _HASHES


def first_that_strikes(faults: Iterable[Fault], message: Message) -> Fault | None:
    return next((fault for fault in faults if strikes(fault, message)), None)


def with_faults(service: Service, active: Callable[[], Sequence[Fault]]) -> Service:
    """The service with decisions over events that meet the faults `active` at that moment."""
    handlers = {
        message_type: dataclasses.replace(handler, decide=_struck(handler, active))
        if issubclass(message_type, Event)
        else handler
        for message_type, handler in service.handlers.items()
    }
    return dataclasses.replace(service, handlers=handlers)


def _struck(handler: Handler, active: Callable[[], Sequence[Fault]]) -> Callable[[Rows, Envelope], Decision]:
    def decide(rows: Rows, envelope: Envelope) -> Decision:
        fault = first_that_strikes(active(), envelope.message)
        if fault is None:
            return handler.decide(rows, envelope)
        if fault.error is FaultKind.PERMANENT:
            raise InjectedFaultError(str(fault))
        # A hang comes here only by a way without a gate: a parked event, or a fault set a moment ago.
        raise InfrastructureError(str(fault))

    return decide


class NoTargetError(Exception):
    """The service handles no such event, or the event has no such field. The text says what it has."""


def require_target(service: Service, event_type: str, field: str) -> None:
    """Return if a fault at these events with that field can strike. Raises NoTargetError."""
    handled = [each for each in service.handlers if issubclass(each, Event)]
    named = [each for each in handled if event_type in names_of(each)]
    if not named:
        known = ", ".join(sorted(names_of(each)[2] for each in handled))
        raise NoTargetError(f"the service {service.name} handles no event {event_type!r}, only {known}")
    fields = {name for each in named for name in _fields(msgspec.inspect.type_info(each))}
    if field not in fields:
        raise NoTargetError(f"{event_type} has no field {field!r}, only {', '.join(sorted(fields))}")


def _fields(info: msgspec.inspect.Type) -> Iterator[str]:
    match info:
        case msgspec.inspect.StructType(fields=fields):
            for each in fields:
                yield each.encode_name
                yield from _fields(each.type)
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            yield from _fields(item)
        case msgspec.inspect.UnionType(types=types):
            for one in types:
                yield from _fields(one)
        case msgspec.inspect.Metadata(type=inner):
            yield from _fields(inner)
        case _:
            return


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value
    elif not isinstance(value, dict):
        yield msgspec.json.encode(value).decode()
