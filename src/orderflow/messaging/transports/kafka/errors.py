"""What librdkafka says, in the port's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from orderflow.messaging.transport import TopicMissingError, TransportUnavailableError

# The last two are their public names.
TOPIC_MISSING = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


def translate(error: KafkaError, topic: str = "") -> Exception:
    """Everything that is not plainly about the record or its topic counts as infrastructure.

    So a right that is missing stops the caller, which waits and tells; no record is given up for it.
    """
    if error.code() in TOPIC_MISSING:
        return TopicMissingError(topic or error.str())
    if error.code() in _TOO_LARGE:
        return ValueError(f"a record for {topic!r} is over the limit: {error.str()}")
    return TransportUnavailableError(f"Kafka: {error.name()}: {error.str()}")


@contextmanager
def translated(topic: str = "") -> Iterator[None]:
    """Raises TransportUnavailableError, TopicMissingError, ValueError."""
    try:
        yield
    except KafkaException as error:
        raise translate(error.args[0], topic) from error
    except TimeoutError as error:
        raise TransportUnavailableError("Kafka: no answer in time") from error
