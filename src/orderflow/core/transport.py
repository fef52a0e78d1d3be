"""The transport port: topics with partitions, offsets and consumer groups, with Kafka's terms and meaning.

There are three implementations (Apache Kafka, a log in PostgreSQL, and memory) with the same limits, and one
conformance suite. The installation that first uses topics and groups claims them. On a shared log, their names may
have prefixes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import msgspec

Headers = tuple[tuple[str, bytes | None], ...]

UNREADABLE_HEADERS = "orderflow-unreadable-headers"
"""The one header of a record whose headers the log's client could not read; its value says why."""


class ProducerRecord(msgspec.Struct, frozen=True):
    """A record to append. `key` decides the partition (murmur2, as Kafka clients do)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class ConsumerRecord(msgspec.Struct, frozen=True):
    """A record in the log. `timestamp` is the append time in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0


class HasBytes(Protocol):
    """The bytes of a record: in the log, or on its way there."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Headers: ...


MAX_RECORD_BYTES = 2 * 1024 * 1024
"""The limit of every log: Kafka's `max.message.bytes` of the topics that we make, which bounds a whole record
batch.
"""

MAX_HEADERS = 100_000
"""Of a record with more, librdkafka silently returns no headers (`rd_kafka_message_headers`)."""

_FRAME_BYTES = 61 + 36
"""The overhead of a batch with one record: the batch's head, and the record's fields beside its content."""


def size_of(record: HasBytes) -> int:
    """The size of an uncompressed Kafka record batch with this record alone, in bytes; `fits` uses it for every log.

    Key, value and headers are counted exactly, the other numbers with their maximal length. Source: Apache Kafka,
    "Implementation, Message Format": record batch (61 bytes) and record, lengths as zigzag varints.
    """
    size = _FRAME_BYTES + len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        name_bytes = len(name) if name.isascii() else len(name.encode())
        value_bytes = len(value) if value else 0
        size += name_bytes + value_bytes + 2
        if name_bytes > 63 or value_bytes > 63:
            size += _more_digits(name_bytes) + _more_digits(value_bytes)
    return size


def fits(record: HasBytes) -> bool:
    """Whether every log takes the record and returns it whole."""
    return size_of(record) <= MAX_RECORD_BYTES and len(record.headers) <= MAX_HEADERS


def _more_digits(length: int) -> int:
    """How many bytes more than one a zigzag varint of the length has (seven bits a byte, one of them the sign)."""
    return max(0, length.bit_length() // 7)


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """How a topic is made. `retention_ms` is how long records stay after they were appended."""

    name: str
    partitions: int
    retention_ms: int = 7 * 24 * 3_600_000


class PartitionLag(msgspec.Struct, frozen=True):
    """A group's position on one partition.

    `committed` is its committed offset (the next one to read), or None. `first` is the first offset that is kept,
    `end` the offset of the next record to be appended. `held` counts the last records that no reader gets yet,
    because some producer's transaction has not ended.
    """

    topic: str
    partition: int
    committed: int | None
    first: int
    end: int
    held: int = 0

    @property
    def position(self) -> int:
        """The offset at which a member that joins now starts."""
        return self.first if self.committed is None else max(self.committed, self.first)

    @property
    def lag(self) -> int:
        """How many records are still to be read."""
        return max(0, self.end - self.position)

    @property
    def expired(self) -> int:
        """How many records retention has dropped before the group had read them. They cannot be read any more."""
        return 0 if self.committed is None else max(0, self.first - self.committed)


class TransportUnavailableError(Exception):
    """The log cannot be reached or does not answer: infrastructure, try again."""


class RecordTooLargeError(ValueError):
    """The log does not take a record of so many bytes or headers, or its topic was made with a lower limit."""


class TopicReplacedError(TransportUnavailableError):
    """The topic that a consumer was reading has been replaced by another; it is now read from its beginning.

    `how` says what has happened. Unread records of the old topic are lost from the log.
    """

    def __init__(self, topic: str, how: str) -> None:
        super().__init__(
            f"topic {topic}: {how}. The consumer starts at its beginning and drops what it knows; what it had not "
            "read of the old one is gone from the log: `orderflow outbox republish` sends it again"
        )
        self.topic = topic
        self.how = how


class TopicMissingError(Exception):
    """The topic does not exist. Topics are made with explicit settings, never by use."""


REGISTER = "orderflow-installation"


@dataclass(frozen=True, slots=True)
class Claim:
    """Topics and groups that the installation `owner` claims.

    `register` is the name under which a log keeps claims. With `takes_over` those of others are claimed too.
    """

    owner: UUID
    topics: Sequence[str]
    groups: Sequence[str] = ()
    register: str = REGISTER
    takes_over: bool = False

    @property
    def names(self) -> list[str]:
        """The claimed names as in the register, with their kind: a topic and a group may have the same name."""
        return sorted([*(f"topic {name}" for name in self.topics), *(f"group {name}" for name in self.groups)])


class ClaimedError(Exception):
    """Another installation has claimed some of it. `owners` are by name, as in `Claim.names`."""

    def __init__(self, owners: Mapping[str, UUID]) -> None:
        super().__init__(", ".join(f"{name} is of {owner}" for name, owner in sorted(owners.items())))
        self.owners = owners


class Consumer(Protocol):
    """A member of a consumer group. It keeps its membership by itself, also while nobody polls."""

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        """Wait for records; return up to `max_records`, in offset order within each partition.

        May return an empty batch (after a rebalance, or on close). A group without a committed offset
        starts at the earliest record. Raises TransportUnavailableError; TopicReplacedError once for each time
        that a topic was replaced.
        """
        ...

    async def commit(self, records: Sequence[ConsumerRecord]) -> None:
        """Commit the offsets of these records, and so of all before them in their partitions.

        Only topic, partition and offset count. May be called while a poll waits. Best effort: a member that has lost
        a partition commits nothing there, without an error. Raises TransportUnavailableError.
        """
        ...

    def assignment(self) -> frozenset[tuple[str, int]]:
        """The partitions that are assigned to this member now."""
        ...

    async def close(self) -> None:
        """Leave the group, so that others take over at once. A waiting poll returns empty. Idempotent."""
        ...


class Transport(Protocol):
    """One connection to a log. `close` is idempotent and closes nothing that others opened."""

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        """Append all records durably, in order within each key; returns when every one is acknowledged.

        After an error some may have been appended: append all of them again, readers drop the duplicates.
        Raises TransportUnavailableError, TopicMissingError, RecordTooLargeError.
        """
        ...

    async def subscribe(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join `group` for `topics`. Raises TransportUnavailableError, TopicMissingError."""
        ...

    async def create_topics(self, topics: Sequence[TopicSettings]) -> None:
        """Make the topics that do not exist yet; leave the others as they are."""
        ...

    async def claim(self, claim: Claim) -> None:
        """Claim topics and groups for an installation, durably, whether they exist yet or not; idempotent.

        It claims all of them or none: of two overlapping claims at the same time one gets everything, the other
        ClaimedError. A claim is a safeguard that every start checks; it does not keep others from using the names.
        Raises ClaimedError, TransportUnavailableError.
        """
        ...

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        """Up to `limit` records from `offset` on, without a group: for people and replays. No waiting."""
        ...

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], tuple[int, int]]:
        """For each (topic, partition): the first offset kept and the offset after the last."""
        ...

    async def lag(self, group: str, topics: Sequence[str]) -> Sequence[PartitionLag]:
        """How far the group is behind on each partition of `topics`."""
        ...

    async def ping(self) -> None:
        """Return when the log answers. Used by readiness checks.

        Raises TransportUnavailableError, TopicMissingError (a topic that was written to before).
        """
        ...

    async def close(self) -> None: ...


