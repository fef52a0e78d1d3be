"""The records and groups that all memory transports of a test share."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from orderflow.messaging.claims import Entry, entry_of, is_held, owners
from orderflow.messaging.clock import Clock
from orderflow.messaging.partitioner import Partitioner
from orderflow.messaging.transport import (
    Claim,
    ConsumerRecord,
    ProducerRecord,
    TopicMissingError,
    TopicSettings,
    TransportUnavailableError,
)
from orderflow.messaging.transports.memory.groups import Group, Member, TopicPartition


class MemoryLog:
    """Topics kept for the life of the object; records expire only when `expire` is called.

    Nothing here waits: every call is one step. While `reachable` is false every call raises
    TransportUnavailableError, as a broker that is away would.
    """

    def __init__(self, clock: Clock, chance: random.Random, *, session_timeout_s: float = 10.0) -> None:
        self.clock = clock
        self.session_timeout_s = session_timeout_s
        self.reachable = True
        self._partitioner = Partitioner(chance)
        self._topics: dict[str, list[list[ConsumerRecord]]] = {}
        self._first: dict[TopicPartition, int] = {}
        self._groups: dict[str, Group] = {}
        self._members = 0
        self._claims: dict[str, list[Entry]] = {}

    def claim(self, claim: Claim) -> None:
        """Raises ClaimedError, TransportUnavailableError."""
        self.check()
        register = self._claims.setdefault(claim.register, [])
        if not is_held(claim, owners(register)):
            register.append(entry_of(claim))

    def create(self, topics: Sequence[TopicSettings]) -> None:
        self.check()
        for topic in topics:
            self._topics.setdefault(topic.name, [[] for _ in range(topic.partitions)])

    def append(self, records: Sequence[ProducerRecord]) -> None:
        self.check()
        self.check_topics({record.topic for record in records})
        now = self.clock.wall_ms()
        for record in records:
            partitions = self._topics[record.topic]
            number = self._partitioner.partition(record.key, len(partitions))
            partition = partitions[number]
            partition.append(
                ConsumerRecord(
                    record.topic, number, len(partition), record.key, record.value, tuple(record.headers), now
                )
            )
        self._wake({record.topic for record in records})

    def slice(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        self.check()
        self.check_topics({topic})
        if not 0 <= partition < len(self._topics[topic]):
            raise TopicMissingError(f"{topic} has no partition {partition}")
        start = max(self._first.get((topic, partition), 0), offset)
        return self._topics[topic][partition][start : start + limit]

    def expire(self, topic: str) -> None:
        """Every record that the topic has now has outlived its retention."""
        self._first |= {(topic, number): len(partition) for number, partition in enumerate(self._topics[topic])}

    def ends(self, topics: Sequence[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        """The first offset kept and the offset after the last record of each partition."""
        self.check()
        self.check_topics(topics)
        return {
            (topic, number): (self._first.get((topic, number), 0), len(partition))
            for topic in topics
            for number, partition in enumerate(self._topics[topic])
        }

    def join(self, group: str, topics: Sequence[str], wake: Callable[[], None]) -> Member:
        self.check()
        self.check_topics(topics)
        self._members += 1
        member = Member(self._members, frozenset(topics), wake)
        self.group(group).join(member, self._counts())
        return member

    def leave(self, group: str, member: Member) -> None:
        """A goodbye, or the group's own finding that the member's session is over."""
        self.group(group).leave(member, self._counts())

    def group(self, name: str) -> Group:
        return self._groups.setdefault(name, Group())

    def check(self) -> None:
        if not self.reachable:
            raise TransportUnavailableError("the log in memory was made unreachable")

    def check_topics(self, topics: set[str] | Sequence[str]) -> None:
        for topic in topics:
            if topic not in self._topics:
                raise TopicMissingError(topic)

    def _counts(self) -> Mapping[str, int]:
        return {topic: len(partitions) for topic, partitions in self._topics.items()}

    def _wake(self, topics: set[str]) -> None:
        for group in self._groups.values():
            for member in group.members:
                if not topics.isdisjoint(member.topics):
                    member.wake()
