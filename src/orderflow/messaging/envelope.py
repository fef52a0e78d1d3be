"""A message with what is known of its passage: identity, origin, cause and trace."""

from __future__ import annotations

from uuid import UUID

import msgspec

from orderflow.messaging.message import Message


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded message on its way in or out.

    `id` is stable: the same decision made twice carries the same id. `sequence` counts the
    events of `source` for this key from 1 (None on commands and answers). `causation` is the id of the
    message that caused this one. `traceparent` is W3C Trace Context. `intent` is the key of the intent
    that an answer answers.
    """

    id: UUID
    message: Message
    source: str
    key: str
    sequence: int | None = None
    causation: UUID | None = None
    traceparent: str | None = None
    intent: str | None = None

    @property
    def identity(self) -> str:
        """What the inbox holds unique within (consumer, key)."""
        return self.message.TYPE if self.message.ONCE else str(self.id)
