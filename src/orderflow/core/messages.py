"""Messages: commands, events and answers, their envelope, and the catalogue of types that a service reads.

All of them are processed in the same way. An envelope has a message's identity, origin, cause and trace. JSON objects
with a duplicate name are refused, because parsers disagree on what they mean (RFC 8259, 4).
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
    """An immutable message about one key.

    `TYPE` is its name for ever; a change that old readers cannot read needs a higher `VERSION`. With `ONCE` a key can
    have only one message of this type: the inbox then keeps (key, type) unique instead of (key, event id).
    """

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    ONCE: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """The text that orders this message: messages of one key are handled in order."""
        raise NotImplementedError(f"{type(self).__name__} has no key: define the property `key`, a text")


class Command(Message, frozen=True, kw_only=True):
    """A request from outside (HTTP). It is answered or refused, and never redelivered.

    `PERMISSION` says who may send it: operators, unless the type says otherwise. `ACTION` is its name in the
    operators' log (its type, if empty).
    """

    PERMISSION: ClassVar[Permission] = OPERATE
    ACTION: ClassVar[str] = ""

    @property
    def target(self) -> str:
        """What it acts on, for the operators' log."""
        return self.key


class Answer(Message, frozen=True, kw_only=True):
    """The outside world's reply to an intent. Internal to the service that asked."""


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
        """What identifies the message within (consumer, key) in the inbox."""
        return self.message.TYPE if self.message.ONCE else uuid_text(self.id)


class DoubleNameError(ValueError):
    """A JSON object has two members with the same name."""


def require_unique_names(document: bytes) -> None:
    """Raises DoubleNameError for an object with a duplicate name. The document must be valid JSON."""
    json.loads(document, object_pairs_hook=_unique)


def _unique(members: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise DoubleNameError(f"the name {name!r} stands twice in one object")
        seen.add(name)


encode = msgspec.json.Encoder().encode


class UndecodableError(Exception):
    """A record that can never be decoded. `reason` is one of the three constants below.

    `about` is the type that the value does not fit, if the type is known; otherwise "".
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
    """Converts a value of `type` from the version `from_version` to the next. Pure.

    Keep it as long as a parked event or a topic may hold that version.
    """

    type: str
    from_version: int
    upcast: Callable[[dict[str, Any]], dict[str, Any]]


class Catalogue:
    """Maps the wire name (`orderflow.OrderPlaced.v1`) to a message class and reads its JSON.

    A value of an older version is converted by upcasters, version by version, up to the current one.
    """

    def __init__(self, types: Iterable[type[Message]], upcasters: Iterable[Upcaster] = ()) -> None:
        """Raises TypeError for what is no message type or has no TYPE, and ValueError for two types of one name, for
        an upcaster of no older version, for two of one version, and for a gap.
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
            self._decoders[name] = msgspec.json.Decoder(message_type)
            self._names.add(message_type.TYPE)
        self._chains = _chains({each.TYPE: each.VERSION for each in self.types}, upcasters)
        self.names = frozenset((*self._decoders, *self._chains))
        """The wire names of every type and version that can be read."""

    def decode(self, name: str, value: bytes) -> Message:
        """Raises UndecodableError: unknown type, unknown version, a value that does not fit the type, or that has
        one name twice."""
        decoder = self._decoders.get(name)
        if decoder is None:
            return self._decode_older(name, value)
        try:
            message = decoder.decode(value)
            # Our own producers write exactly these bytes: comparing costs half of what decoding does.
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
            fields = msgspec.json.decode(value, type=dict[str, Any])
            require_unique_names(value)
            for upcaster in upcasters:
                fields = upcaster.upcast(fields)
            return self._decoders[current].decode(encode(fields))
        except Exception as error:  # an upcaster may raise anything for a value that does not fit
            raise UndecodableError(MALFORMED, f"{name}: {type(error).__name__}: {error}", name) from error


def _chains(current: dict[str, int], upcasters: Iterable[Upcaster]) -> dict[str, tuple[str, Sequence[Upcaster]]]:
    """For each older version that can be read: the wire name of the current one, and the upcasters to it."""
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
