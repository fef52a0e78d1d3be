"""Cases of the log in PostgreSQL: appends, groups, upkeep, claims."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, ClassVar
from uuid import UUID

import asyncpg

from orderflow.core.identity import Partitioner
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres_log import PostgresLogTransport, migrate
from orderflow.core.postgres_log.consumer import Membership
from orderflow.core.postgres_log.link import LogSession
from orderflow.core.postgres_log.records import Topic
from orderflow.core.transport import (
    POLL_BYTES_MAX,
    Claim,
    ClaimedError,
    ConsumerRecord,
    ProducerRecord,
    TopicSettings,
    TransportUnavailableError,
)
from tests.schedules.explore import Case, Part
from tests.schedules.turns import CLOCK, OWNERS

PACKAGE = "orderflow.core.postgres_log"
TOPIC = "topic"
GROUP = "group"
PARTITIONS = 2
SESSION_S = 3_600.0
EMPTY = """
DELETE FROM group_offsets; DELETE FROM group_members; UPDATE groups SET generation = 0; DELETE FROM records;
UPDATE partitions SET first_offset = 0, next_offset = 0 WHERE next_offset > 0;
UPDATE segments SET opened_at = NULL, closed_at = NULL WHERE segment > 0 AND opened_at IS NOT NULL;
UPDATE segments SET opened_at = clock_timestamp(), closed_at = NULL WHERE segment = 0;
"""
WATCH = """
CREATE TABLE seen (n bigserial, pid integer, partition_id integer, before bigint, after bigint, owner uuid,
                   generation bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen (pid, partition_id, before, after, owner, generation)
    VALUES (pg_backend_pid(), NEW.partition_id, OLD.committed, NEW.committed, NEW.owner, NEW.owner_generation);
    RETURN NULL;
END $$;
CREATE TRIGGER see AFTER UPDATE ON group_offsets FOR EACH ROW EXECUTE FUNCTION see();
"""


class LogCase(Case):
    """Clients of one log with one topic."""

    clients: ClassVar[int] = 3

    def __init__(self) -> None:
        self.own: Any = None
        self.clock: Any = None
        self.logs: list[PostgresLogTransport] = []

    async def open(self, url: str) -> None:
        await migrate(url)
        self.url = url
        self.own = await asyncpg.connect(url)
        self.clock = await asyncpg.connect(url)
        for _ in range(self.clients):
            self.logs.append(await PostgresLogTransport.connect(url, rng=Random(1), maintenance_every_s=1e9))
        await self.logs[0].create_topics([TopicSettings(TOPIC, PARTITIONS)])
        for log in self.logs:
            await log.ends([TOPIC])

    async def begin(self, rng: Random) -> Mapping[str, Part]:
        await self.own.execute(EMPTY)
        return await self.actors(rng)

    async def actors(self, rng: Random) -> Mapping[str, Part]:
        raise NotImplementedError

    async def close(self) -> None:
        for log in self.logs:
            await log.close()
        for session in (self.clock, self.own):
            if session is not None:
                await session.close()

    async def without_gaps(self) -> AsyncIterator[str]:
        """Each partition has what its counter says, from the first offset that is kept."""
        for topic, bounds in (await self.logs[0].ends([TOPIC])).items():
            first, end = bounds
            kept = [record.offset for record in await self.logs[0].read(*topic, 0, 1_000)]
            if kept != list(range(first, end)):
                yield f"{topic} goes from {first} to {end}, and there are {kept}"


class Appends(LogCase):
    """Two appenders that name the partitions in opposite order, and a reader."""

    name = "appends"
    about = "two appenders name the partitions in opposite order while a reader follows: no gap, no reader past one"
    stops = ("partitions",)

    async def actors(self, rng: Random) -> Mapping[str, Part]:
        self.read: defaultdict[int, list[int]] = defaultdict(list)
        size = rng.randint(1, 2)

        def appending(log: PostgresLogTransport, name: str, order: Sequence[int]) -> Part:
            async def append() -> None:
                for n in range(size):
                    await again(log, [record(f"{name}{n}{partition}", partition) for partition in order])

            return append

        async def reading() -> None:
            for _ in range(3):
                for number in range(PARTITIONS):
                    at = self.read[number][-1] + 1 if self.read[number] else 0
                    records = await self.logs[2].read(TOPIC, number, at, 10)
                    self.read[number] += [each.offset for each in records]

        return {
            "a": appending(self.logs[0], "a", (0, 1)),
            "b": appending(self.logs[1], "b", (1, 0)),
            "reader": reading,
        }

    async def check(self) -> AsyncIterator[str]:
        async for each in self.without_gaps():
            yield each
        for number, offsets in self.read.items():
            if offsets != list(range(len(offsets))):
                yield f"of partition {number} the reader has seen {offsets}: it has passed what came later"
        for number in range(PARTITIONS):
            values = [each.value for each in await self.logs[0].read(TOPIC, number, 0, 1_000)]
            for name in (b"a", b"b"):
                its = list(dict.fromkeys(value for value in values if value and value.startswith(name)))
                if its != sorted(its):
                    yield f"{name!r} has appended to {number} in order, and there stands {its}"


class AppendsThatAreLost(Appends):
    name = "appends-cut"
    about = "the same with answers lost, and appended again: in order of the first time"
    cuts = 1


async def again(log: PostgresLogTransport, records: Sequence[ProducerRecord]) -> None:
    """As a relay does it: until it is acknowledged."""
    while True:
        try:
            return await log.append(records)
        except TransportUnavailableError:
            """All of it again."""


class Member:
    """A member that handles what it is given, and what it believes to hold."""

    def __init__(self, case: Groups, name: str, link: LogSession) -> None:
        self._case = case
        self._link = link
        self.name = name
        self.stays = True
        self.membership = Membership(link, case.queries, GROUP, [case.topic], SESSION_S, link.listen)

    async def renew(self) -> None:
        await self.membership.renew()
        for holding in self.membership.holdings.values():
            known = self._case.holders.setdefault((holding.partition_id, holding.generation), self.name)
            if known != self.name:
                self._case.problems.append(
                    f"partition {holding.partition_id} in generation {holding.generation}: {known} and {self.name}"
                )

    async def handle(self, order: int) -> None:
        """Take some records of each partition and commit them."""
        taken = []
        for holding in sorted(self.membership.holdings.values(), key=lambda each: order * each.partition_id):
            asked = [holding.partition_id], [holding.position], 2, POLL_BYTES_MAX
            offsets = [row["offset"] for row in await self._link.fetch(self._case.queries["fetch"], *asked)]
            self._case.handled[holding.place[1]].update(offsets)
            if offsets:
                holding.position = offsets[-1] + 1
                taken.append(ConsumerRecord(*holding.place, offsets[-1], None, None))
        self.membership.note(taken)
        await self.membership.renew()


class Groups(LogCase):
    """Members join, commit, leave, stand still and are put out."""

    name = "groups"
    about = "members join, commit, leave and are put out: a fenced one commits nothing, each partition has one owner"
    clients = 2
    members: ClassVar[int] = 2
    cuts = 0

    async def open(self, url: str) -> None:
        await super().open(url)
        self.queries = load_queries(PACKAGE)
        await self.own.execute(WATCH)
        self.links = [LogSession(url, timeout_s=30) for _ in range(self.members + 1)]
        [row] = await self.own.fetch(self.queries["topics"])
        self.topic = Topic(row["topic_id"], row["name"], tuple(row["partition_ids"]))

    async def close(self) -> None:
        for link in self.links:
            await link.close()
        await super().close()

    async def actors(self, rng: Random) -> Mapping[str, Part]:
        await self.own.execute("DELETE FROM seen")
        self.problems: list[str] = []
        self.holders: dict[tuple[int, int], str] = {}
        self.handled: defaultdict[int, set[int]] = defaultdict(set)
        await self.logs[1].append([record(f"{n}", n % PARTITIONS) for n in range(4 * PARTITIONS)])
        names = ["first", "second", "third"][: self.members]
        self.alive = [Member(self, name, link) for name, link in zip(names, self.links, strict=False)]
        await self.alive[0].renew()
        parts = {
            member.name: self.living(member, rng.randint(1, 2), rng.choice((1, -1)), rng.random() < 0.3)
            for member in self.alive
        }
        return {**parts, CLOCK: self.time_passes}

    def living(self, member: Member, rounds: int, order: int, leaves: bool) -> Part:
        async def live() -> None:
            member.stays = False
            for _ in range(rounds):
                with suppress(TransportUnavailableError):
                    await member.renew()
                    await member.handle(order)
            if leaves:
                await member.membership.leave()
            member.stays = not leaves

        return live

    async def time_passes(self) -> None:
        """So long that the first member's lease has run out, unless it renews it."""
        await self.clock.execute(
            "UPDATE group_members SET expires_at = clock_timestamp() - interval '1 s'"
            " WHERE member = (SELECT member FROM group_members ORDER BY joined_at LIMIT 1)"
        )

    async def check(self) -> AsyncIterator[str]:
        for problem in self.problems:
            yield problem
        for row in await self.own.fetch("SELECT * FROM seen ORDER BY n"):
            if row["after"] < row["before"]:
                yield f"partition {row['partition_id']} went back from {row['before']} to {row['after']}"
            if row["after"] > row["before"]:
                name = OWNERS.get(row["pid"], "")
                if self.holders.get((row["partition_id"], row["generation"])) not in (None, name):
                    yield f"{name} has committed partition {row['partition_id']}, which was not its own any more"
        committed = {each.partition: each.committed or 0 for each in await self.logs[0].lag(GROUP, [TOPIC])}
        for number, offset in committed.items():
            if skipped := set(range(offset)) - self.handled[number]:
                yield f"partition {number} is committed up to {offset}, and nobody has handled {sorted(skipped)}"
        async for each in self.settled_down():
            yield each

    async def settled_down(self) -> AsyncIterator[str]:
        """When all have renewed until nothing changes, they hold every partition, each of them once."""
        member = Member(self, "last", self.links[-1])
        await member.membership.renew()
        alive = [*(each for each in self.alive if each.stays), member]
        for _ in range(4):
            for each in alive:
                await each.membership.renew()
        here = await self.own.fetchval("SELECT count(*) FROM group_members")
        if here != len(alive):
            yield f"{len(alive)} members live, and the group has {here}"
        held = sorted(place for each in alive for place in each.membership.places())
        if held != [(TOPIC, number) for number in range(PARTITIONS)]:
            yield f"held are {held}"
        for each in alive:
            await each.membership.leave()


class GroupsInside(Groups):
    """The same, with statements that stop while they lock row after row."""

    name = "groups-inside"
    about = "the same, with statements that stop at each row that they lock: none waits for another for ever"
    stops = ("group_offsets",)


class GroupsThatDie(Groups):
    name = "groups-cut"
    about = "the same with sessions and processes lost"
    members = 3
    cuts = 2


class Upkeep(LogCase):
    """The log's own upkeep, days later, among an appender and a reader."""

    name = "upkeep"
    about = "segments are closed and emptied among appends and reads: only what has expired is gone"
    stops = ("segments", "partitions")
    in_suite = 100

    async def actors(self, rng: Random) -> Mapping[str, Part]:
        self.read: list[int] = []
        for _ in range(rng.randint(0, 1)):
            await self.logs[0].append([record("oldest", 0)])
            await self.own.execute(AGE, 2)
            await self.logs[0].drop_expired()
        await self.logs[0].append([record("old", 0)])

        async def appending() -> None:
            for n in range(2):
                await again(self.logs[0], [record(f"new{n}", 0)])

        async def upkeep() -> None:
            await self.logs[1].drop_expired()
            await self.clock.execute(AGE, 8)
            await self.logs[1].drop_expired()

        async def reading() -> None:
            for _ in range(3):
                at = self.read[-1] + 1 if self.read else 0
                self.read += [each.offset for each in await self.logs[2].read(TOPIC, 0, at, 10)]

        await self.own.execute(AGE, 2)
        return {"appender": appending, "upkeep": upkeep, "reader": reading}

    async def check(self) -> AsyncIterator[str]:
        async for each in self.without_gaps():
            yield each
        lost = set(range(self.read[0], self.read[-1] + 1)) - set(self.read) if self.read else set()
        ends = await self.logs[0].ends([TOPIC])
        if any(offset >= ends[TOPIC, 0][0] for offset in lost):
            yield f"the reader has seen {self.read}, and what it has not is kept"


AGE = """
UPDATE segments SET opened_at = opened_at - $1 * interval '1 day', closed_at = closed_at - $1 * interval '1 day'
WHERE opened_at IS NOT NULL
"""


class Claims(LogCase):
    """Two installations claim what overlaps, in opposite order."""

    name = "claims"
    about = "two installations claim what overlaps, in opposite order: one gets all that it asked for"
    stops = ("claims",)

    async def actors(self, rng: Random) -> Mapping[str, Part]:
        await self.own.execute("DELETE FROM claims")
        self.refused: list[int] = []

        def claiming(number: int, topics: Sequence[str]) -> Part:
            async def claim() -> None:
                try:
                    await self.logs[number].claim(Claim(UUID(int=number), topics))
                except ClaimedError:
                    self.refused.append(number)

            return claim

        return {"a": claiming(0, ["x", "y", "z"]), "b": claiming(1, ["z", "y", "w"])}

    async def check(self) -> AsyncIterator[str]:
        owned: defaultdict[int, set[str]] = defaultdict(set)
        for row in await self.own.fetch("SELECT name, owner FROM claims"):
            owned[row["owner"].int].add(row["name"])
        got = [number for number in (0, 1) if number not in self.refused]
        if len(got) != 1 or set(owned) != set(got) or len(owned[got[0]]) != 3:
            yield f"refused were {self.refused}, and the claims are {dict(owned)}"


def record(value: str, partition: int) -> ProducerRecord:
    return ProducerRecord(TOPIC, KEYS[partition], value.encode())


def _keys() -> Mapping[int, bytes]:
    """A key for each partition."""
    partitioner = Partitioner(Random(1))
    return {partitioner.partition(key, PARTITIONS): key for key in (f"k{n}".encode() for n in range(20))}


KEYS = _keys()
CASES: Sequence[type[Case]] = (
    Appends,
    AppendsThatAreLost,
    Groups,
    GroupsInside,
    GroupsThatDie,
    Upkeep,
    Claims,
)