POLL_BYTES_MAX = 16 * 1024 * 1024
"""The records of a poll exceed this size by at most one record, however many were asked for."""


def refuse_oversized(records: Sequence[ProducerRecord]) -> None:
    """Raises RecordTooLargeError for a record that does not fit, before any of the records is appended."""
    for record in records:
        if not fits(record):
            raise RecordTooLargeError(
                f"a record for {record.topic!r} has {size_of(record)} bytes and {len(record.headers)} headers, "
                f"the limit is {MAX_RECORD_BYTES} bytes and {MAX_HEADERS} headers"
            )


def within(room: int, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
    """The first records, up to the one that fills `room` bytes."""
    for number, record in enumerate(records):
        room -= size_of(record)
        if room <= 0:
            return records[: number + 1]
    return records


class Entry(msgspec.Struct, frozen=True):
    """A claim in a register."""

    owner: UUID
    names: tuple[str, ...]
    takes_over: bool = False


def entry_of(claim: Claim) -> Entry:
    return Entry(claim.owner, tuple(claim.names), claim.takes_over)


def encode(entry: Entry) -> bytes:
    return msgspec.json.encode(entry)


def decode(value: bytes | None) -> Entry | None:
    """The claim in a register's record; None if it is none."""
    try:
        return msgspec.json.decode(value or b"", type=Entry)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def owners(entries: Iterable[Entry]) -> dict[str, UUID]:
    """The owner of each name. A claim that overlaps an earlier one of another owner is void, unless it takes over."""
    held: dict[str, UUID] = {}
    for entry in entries:
        if entry.takes_over or all(held.get(name, entry.owner) == entry.owner for name in entry.names):
            held.update(dict.fromkeys(entry.names, entry.owner))
    return held


def is_held(claim: Claim, held: Mapping[str, UUID]) -> bool:
    """Whether the claimant owns all of it already. Raises ClaimedError: another owns some, and it does not take
    over.
    """
    others = {name: held[name] for name in claim.names if held.get(name, claim.owner) != claim.owner}
    if others and not claim.takes_over:
        raise ClaimedError(others)
    return not others and held.keys() >= set(claim.names)


class PrefixedConsumer:
    """A consumer of a PrefixedTransport: its topics are without the prefix."""

    def __init__(self, inner: Consumer, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        try:
            records = await self._inner.poll(max_records)
        except TopicReplacedError as error:
            raise TopicReplacedError(error.topic.removeprefix(self._prefix), error.how) from error
        return [_plain(record, self._prefix) for record in records]

    async def commit(self, records: Sequence[ConsumerRecord]) -> None:
        await self._inner.commit(
            [ConsumerRecord(self._prefix + each.topic, each.partition, each.offset, None, None) for each in records]
        )

    def assignment(self) -> frozenset[tuple[str, int]]:
        return frozenset((topic.removeprefix(self._prefix), number) for topic, number in self._inner.assignment())

    async def close(self) -> None:
        await self._inner.close()


class PrefixedTransport:
    """Adds prefixes to the names of topics and groups of another transport."""

    def __init__(self, inner: Transport, *, topics: str, groups: str) -> None:
        self._inner = inner
        self._topics = topics
        self._groups = groups

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        await self._inner.append(
            [ProducerRecord(self._topics + each.topic, each.key, each.value, each.headers) for each in records]
        )

    async def subscribe(self, group: str, topics: Sequence[str]) -> PrefixedConsumer:
        return PrefixedConsumer(await self._inner.subscribe(self._groups + group, self._long(topics)), self._topics)

    async def create_topics(self, topics: Sequence[TopicSettings]) -> None:
        await self._inner.create_topics(
            [dataclasses.replace(topic, name=self._topics + topic.name) for topic in topics]
        )

    async def claim(self, claim: Claim) -> None:
        """Each prefix has a register of its own, which everyone with that prefix finds."""
        topics, groups = self._long(claim.topics), [self._groups + group for group in claim.groups]
        register = self._topics + claim.register
        if self._topics == self._groups:
            await self._inner.claim(dataclasses.replace(claim, topics=topics, groups=groups, register=register))
            return
        await self._inner.claim(dataclasses.replace(claim, topics=topics, groups=(), register=register))
        register = self._groups + claim.register
        await self._inner.claim(dataclasses.replace(claim, topics=(), groups=groups, register=register))

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        found = await self._inner.read(self._topics + topic, partition, offset, limit)
        return [_plain(record, self._topics) for record in found]

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], tuple[int, int]]:
        found = await self._inner.ends(self._long(topics))
        return {(topic.removeprefix(self._topics), number): span for (topic, number), span in found.items()}

    async def lag(self, group: str, topics: Sequence[str]) -> Sequence[PartitionLag]:
        found = await self._inner.lag(self._groups + group, self._long(topics))
        return [msgspec.structs.replace(each, topic=each.topic.removeprefix(self._topics)) for each in found]

    async def ping(self) -> None:
        await self._inner.ping()

    async def close(self) -> None:
        await self._inner.close()

    def _long(self, topics: Sequence[str]) -> list[str]:
        return [self._topics + topic for topic in topics]


def _plain(record: ConsumerRecord, prefix: str) -> ConsumerRecord:
    topic = record.topic.removeprefix(prefix)
    return ConsumerRecord(
        topic, record.partition, record.offset, record.key, record.value, record.headers, record.timestamp
    )
