"""The same random history through the log in memory and the one in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID

from orderflow.core.postgres_log import PostgresLogConsumer, PostgresLogTransport
from orderflow.core.testing import MemoryConsumer, MemoryLog, MemoryTransport
from orderflow.core.transport import (
    Claim,
    ClaimedError,
    ConsumerRecord,
    ProducerRecord,
    TopicMissingError,
    TopicSettings,
)
from tests.conformance.histories import Difference, Step
from tests.support.waiting import eventually

TOPICS = ("a", "b")
GROUPS = ("g", "h")
MEMBERS = ("1", "2", "3")
PARTITIONS = {"a": 2, "b": 3}
Consumer = MemoryConsumer | PostgresLogConsumer


class LogSide:
    """One log; `tag` is in all names, so that each history has its own."""

    def __init__(
        self, transport: MemoryTransport | PostgresLogTransport, tag: str, expire: Callable[..., Any]
    ) -> None:
        self.transport = transport
        self.members: dict[str, tuple[str, Consumer]] = {}
        self.taken: dict[str, list[ConsumerRecord]] = {}
        self.unread: Callable[[str], int] = lambda _: 0
        self._tag = tag
        self._expire = expire

    def name(self, name: str) -> str:
        return f"{name}-{self._tag}"

    def named(self, *names: str) -> list[str]:
        return [self.name(name) for name in names]

    async def take(self, step: Step) -> Any:
        """The answer to a step, or the name of its error."""
        name, *arguments = step
        try:
            return await getattr(self, name)(*arguments)
        except (TopicMissingError, ClaimedError) as error:
            return type(error).__name__

    def assignments(self) -> Mapping[str, Any]:
        return {name: sorted(member.assignment()) for name, (_, member) in self.members.items()}

    async def create(self, topic: str, partitions: int) -> Any:
        await self.transport.create_topics([TopicSettings(name, partitions) for name in self.named(topic)])

    async def append(self, topics: Sequence[str], keys: Sequence[str], value: int) -> Any:
        await self.transport.append(
            [
                ProducerRecord(topic, key.encode(), b"%d" % value, (("h", None), ("i", b"x")))
                for topic in self.named(*topics)
                for key in keys
            ]
        )

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Any:
        records = await self.transport.read(self.name(topic), partition, offset, limit)
        return [told(record) for record in records]

    async def claim(self, owner: int, topics: Sequence[str], takes_over: bool) -> Any:
        names = self.named(*topics)
        await self.transport.claim(Claim(UUID(int=owner), names, register=self._tag, takes_over=takes_over))

    async def join(self, member: str, group: str, topics: Sequence[str]) -> Any:
        if member not in self.members:
            joined = await self.transport.subscribe(self.name(group), self.named(*topics))
            self.members[member] = group, joined
            self.taken[member] = []

    async def leave(self, member: str) -> Any:
        _, consumer = self.members.pop(member, ("", None))
        if consumer is not None:
            await consumer.close()

    async def poll(self, member: str) -> Any:
        """All that the member has not read of what it holds."""
        if member not in self.members:
            return None
        _, consumer = self.members[member]
        wanted, got = self.unread(member), list[ConsumerRecord]()
        with suppress(TimeoutError):
            async with asyncio.timeout(120):
                while len(got) < wanted:
                    got += await consumer.poll(100)
        self.taken[member] += got
        return sorted(map(told, got))

    async def commit(self, member: str, count: int) -> Any:
        """The first of what the member has taken."""
        if member in self.members:
            done, self.taken[member] = self.taken[member][:count], self.taken[member][count:]
            done.sort(key=lambda record: record.offset)
            await self.members[member][1].commit(done)

    async def expire(self) -> Any:
        """Everything that is there now outlives its retention."""
        await self._expire(self.named(*TOPICS))

    async def state(self) -> Any:
        """What a group has committed and where all ends are."""
        topics = [topic for topic in TOPICS if await self.exists(topic)]
        if not topics:
            return None
        lag = [await self.transport.lag(self.name(group), self.named(*topics)) for group in GROUPS]
        return {
            "ends": sorted((await self.transport.ends(self.named(*topics))).items()),
            "lag": [[(each.topic, each.partition, each.position, each.lag) for each in its] for its in lag],
        }

    async def exists(self, topic: str) -> bool:
        try:
            await self.transport.ends(self.named(topic))
        except TopicMissingError:
            return False
        return True

    async def close(self) -> None:
        for name in list(self.members):
            await self.leave(name)


def told(record: ConsumerRecord) -> tuple[Any, ...]:
    return record.topic, record.partition, record.offset, record.key, record.value, str(record.headers)


def unread(log: MemoryLog, side: LogSide) -> Callable[[str], int]:
    """How much a member of the log in memory has still to read: as much as the other one's."""

    def count(name: str) -> int:
        consumer = side.members[name][1]
        assert isinstance(consumer, MemoryConsumer)
        return sum(len(log.slice(*place, at, 1_000)) for place, at in consumer.positions.items())

    return count


def history(seed: int, length: int = 20) -> list[Step]:
    """A random history of a log, as good as any other of its seed."""
    rng = Random(seed)
    return [("create", topic, PARTITIONS[topic]) for topic in TOPICS] + [_step(rng) for _ in range(length)]


def _step(rng: Random) -> Step:
    pick = rng.choice
    topics, member = pick((TOPICS, ("a",), ("b",))), pick(MEMBERS)
    steps: Mapping[str, Callable[[], Step]] = {
        "create": lambda: (pick(("a", "c")), pick((1, 4))),
        "append": lambda: (pick((topics, ("c",))), rng.sample("pqrst", pick((1, 3))), rng.randrange(100)),
        "read": lambda: (pick((*TOPICS, "c")), pick((0, 1, 9)), pick((0, 1, 3)), pick((1, 10))),
        "claim": lambda: (pick((1, 2)), topics, rng.random() < 0.3),
        "join": lambda: (member, pick(("g", "g", "h")), pick((topics, TOPICS))),
        "leave": lambda: (member,),
        "poll": lambda: (member,),
        "commit": lambda: (member, pick((1, 2, 100))),
        "expire": tuple,
        "state": tuple,
    }
    weights = (1, 8, 2, 2, 5, 2, 6, 5, 1, 3)
    name = rng.choices(list(steps), weights)[0]
    return (name, *steps[name]())


Sides = Callable[[], Awaitable[tuple[LogSide, LogSide]]]


async def difference(steps: Sequence[Step], fresh: Sides) -> Difference | None:
    """The first step that the two sides answer otherwise, or after which they stand otherwise for good."""
    memory, postgres = await fresh()
    try:
        for n, step in enumerate([*steps, ("state",)], 1):
            wanted = {name: memory.unread(name) for name in memory.members}
            one = await memory.take(step)
            postgres.unread = wanted.__getitem__
            other = await postgres.take(step)
            if one == other:
                one, other = await standing(memory, postgres)
            if one != other:
                return Difference([*steps, ("state",)][:n], one, other)
    finally:
        await memory.close()
        await postgres.close()
    return None


async def standing(memory: LogSide, postgres: LogSide) -> tuple[Any, Any]:
    """A group deals its partitions, and writes what is committed, when its members get to it."""

    async def same() -> bool:
        return memory.assignments() == postgres.assignments() and await memory.state() == await postgres.state()

    with suppress(AssertionError):
        await eventually(same, timeout_s=10)
    return (memory.assignments(), await memory.state()), (postgres.assignments(), await postgres.state())
