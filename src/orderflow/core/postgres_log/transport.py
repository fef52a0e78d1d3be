"""The transport port over a log kept in PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress

from orderflow.core.identity import Partitioner
from orderflow.core.postgres import schema
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.schema import Applied, MigrationSequence
from orderflow.core.postgres.sessions import require_no_lock_wait
from orderflow.core.postgres_log.consumer import PostgresLogConsumer
from orderflow.core.postgres_log.doorbell import Bells, Doorbell
from orderflow.core.postgres_log.link import LogSession, NoticeListener, translated
from orderflow.core.postgres_log.records import RecordCodec, Topic
from orderflow.core.timing import system_random
from orderflow.core.transport import (
    POLL_BYTES_MAX,
    Claim,
    ClaimedError,
    ConsumerRecord,
    PartitionLag,
    ProducerRecord,
    TopicMissingError,
    TopicSettings,
    TransportUnavailableError,
    refuse_oversized,
)

PACKAGE = "orderflow.core.postgres_log"
MAINTENANCE_EVERY_S = 300.0

MEMBER_SETTINGS = {"synchronous_commit": "off"}
"""What a crash of the server takes back of a member (an offset, a lease) only causes a redelivery."""


def log_migrations() -> MigrationSequence:
    return MigrationSequence.from_package("log", PACKAGE)


async def migrate(url: str) -> list[Applied]:
    """Bring the log's database to this release. Raises StoreUnavailableError, SchemaBehindError."""
    return await schema.migrate(url, [log_migrations()])


async def check(url: str) -> None:
    """Raises SchemaBehindError when `migrate` has not been run, StoreUnavailableError."""
    await schema.check(url, [log_migrations()])


class Topics:
    """A cache: topics are never removed, and never change their partitions."""

    def __init__(self, link: LogSession, queries: Mapping[str, str]) -> None:
        self._link = link
        self._queries = queries
        self._known: dict[str, Topic] = {}

    async def get(self, names: Iterable[str]) -> Mapping[str, Topic]:
        """All topics known, `names` among them. Raises TopicMissingError, TransportUnavailableError."""
        if not self._known.keys() >= (wanted := set(names)):
            rows = await self._link.fetch(self._queries["topics"])
            self._known = {
                row["name"]: Topic(row["topic_id"], row["name"], tuple(row["partition_ids"])) for row in rows
            }
            missing = sorted(wanted - self._known.keys())
            if missing:
                raise TopicMissingError(", ".join(missing))
        return self._known


