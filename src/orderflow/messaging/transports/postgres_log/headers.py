"""Headers as they are kept: a MessagePack array of [name, value] pairs, value nil or bytes."""

from __future__ import annotations

import msgspec

from orderflow.messaging.transport import Headers


class HeaderCodec:
    """Keeps an encoder and a decoder; not for use by two threads at once."""

    def __init__(self) -> None:
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(Headers).decode
