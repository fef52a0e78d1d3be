"""What is said: commands, events and answers. All of them are messages and go the same way in."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable statement about one key.

    `TYPE` names it for ever; a change that old readers cannot read raises `VERSION`.
    `ONCE` says that a key can see this type one time only: the inbox then holds
    (key, type) unique instead of (key, event id).
    """

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    ONCE: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """The text that orders this message: messages of one key are handled in order."""
        raise NotImplementedError


class Command(Message, frozen=True, kw_only=True):
    """A wish from outside (HTTP). It is answered, and it may be refused. It is never redelivered."""


class Answer(Message, frozen=True, kw_only=True):
    """What the outside world said to an intent. Internal to the service that asked."""


class Event(Message, frozen=True, kw_only=True):
    """A fact, published on `TOPIC` for everyone."""

    TOPIC: ClassVar[str]
