"""The message types that a service can read, by name and version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from orderflow.messaging.json_names import require_unique_names
from orderflow.messaging.message import Message

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
        """Raises ValueError: an upcaster of no use, or two of one version, or one that leads to no reader."""
        self._decoders: dict[str, msgspec.json.Decoder[Message]] = {}
        self._names: set[str] = set()
        self.types = tuple(types)
        for message_type in self.types:
            self._decoders[wire_name(message_type)] = msgspec.json.Decoder(message_type)
            self._names.add(message_type.TYPE)
        self._chains = _chains({each.TYPE: each.VERSION for each in self.types}, upcasters)

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
