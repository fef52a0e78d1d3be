"""Which events a fault strikes, and how a service's decisions fail by it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from orderflow.messaging.catalogue import wire_name
from orderflow.messaging.decision import Decision, Handler, Service
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.failures import InfrastructureError
from orderflow.messaging.faults.port import Fault, FaultKind
from orderflow.messaging.message import Event, Message
from orderflow.messaging.rows import Rows

_HASHES = 2**64


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


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value
    elif not isinstance(value, dict):
        yield msgspec.json.encode(value).decode()
