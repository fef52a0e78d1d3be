"""Records as librdkafka hands them over."""

from __future__ import annotations

from typing import Any

from orderflow.messaging.transport import UNREADABLE_HEADERS, ConsumerRecord, Headers


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
        headers = message.headers()
    except UnicodeDecodeError as error:
        # A name that is not UTF-8 cannot be had from this client, nor the other headers then: that is said in their
        # place. The record is undecodable, and is kept as such.
        return ((UNREADABLE_HEADERS, str(error).encode()),)
    return tuple(headers) if headers else ()
