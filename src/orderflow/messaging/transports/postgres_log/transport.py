"""The transport port over a log kept in PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from orderflow.messaging.clock import system_random
from orderflow.messaging.partitioner import Partitioner
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.transport import (
    Claim,
    ClaimedError,
    ConsumerRecord,
    PartitionLag,
    ProducerRecord,
    TopicMissingError,
    TopicSettings,
    TransportUnavailableError,
)
from orderflow.messaging.transports.limits import POLL_BYTES_MAX, refuse_oversized
from orderflow.messaging.transports.postgres_log.append import arrays
from orderflow.messaging.transports.postgres_log.consumer import PostgresLogConsumer
from orderflow.messaging.transports.postgres_log.headers import HeaderCodec
from orderflow.messaging.transports.postgres_log.link import Link
from orderflow.messaging.transports.postgres_log.topics import Topics

PACKAGE = "orderflow.messaging.transports.postgres_log"
MAINTENANCE_EVERY_S = 300.0


class PostgresLogTransport:
    """Appends over one connection and asks over another, so that no question waits behind an append that is held up;
    every consumer has one of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        chance: random.Random,
        session_timeout_s: float,
        timeout_s: float,
        maintenance_every_s: float,
        writable: bool,
    ) -> None:
        self._url = url
        self._session_timeout_s = session_timeout_s
        self._timeout_s = timeout_s
        self._maintenance_every_s = maintenance_every_s
        self._queries = load_queries(PACKAGE)
        self._partitioner = Partitioner(chance)
        self._codec = HeaderCodec()
        self._link = Link(url, timeout_s=timeout_s, settings={"synchronous_commit": "on"}, writable=writable)
        self._questions = Link(url, timeout_s=timeout_s, writable=writable)
        self._topics = Topics(self._link, self._queries)
        self._consumers: list[PostgresLogConsumer] = []
        self._maintenance: asyncio.Task[None] | None = None
        self._upkeep_problem = ""

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        chance: random.Random | None = None,
        session_timeout_s: float = 10.0,
        timeout_s: float = 10.0,
        maintenance_every_s: float = MAINTENANCE_EVERY_S,
        writable: bool = True,
    ) -> PostgresLogTransport:
        """Ready at once: the database is asked when there is something to ask (`ping` does).

        `session_timeout_s`: after so long without a heartbeat a member is put out of its group. `timeout_s`:
        how long any one statement may take. Not `writable`: who only reads is served by a server that is read-only.
        """
        transport = cls(
            url,
            chance=chance or system_random(),
            session_timeout_s=session_timeout_s,
            timeout_s=timeout_s,
            maintenance_every_s=maintenance_every_s,
            writable=writable,
        )
        transport._maintenance = asyncio.create_task(transport._maintain(), name="postgres-log-maintenance")
        return transport

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        if not records:
            return
        refuse_oversized(records)
        topics = await self._topics.get({record.topic for record in records})
        arguments = arrays(records, topics, self._partitioner, self._codec)
        await self._link.fetch(self._queries["append"], *arguments)

    async def subscribe(self, group: str, topics: Sequence[str]) -> PostgresLogConsumer:
        known = await self._topics.get(topics)
        consumer = PostgresLogConsumer(
            self._url,
            self._queries,
            group,
            [known[name] for name in topics],
            session_timeout_s=self._session_timeout_s,
            timeout_s=self._timeout_s,
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
        rows = await self._questions.fetch(self._queries["fetch"], [ids[partition]], [offset], limit, POLL_BYTES_MAX)
        decode = self._codec.decode
        return [
            ConsumerRecord(topic, partition, at, key, value, decode(headers), at_ms)
            for _, at, at_ms, key, value, headers, _ in rows
        ]

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], tuple[int, int]]:
        await self._topics.get(topics)
        rows = await self._questions.fetch(self._queries["ends"], list(topics))
        return {(topic, partition): (first, end) for topic, partition, first, end in rows}

    async def lag(self, group: str, topics: Sequence[str]) -> Sequence[PartitionLag]:
        await self._topics.get(topics)
        rows = await self._questions.fetch(self._queries["lag"], group, list(topics))
        return [PartitionLag(*row) for row in rows]

    async def ping(self) -> None:
        await self._questions.fetch(self._queries["ping"])
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
        if self._maintenance is not None:
            self._maintenance.cancel()
            await asyncio.wait({self._maintenance})
        await asyncio.gather(*(consumer.close() for consumer in self._consumers))
        await asyncio.gather(self._link.close(), self._questions.close())

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
