"""What librdkafka is told, and what it says in the port's words.

Its defaults are neither safe nor ordered (CONFIGURATION.md); these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException

from orderflow.core.transport import (
    MAX_RECORD_BYTES,
    RecordTooLargeError,
    TopicMissingError,
    TransportUnavailableError,
)

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
        return RecordTooLargeError(f"a record for {topic!r} is over the limit of its topic: {error.str()}")
    return TransportUnavailableError(f"Kafka: {error.name()}: {error.str()}")


@contextmanager
def translated(topic: str = "") -> Iterator[None]:
    """Raises TransportUnavailableError, TopicMissingError, RecordTooLargeError."""
    try:
        yield
    except KafkaException as error:
        raise translate(error.args[0], topic) from error
    except TimeoutError as error:
        raise TransportUnavailableError("Kafka: no answer in time") from error


Value = str | int | float | bool
# The thread that polls waits for nobody. A member that takes longer is out: nothing of its group waits longer for it.
MAX_POLL_INTERVAL_MS = 30_000
STATISTICS_S = 2.0
# Partitions can be added at any time (the library's default looks for them every five minutes).
METADATA_REFRESH_MS = 5_000


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`security` holds librdkafka's own names (`security.protocol`, `sasl.mechanism` and so on)."""

    bootstrap: str
    session_timeout_s: float = 10.0
    delivery_timeout_s: float = 10.0
    request_timeout_s: float = 5.0
    security: Mapping[str, str] = field(default_factory=dict)

    @property
    def lost_after_s(self) -> float:
        """A rebalance waits a session timeout for members that died; who is no member for longer is lost."""
        return 1.5 * self.session_timeout_s

    def client(self) -> dict[str, Value]:
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": "orderflow",
            # Nothing on standard error: what matters comes as an error of a call or of a callback.
            "log_level": 0,
            "socket.keepalive.enable": True,
            "socket.connection.setup.timeout.ms": 5_000,
            "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
            # The default waits up to 10 s before it looks whether the broker is back.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            **self.security,
        }

    def producer(self) -> dict[str, Value]:
        return {
            **self.client(),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "message.timeout.ms": int(self.delivery_timeout_s * 1000),
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.kbytes": 65_536,
        }

    def consumer(self, group: str) -> dict[str, Value]:
        session_ms = int(self.session_timeout_s * 1000)
        return {
            **self.client(),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Where to start is said at each assignment; an offset that is not in the log is ours to judge.
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "statistics.interval.ms": int(STATISTICS_S * 1000),
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": session_ms // 3,
            "max.poll.interval.ms": max(MAX_POLL_INTERVAL_MS, session_ms),
            "queued.max.messages.kbytes": 16_384,
            # At rest: the brokers answer at once when there is something.
            "fetch.wait.max.ms": 1_000,
            # With the default a consumer that is full would not fetch for a second.
            "fetch.queue.backoff.ms": 20,
        }

    def asker(self, group: str) -> dict[str, Value]:
        """For a client that asks what the group has committed, and is no member."""
        return {**self.consumer(group), "statistics.interval.ms": 0}

    def reader(self) -> dict[str, Value]:
        return {
            **self.consumer("orderflow-reader"),
            "auto.offset.reset": "earliest",
            "statistics.interval.ms": 0,
            "enable.partition.eof": True,
            # A fetch that waits at the end of one partition would hold up the next read.
            "fetch.wait.max.ms": 10,
        }
