"""The three transports, as one suite drives them: clients, members that die or stall, outages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from orderflow.core.postgres_log import PostgresLogTransport
from orderflow.core.testing import MemoryConsumer, MemoryLog, MemoryTransport
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ConsumerRecord, Transport
from tests.support.kafka import KafkaServer
from tests.support.member import Position, ProcessMember, connect
from tests.support.postgres import PostgresServer, age_segments

FOR_EVER_S = 1_200.0


class Member(Protocol):
    """A group member in another process, or what memory has for one."""

    async def poll(self, max_records: int) -> list[Position]: ...

    async def commit(self) -> None: ...

    def stall(self) -> None: ...

    def resume(self) -> None: ...

    async def kill(self) -> None: ...


class Harness(Protocol):
    """One kind of log. A member that is dead or stalls is put out after `session_timeout_s`."""

    session_timeout_s: float

    async def connect(self, *, hasty: bool = False) -> Transport:
        """A client; one that is `hasty` soon gives up who does not answer."""
        ...

    async def member(self, group: str, topics: Sequence[str]) -> Member: ...

    def keep_sessions(self) -> None:
        """No member that connects from now on is put out while a test runs.

        Not on Kafka, where members hear of each other by their heartbeats: three in a session, however long it is.
        """
        ...

    def take_away(self) -> None:
        """The server crashes."""
        ...

    def bring_back(self) -> None: ...

    async def expire(self, topic: str) -> None:
        """Every record that the topic has now outlives its retention, and is dropped. For logs of one topic."""
        ...

    async def close(self) -> None: ...


class MemoryMember:
    def __init__(self, consumer: MemoryConsumer) -> None:
        self._consumer = consumer
        self._records: Sequence[ConsumerRecord] = ()

    async def poll(self, max_records: int) -> list[Position]:
        self._records = await self._consumer.poll(max_records)
        return [(record.topic, record.partition, record.offset) for record in self._records]

    async def commit(self) -> None:
        await self._consumer.commit(self._records)

    def stall(self) -> None:
        self._consumer.stop_heartbeats()

    def resume(self) -> None:
        pass

    async def kill(self) -> None:
        self._consumer.stop_heartbeats()


class MemoryHarness:
    session_timeout_s = 0.3

    def __init__(self) -> None:
        self._log = MemoryLog(SystemClock(), random.Random(1), session_timeout_s=self.session_timeout_s)
        self._transports: list[MemoryTransport] = []

    async def connect(self, *, hasty: bool = False) -> Transport:
        return self._connect()

    async def member(self, group: str, topics: Sequence[str]) -> Member:
        return MemoryMember(await self._connect().subscribe(group, topics))

    def keep_sessions(self) -> None:
        self._log.session_timeout_s = FOR_EVER_S

    def take_away(self) -> None:
        self._log.reachable = False

    def bring_back(self) -> None:
        self._log.reachable = True

    async def expire(self, topic: str) -> None:
        self._log.expire(topic)

    async def close(self) -> None:
        for transport in self._transports:
            await transport.close()

    def _connect(self) -> MemoryTransport:
        transport = MemoryTransport(self._log)
        self._transports.append(transport)
        return transport


class ServerHarness:
    """A log behind a socket."""

    def __init__(
        self, kind: str, address: str, session_timeout_s: float, server: PostgresServer | KafkaServer
    ) -> None:
        self.session_timeout_s = session_timeout_s
        self._kind = kind
        self._address = address
        self._server = server
        self._transports: list[Transport] = []
        self._members: list[ProcessMember] = []

    async def connect(self, *, hasty: bool = False) -> Transport:
        transport = await connect(self._kind, self._address, self.session_timeout_s, hasty=hasty)
        self._transports.append(transport)
        return transport

    async def member(self, group: str, topics: Sequence[str]) -> Member:
        member = await ProcessMember.start(self._kind, self._address, self.session_timeout_s, group, topics)
        self._members.append(member)
        return member

    def keep_sessions(self) -> None:
        if isinstance(self._server, PostgresServer):
            self.session_timeout_s = FOR_EVER_S

    def take_away(self) -> None:
        self._server.crash()

    def bring_back(self) -> None:
        self._server.start()

    async def expire(self, topic: str) -> None:
        transport = await self.connect()
        ends = {place: end for place, (_, end) in (await transport.ends([topic])).items()}
        if isinstance(self._server, KafkaServer):
            await asyncio.to_thread(self._server.drop_records, ends)
            return
        assert isinstance(transport, PostgresLogTransport)
        for days in (2, 8):
            age_segments(self._server, self._address, days)
            await transport.drop_expired()

    async def close(self) -> None:
        for member in self._members:
            with suppress(ProcessLookupError):
                await member.kill()
        await asyncio.gather(*(transport.close() for transport in self._transports))
