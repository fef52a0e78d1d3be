"""What is said: commands, events and answers, the envelope of each, and the types that a service reads.

All of them are messages and go the same way in. An envelope is what is known of a message's passage: identity,
origin, cause and trace. JSON objects that have a name twice are refused: readers disagree on what they mean (RFC
8259, 4).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from orderflow.core.access import OPERATE, Permission
from orderflow.core.identity import uuid_text


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
        raise NotImplementedError(f"{type(self).__name__} has no key: define the property `key`, a text")


class Command(Message, frozen=True, kw_only=True):
    """A wish from outside (HTTP). It is answered, and it may be refused. It is never redelivered.

    `PERMISSION` says whose wish it may be: an operator's, unless the type says otherwise. `ACTION` is what the
    operators' log calls it where it is somebody's act; without one it is its type.
    """

    PERMISSION: ClassVar[Permission] = OPERATE
    ACTION: ClassVar[str] = ""

    @property
    def target(self) -> str:
        """What it acts on, for the operators' log."""
        return self.key


class Answer(Message, frozen=True, kw_only=True):
    """What the outside world said to an intent. Internal to the service that asked."""


class Event(Message, frozen=True, kw_only=True):
    """A fact, published on `TOPIC` for everyone."""

    TOPIC: ClassVar[str]


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
        return self.message.TYPE if self.message.ONCE else uuid_text(self.id)


class DoubleNameError(ValueError):
    """One object has two members of one name."""


def require_unique_names(document: bytes) -> None:
    """Raises DoubleNameError. The document is known to be JSON."""
    json.loads(document, object_pairs_hook=_unique)


def _unique(members: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise DoubleNameError(f"the name {name!r} stands twice in one object")
        seen.add(name)


encode = msgspec.json.Encoder().encode


class UndecodableError(Exception):
    """A record that cannot become a message, now or ever. `reason` is one of the closed set below; `about` is the
    known type that its value does not fit, if it has come so far.
    """

    def __init__(self, reason: str, detail: str, about: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.about = about


UNKNOWN_TYPE = "unknown-type"
UNKNOWN_VERSION = "unknown-version"
MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Upcaster:
    """How a value of the version `from_version` of `type` is told in the next version. Pure; never taken away while
    a parked event or a topic may hold that version.
    """

    type: str
    from_version: int
    upcast: Callable[[dict[str, Any]], dict[str, Any]]


class Catalogue:
    """Maps the wire name (`orderflow.OrderPlaced.v1`) to a message class and reads its JSON.

    A value of an older version is read by way of its upcasters, one version after the other up to the current one.
    """

    def __init__(self, types: Iterable[type[Message]], upcasters: Iterable[Upcaster] = ()) -> None:
        """Raises TypeError: what is no message type, or has no TYPE. Raises ValueError: two types of one name; an
        upcaster of no use, or two of one version, or one that leads to no reader.
        """
        self._decoders: dict[str, msgspec.json.Decoder[Message]] = {}
        self._names: set[str] = set()
        self.types = tuple(types)
        for message_type in self.types:
            if not (isinstance(message_type, type) and issubclass(message_type, Message)):
                raise TypeError(f"a catalogue holds message types, not {message_type!r}")
            if not hasattr(message_type, "TYPE"):
                raise TypeError(
                    f"{message_type.__name__} has no TYPE: give it a name for ever, such as 'shipping.Sent'"
                )
            name = wire_name(message_type)
            if name in self._decoders and self._decoders[name].type is not message_type:
                raise ValueError(f"two message types are called {name}: change the TYPE or VERSION of one")
            self._decoders[wire_name(message_type)] = msgspec.json.Decoder(message_type)
            self._names.add(message_type.TYPE)
        self._chains = _chains({each.TYPE: each.VERSION for each in self.types}, upcasters)
        self.names = frozenset((*self._decoders, *self._chains))
        """Of every type and version that can be read."""

    def decode(self, name: str, value: bytes) -> Message:
        """Raises UndecodableError: unknown type, unknown version, a value that does not fit the type, or that has
        one name twice."""
        decoder = self._decoders.get(name)
        if decoder is None:
            return self._decode_older(name, value)
        try:
            message = decoder.decode(value)
            # Our own producers write exactly this: nothing to look for, at half the price of decoding.
            if encode(message) != value:
                require_unique_names(value)
        except (ValueError, RecursionError) as error:
            raise UndecodableError(MALFORMED, f"{name}: {error}", name) from error
        return message

    def _decode_older(self, name: str, value: bytes) -> Message:
        chain = self._chains.get(name)
        if chain is None:
            known = name.rpartition(".v")[0] in self._names
            raise UndecodableError(UNKNOWN_VERSION if known else UNKNOWN_TYPE, f"no reader for {name!r}")
        current, upcasters = chain
        try:
            told = msgspec.json.decode(value, type=dict[str, Any])
            require_unique_names(value)
            for upcaster in upcasters:
                told = upcaster.upcast(told)
            return self._decoders[current].decode(encode(told))
        except Exception as error:  # an upcaster raises whatever a value that does not fit makes it
            raise UndecodableError(MALFORMED, f"{name}: {type(error).__name__}: {error}", name) from error


def _chains(current: dict[str, int], upcasters: Iterable[Upcaster]) -> dict[str, tuple[str, Sequence[Upcaster]]]:
    """For each older version that can be read: the current one's wire name, and the way there."""
    steps: dict[tuple[str, int], Upcaster] = {}
    for each in upcasters:
        if each.from_version >= current.get(each.type, 0):
            raise ValueError(f"{each.type}.v{each.from_version} is no older version of a type that is read")
        if (each.type, each.from_version) in steps:
            raise ValueError(f"two upcasters of {each.type}.v{each.from_version}")
        steps[each.type, each.from_version] = each
    chains: dict[str, tuple[str, Sequence[Upcaster]]] = {}
    for name, first in steps:
        way = [steps.get((name, version)) for version in range(first, current[name])]
        if None in way:
            raise ValueError(f"no upcaster of {name}.v{first + way.index(None)}, which {name}.v{first} needs")
        chains[f"{name}.v{first}"] = (f"{name}.v{current[name]}", [each for each in way if each is not None])
    return chains


@cache
def wire_name(message_type: type[Message]) -> str:
    """The CloudEvents type: the type's name and version."""
    return f"{message_type.TYPE}.v{message_type.VERSION}"
