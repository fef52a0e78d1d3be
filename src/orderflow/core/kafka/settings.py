"""What librdkafka is told, and what it says in the port's words.

Its defaults are neither safe nor ordered (CONFIGURATION.md); these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from orderflow.core.kafka.security import Refusals
from orderflow.core.transport import (
    MAX_RECORD_BYTES,
    RecordTooLargeError,
    TopicMissingError,
    TransportUnavailableError,
)

# Those with an underscore are their public names.
TOPIC_MISSING = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
_UNREACHABLE = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError._SSL,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._MSG_TIMED_OUT,  # noqa: SLF001
    }
)
_FORBIDDEN = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


def translate(error: KafkaError, topic: str = "", *, refusals: Refusals) -> Exception:
    """Everything that is not plainly about the record or its topic counts as infrastructure.

    So a right that is missing stops the caller, which waits and tells; no record is given up for it. Where there is
    no connection, the brokers' `refusals` say why.
    """
    if error.code() in TOPIC_MISSING:
        return TopicMissingError(topic or error.str())
    if error.code() in _TOO_LARGE:
        return RecordTooLargeError(f"a record for {topic!r} is over the limit of its topic: {error.str()}")
    if error.code() in _FORBIDDEN:
        what = f"topic {topic}" if topic and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED else error.str()
        return TransportUnavailableError(f"Kafka does not allow it ({what}): the user that we are lacks a right")
    if error.code() in _UNREACHABLE and refusals.why:
        return TransportUnavailableError(f"Kafka {refusals.why}")
    return TransportUnavailableError(f"Kafka: {error.name()}: {error.str()}")


@contextmanager
def translated(topic: str = "", *, refusals: Refusals) -> Iterator[None]:
    """Raises TransportUnavailableError, TopicMissingError, RecordTooLargeError."""
    try:
        yield
    except KafkaException as error:
        raise translate(error.args[0], topic, refusals=refusals) from error
    except TimeoutError as error:
        why = f"Kafka {refusals.why}" if refusals.why else "Kafka: no answer in time"
        raise TransportUnavailableError(why) from error


# The thread that polls waits for nobody. A member that takes longer is out: nothing of its group waits longer for it.
MAX_POLL_INTERVAL_MS = 30_000
STATISTICS_S = 2.0
# Partitions can be added at any time (the library's default looks for them every five minutes).
METADATA_REFRESH_MS = 5_000


READERS = "orderflow-reader"
"""The group that those are named after who read and are members of none."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`security` holds librdkafka's own names (`security.protocol`, `sasl.mechanism` and so on).

    `refusals` hears what the clients made of these settings are told by the brokers.
    """

    bootstrap: str
    session_timeout_s: float = 10.0
    delivery_timeout_s: float = 10.0
    request_timeout_s: float = 5.0
    security: Mapping[str, str] = field(default_factory=dict, repr=False)
    refusals: Refusals = field(default_factory=Refusals, repr=False, compare=False)

    @property
    def lost_after_s(self) -> float:
        """A rebalance waits a session timeout for members that died; who is no member for longer is lost."""
        return 1.5 * self.session_timeout_s

    def client(self) -> dict[str, Any]:
        return {
            "error_cb": self.refusals.hear,
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

    def producer(self) -> dict[str, Any]:
        return {
            **self.client(),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "message.timeout.ms": int(self.delivery_timeout_s * 1000),
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.kbytes": 65_536,
            **self.security,
        }

    def consumer(self, group: str) -> dict[str, Any]:
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
            **self.security,
        }

    def asker(self, group: str) -> dict[str, Any]:
        """For a client that asks what the group has committed, and is no member."""
        return {**self.consumer(group), "statistics.interval.ms": 0}

    def reader(self) -> dict[str, Any]:
        return {
            **self.consumer(READERS),
            "auto.offset.reset": "earliest",
            "statistics.interval.ms": 0,
            "enable.partition.eof": True,
            # A fetch that waits at the end of one partition would hold up the next read.
            "fetch.wait.max.ms": 10,
        }
