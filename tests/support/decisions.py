"""Decisions without anything around them: rows in, a message in, the decision out."""

from __future__ import annotations

from uuid import UUID, uuid5

from orderflow.core.identity import NAMESPACE
from orderflow.core.messages import Envelope, Message
from orderflow.core.service import Decision, Ref, Row, Rows, Service


def id_of(name: str) -> UUID:
    """A stable id for a name."""
    return uuid5(NAMESPACE, name)


class World:
    """The rows of one service, changed by decisions. Only what a message touches is shown to it."""

    def __init__(self, service: Service, *rows: Row) -> None:
        self.service = service
        self.rows: dict[Ref, Row] = {row.ref: row for row in rows}

    def decide(self, message: Message, event_id: UUID | None = None) -> Decision:
        """The decision alone; nothing is changed."""
        handler = self.service.handlers[type(message)]
        touched = {ref: self.rows[ref] for ref in handler.touches(message) if ref in self.rows}
        envelope = Envelope(
            id=event_id or id_of(type(message).__name__), message=message, source="/test", key=message.key
        )
        return handler.decide(Rows(touched), envelope)

    def take(self, message: Message, event_id: UUID | None = None) -> Decision:
        """The decision, carried out. Fails if it writes a row that the message does not touch; a new row of the
        message's key is under the lock of that key.
        """
        decision = self.decide(message, event_id)
        touched = set(self.service.handlers[type(message)].touches(message))
        for row in decision.rows:
            is_new_of_key = row.ref not in self.rows and str(row.id) == message.key
            assert row.ref in touched or is_new_of_key, f"{row.ref} is written and not touched"
            self.rows[row.ref] = row
        for event in decision.events:
            assert event.key == message.key
        return decision
