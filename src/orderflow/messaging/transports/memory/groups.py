"""Consumer groups of the log in memory: members, their partitions, and what is settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

TopicPartition = tuple[str, int]


@dataclass(slots=True, eq=False)
class Member:
    """A member as the group sees it. `positions` maps each partition held to the next offset to fetch."""

    id: int
    topics: frozenset[str]
    wake: Callable[[], None]
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    fenced: bool = False


class Group:
    """A consumer group. Partitions are dealt as ranges over the members in order of joining."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self.committed: dict[TopicPartition, int] = {}

    @property
    def members(self) -> Sequence[Member]:
        return tuple(self._members.values())

    def join(self, member: Member, partitions: Mapping[str, int]) -> None:
        self._members[member.id] = member
        self._rebalance(partitions)

    def leave(self, member: Member, partitions: Mapping[str, int]) -> None:
        """The member is fenced from now on, whether it knows or not."""
        if self._members.pop(member.id, None) is None:
            return
        member.fenced = True
        member.positions.clear()
        self._rebalance(partitions)

    def settle(self, member: Member, offsets: Mapping[TopicPartition, int]) -> None:
        """Only forward, and only where the member still holds the partition; a fenced one holds none."""
        for place, offset in offsets.items():
            if place in member.positions:
                self.committed[place] = max(offset, self.committed.get(place, 0))

    def _rebalance(self, partitions: Mapping[str, int]) -> None:
        for member in self._members.values():
            dealt = self._share(member, partitions)
            member.positions = {place: member.positions.get(place, self.committed.get(place, 0)) for place in dealt}
            member.wake()

    def _share(self, member: Member, partitions: Mapping[str, int]) -> list[TopicPartition]:
        share: list[TopicPartition] = []
        for topic in sorted(member.topics):
            seats = [other.id for other in self._members.values() if topic in other.topics]
            count = partitions[topic]
            share += [(topic, number) for number in range(count) if seats[number * len(seats) // count] == member.id]
        return share
