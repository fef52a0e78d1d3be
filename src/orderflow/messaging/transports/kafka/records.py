"""Records as librdkafka hands them over."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

from orderflow.messaging.transport import UNREADABLE_HEADERS, ConsumerRecord, Headers

read_headers = methodcaller("headers")
"""Over a name that is not UTF-8 the client returns a result and leaves an error set. A plain call that the
interpreter has specialised does not look for that: the error would come up anywhere later, and end the thread."""


def from_message(message: Any) -> ConsumerRecord:
    """`message` is a `confluent_kafka.Message` without an error; its stubs say less than that.

    Key, value and headers may each be missing: Kafka lets producers do that.
    """
    return ConsumerRecord(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        _headers(message),
        message.timestamp()[1],
    )


def _headers(message: Any) -> Headers:
    try:
        headers = read_headers(message)
    except (SystemError, UnicodeDecodeError) as error:
        # A name that is not UTF-8 cannot be had from this client, nor safely the other headers then: that is said in
        # their place. The record is undecodable, and is kept as such.
        return ((UNREADABLE_HEADERS, str(error.__cause__ or error).encode()),)
    return tuple(headers) if headers else ()
