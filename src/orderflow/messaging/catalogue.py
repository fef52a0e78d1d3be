"""The message types that a service can read, by name and version."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from orderflow.messaging.json_names import require_unique_names
from orderflow.messaging.message import Message

encode = msgspec.json.Encoder().encode


class UndecodableError(Exception):
    """A record that cannot become a message, now or ever. `reason` is one of the closed set below."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


UNKNOWN_TYPE = "unknown-type"
UNKNOWN_VERSION = "unknown-version"
MALFORMED = "malformed"


class Catalogue:
    """Maps the wire name (`orderflow.OrderPlaced.v1`) to a message class and reads its JSON."""

    def __init__(self, types: Iterable[type[Message]]) -> None:
        self._decoders: dict[str, msgspec.json.Decoder[Message]] = {}
        self._names: set[str] = set()
        self.types = tuple(types)
        for message_type in self.types:
            self._decoders[wire_name(message_type)] = msgspec.json.Decoder(message_type)
            self._names.add(message_type.TYPE)

    def decode(self, name: str, value: bytes) -> Message:
        """Raises UndecodableError: unknown type, unknown version, a value that does not fit the type, or that has
        one name twice."""
        decoder = self._decoders.get(name)
        if decoder is None:
            known = name.rpartition(".v")[0] in self._names
            raise UndecodableError(UNKNOWN_VERSION if known else UNKNOWN_TYPE, f"no reader for {name!r}")
        try:
            message = decoder.decode(value)
            # Our own producers write exactly this: nothing to look for, at half the price of decoding.
            if encode(message) != value:
                require_unique_names(value)
        except (ValueError, RecursionError) as error:
            raise UndecodableError(MALFORMED, f"{name}: {error}") from error
        return message


def wire_name(message_type: type[Message]) -> str:
    """The CloudEvents type: the type's name and version."""
    return f"{message_type.TYPE}.v{message_type.VERSION}"
