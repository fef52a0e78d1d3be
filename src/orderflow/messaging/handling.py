"""What a message means to a service: whether and how it is handled, and what its decision may say."""

from __future__ import annotations

import msgspec

from orderflow.messaging.decision import Decision, Handler, Service
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.message import Event, Message
from orderflow.messaging.publisher import VALUE_MAX, OversizedEventError


class KeyMismatchError(Exception):
    """A decision published an event of another key than its message's: their order could not be kept."""


class NoHandlerError(Exception):
    """A command or an answer that the service's table does not name: a defect of the service."""


def passed_over(service: Service, incoming: Incoming) -> bool:
    """An event that the service knows and does not read."""
    message = incoming.envelope.message if incoming.envelope else None
    return type(message) not in service.handlers and isinstance(message, Event)


def handler_of(service: Service, message: Message) -> Handler:
    """The line of the table. Raises NoHandlerError."""
    handler = service.handlers.get(type(message))
    if handler is None:
        raise NoHandlerError(f"{service.name} has no handler for {message.TYPE}")
    return handler


def encoded(decision: Decision, incoming: Incoming) -> list[bytes]:
    """The events as JSON, before anything of the decision is applied.

    Raises KeyMismatchError, OversizedEventError.
    """
    if not decision.events:
        return []
    for event in decision.events:
        if event.key != incoming.key:
            raise KeyMismatchError(f"{event.TYPE} of key {event.key!r} was caused by key {incoming.key!r}")
    values = [msgspec.json.encode(event) for event in decision.events]
    if any(len(value) > VALUE_MAX for value in values):
        raise OversizedEventError(f"an event of key {incoming.key!r} has more than {VALUE_MAX} bytes")
    return values


def attempts_of(incoming: Incoming) -> int:
    """How often it has failed before."""
    return incoming.parked.attempts if incoming.parked else 0


def intent_of(incoming: Incoming) -> str | None:
    """The key of the intent that it answers, also while it cannot be decoded."""
    if incoming.parked is not None:
        return incoming.parked.intent
    return incoming.envelope.intent if incoming.envelope else None
