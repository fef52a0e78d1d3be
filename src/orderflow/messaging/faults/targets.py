"""What a service's faults can strike: a fault that can strike nothing is a slip of the keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from orderflow.messaging.decision import Service
from orderflow.messaging.faults.injection import names_of
from orderflow.messaging.message import Event


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