class PostgresLogTransport:
    """Appends over one connection; listens, reads and asks over another, so that no question waits behind an append
    that is held up; the lease and the offsets of every consumer have one of their own, which a lock may hold up.
    """

    def __init__(
        self,
        url: str,
        *,
        rng: random.Random,
        session_timeout_s: float,
        timeout_s: float,
        maintenance_every_s: float,
        writable: bool,
        rings: bool,
    ) -> None:
        self._url = url
        self._session_timeout_s = session_timeout_s
        self._timeout_s = timeout_s
        self._maintenance_every_s = maintenance_every_s
        self._queries = load_queries(PACKAGE)
        self._partitioner = Partitioner(rng)
        self._codec = RecordCodec()
        self._link = LogSession(url, timeout_s=timeout_s, settings={"synchronous_commit": "on"}, writable=writable)
        self._reader = NoticeListener(url, self._queries, timeout_s=timeout_s, writable=writable)
        self._rings = rings
        self._doorbell = Doorbell(self._reader.tell)
        self._bells = Bells(self._doorbell, self._reader.tell)
        self._topics = Topics(self._link, self._queries)
        self._consumers: list[PostgresLogConsumer] = []
        self._maintenance: asyncio.Task[None] | None = None
        self._upkeep_problem = ""

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        rng: random.Random | None = None,
        session_timeout_s: float = 10.0,
        timeout_s: float = 10.0,
        maintenance_every_s: float = MAINTENANCE_EVERY_S,
        writable: bool = True,
        rings: bool = True,
    ) -> PostgresLogTransport:
        """Ready at once: the database is asked when there is something to ask (`ping` does).

        `session_timeout_s`: after so long without a heartbeat a member is put out of its group. `timeout_s`:
        how long any one statement may take. Not `writable`: who only reads is served by a server that is read-only.
        Not `rings`: as if all others were on other machines, which PostgreSQL notifies.
        """
        transport = cls(
            url,
            rng=rng or system_random(),
            session_timeout_s=session_timeout_s,
            timeout_s=timeout_s,
            maintenance_every_s=maintenance_every_s,
            writable=writable,
            rings=rings,
        )
        transport._maintenance = asyncio.create_task(transport._maintain(), name="postgres-log-maintenance")
        return transport

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        if not records:
            return
        refuse_oversized(records)
        topics = await self._topics.get({record.topic for record in records})
        batch = self._codec.batch(records, topics, self._partitioner)
        reached = self._bells.reached if self._rings else []
        ((at_ms, bases, doorbells, seats),) = await self._link.fetch(
            self._queries["append"], *batch.arguments, reached
        )
        if self._rings and doorbells:
            await self._ring(batch.told(at_ms, bases, zip(doorbells, seats, strict=True)), set(reached))

    async def _ring(self, notices: Iterable[tuple[str, str, str]], reached: Container[str]) -> None:
        """Tell those whom the server has not notified. Who cannot be told any more is notified after all."""
        missed: set[str] = set()
        strangers: set[str] = set()
        for doorbell, channel, payload in notices:
            if doorbell not in reached:
                strangers.add(doorbell)
            elif not self._bells.ring(doorbell, channel, payload):
                missed.add(channel)
        self._bells.meet(strangers)
        if missed:
            with suppress(TransportUnavailableError):
                await self._link.fetch(self._queries["notify"], sorted(missed))

    async def subscribe(self, group: str, topics: Sequence[str]) -> PostgresLogConsumer:
        known = await self._topics.get(topics)
        if self._rings:
            self._doorbell.open()
        consumer = PostgresLogConsumer(
            LogSession(self._url, timeout_s=self._timeout_s, settings=MEMBER_SETTINGS),
            self._reader,
            self._queries,
            group,
            [known[name] for name in topics],
            session_timeout_s=self._session_timeout_s,
            doorbell=self._doorbell.name,
        )
        await consumer.start()
        self._consumers.append(consumer)
        return consumer

    async def create_topics(self, topics: Sequence[TopicSettings]) -> None:
        await self._link.fetch(
            self._queries["create_topics"],
            [topic.name for topic in topics],
            [topic.partitions for topic in topics],
            [topic.retention_ms for topic in topics],
        )

    async def claim(self, claim: Claim) -> None:
        rows = await self._link.fetch(
            self._queries["claim"], claim.register, claim.owner, claim.names, claim.takes_over
        )
        if rows:
            raise ClaimedError({row["name"]: row["owner"] for row in rows})

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        ids = (await self._topics.get([topic]))[topic].partition_ids
        if not 0 <= partition < len(ids):
            raise TopicMissingError(f"{topic} has no partition {partition}")
        rows = await self._reader.fetch(self._queries["fetch"], [ids[partition]], [offset], limit, POLL_BYTES_MAX)
        return self._codec.records((topic, partition), rows)

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], tuple[int, int]]:
        await self._topics.get(topics)
        rows = await self._reader.fetch(self._queries["ends"], list(topics))
        return {(topic, partition): (first, end) for topic, partition, first, end in rows}

    async def lag(self, group: str, topics: Sequence[str]) -> Sequence[PartitionLag]:
        await self._topics.get(topics)
        rows = await self._reader.fetch(self._queries["lag"], group, list(topics))
        return [PartitionLag(*row) for row in rows]

    async def ping(self) -> None:
        await self._reader.ping()
        with translated():
            await require_no_lock_wait(self._reader.fetch)
        if self._upkeep_problem:
            raise TransportUnavailableError(self._upkeep_problem)

    async def drop_expired(self) -> int:
        """Drop records that have outlived the longest retention of any topic; returns the segments emptied.

        Done by itself every `maintenance_every_s`. Raises TransportUnavailableError.
        """
        await self._link.fetch(self._queries["rotate_segments"])
        emptied: int = await self._link.value(self._queries["truncate_expired"])
        return emptied

    async def close(self) -> None:
        async with AsyncExitStack() as parts:
            parts.push_async_callback(self._link.close)
            parts.push_async_callback(self._reader.close)
            parts.callback(self._doorbell.close)
            parts.callback(self._bells.close)
            if self._maintenance is not None:
                self._maintenance.cancel()
                await asyncio.wait({self._maintenance})
            await asyncio.gather(*(consumer.close() for consumer in self._consumers))

    async def _maintain(self) -> None:
        while True:
            await asyncio.sleep(self._maintenance_every_s)
            try:
                await self.drop_expired()
                self._upkeep_problem = ""
            except TransportUnavailableError:
                """The next round does what this one could not."""
            except Exception as error:  # noqa: BLE001  # dead upkeep would be a log that grows without a word
                self._upkeep_problem = f"log upkeep: {type(error).__name__}: {error}; until it works the log grows"
