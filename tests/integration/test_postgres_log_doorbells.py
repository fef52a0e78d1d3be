"""Appenders ring the members of their own machine; PostgreSQL notifies whoever is not reached so."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from orderflow.core.postgres_log import PostgresLogTransport, doorbell, migrate
from orderflow.core.postgres_log.doorbell import Bells, Doorbell
from orderflow.core.transport import TopicSettings
from tests.support.locks import waits_for_a_lock
from tests.support.member import ProcessMember
from tests.support.postgres import PostgresServer
from tests.support.records import numbered, numbers, take
from tests.support.waiting import eventually

TOPIC = "topic"
LONG_S = 600.0
"""So long a session that no renewal of a lease finds records that nobody was told of."""


class Log:
    """The log, and all that PostgreSQL says on its channel."""

    def __init__(self, postgres: PostgresServer, url: str, listener: asyncpg.Connection[asyncpg.Record]) -> None:
        self.postgres = postgres
        self.url = url
        self.said: list[str] = []
        self.listener = listener
        self.transports: list[PostgresLogTransport] = []

    async def connect(self, *, rings: bool = True) -> PostgresLogTransport:
        transport = await PostgresLogTransport.connect(self.url, session_timeout_s=LONG_S, rings=rings)
        self.transports.append(transport)
        return transport

    async def heard(self) -> list[str]:
        """What was said until now: a word of our own comes after it."""
        done = asyncio.Event()
        await self.listener.add_listener("done", lambda *_: done.set())
        await self.listener.execute("NOTIFY done")
        await asyncio.wait_for(done.wait(), 30)
        return list(self.said)


@pytest.fixture
async def log(postgres: PostgresServer, database_url: str) -> AsyncIterator[Log]:
    await migrate(database_url)
    listener = await asyncpg.connect(database_url)
    made = Log(postgres, database_url, listener)
    transport = await made.connect()
    await transport.create_topics([TopicSettings(TOPIC, 1)])
    channel = await listener.fetchval("SELECT 'r' || id FROM topics")
    await listener.add_listener(channel, lambda _connection, _pid, _channel, payload: made.said.append(payload))
    yield made
    await asyncio.gather(*(each.close() for each in made.transports))
    await listener.close()


async def test_a_member_of_this_machine_is_rung_and_postgres_says_nothing(log: Log) -> None:
    consumer = await (await log.connect()).subscribe("group", [TOPIC])
    appender = log.transports[0]
    await appender.append(numbered(TOPIC, 1))
    assert numbers(await take(consumer, 1)) == [0]
    assert len(await log.heard()) == 1, "the first append does not know the member yet"
    await take(consumer, await until_rung(log, appender))
    before = await log.heard()

    await appender.append(numbered(TOPIC, 2, start=1))

    assert numbers(await take(consumer, 2)) == [1, 2]
    assert await log.heard() == before


async def test_a_member_of_the_appender_s_own_process_is_told_without_a_socket(log: Log) -> None:
    appender = log.transports[0]
    consumer = await appender.subscribe("group", [TOPIC])

    await appender.append(numbered(TOPIC, 3))

    assert numbers(await take(consumer, 3)) == [0, 1, 2]
    assert await log.heard() == []


async def test_what_nobody_reads_is_said_to_nobody(log: Log) -> None:
    await log.transports[0].append(numbered(TOPIC, 3))

    assert await log.heard() == []


@pytest.mark.parametrize("apart", ["appender", "member"])
async def test_a_member_of_another_machine_is_notified(log: Log, apart: str) -> None:
    """Also beside one of this machine, which is rung."""
    near = await log.transports[0].subscribe("near", [TOPIC])
    far = await (await log.connect(rings=apart != "member")).subscribe("far", [TOPIC])
    appender = await log.connect(rings=apart != "appender")

    for start in range(3):
        await appender.append(numbered(TOPIC, 1, start=start))
        assert numbers(await take(far, 1)) == [start]
        assert numbers(await take(near, 1)) == [start]

    assert len(await log.heard()) == 3


async def test_who_dies_during_an_append_is_named_to_all_others_by_the_server(log: Log) -> None:
    appender = log.transports[0]
    member = await ProcessMember.start("postgres-log", log.url, LONG_S, "group", [TOPIC])
    await until_rung(log, appender)
    before = len(await log.heard())
    async with log.listener.transaction():
        await log.listener.execute("LOCK TABLE records IN EXCLUSIVE MODE")
        appending = asyncio.ensure_future(appender.append(numbered(TOPIC, 1)))
        await eventually(lambda: waits_for_a_lock(log.postgres, log.url))
        await member.kill()
    await appending

    assert (await log.heard())[before:] == [""]


async def test_a_process_that_stands_still_is_given_up_and_finds_all_when_it_goes_on(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "UNREAD_MAX", 4096)
    member = await ProcessMember.start("postgres-log", log.url, LONG_S, "group", [TOPIC])
    appender = log.transports[0]
    try:
        count = await until_rung(log, appender)
        before = len(log.said)
        member.stall()
        while len(log.said) == before:
            await appender.append(numbered(TOPIC, 200))
            count += 200
            assert count < 200_000
        member.resume()
        polled = 0
        while polled < count:
            polled += len(await member.poll(500))
    finally:
        await member.kill()


async def test_a_doorbell_tells_line_by_line_and_leaves_nothing_behind() -> None:
    heard: list[tuple[str, str]] = []
    bell = Doorbell(lambda channel, payload: heard.append((channel, payload)))
    bell.open()
    name = bell.name
    assert name is not None
    bells = Bells(Doorbell(lambda *_: None), lambda *_: None)
    bells.meet([name])
    assert bells.reached == [name]

    assert bells.ring(name, "r1", "1 11:0:1")
    assert bells.ring(name, "r2", "")
    assert not bells.ring("/nowhere", "r1", "")

    await eventually(lambda: len(heard) == 2)
    assert heard == [("r1", "1 11:0:1"), ("r2", "")]
    bells.close()
    bell.close()
    assert not exists(name)


async def test_a_socket_that_a_killed_process_left_is_swept_away_and_a_living_one_is_not() -> None:
    folder = doorbell.private_folder()
    assert folder is not None
    alive, gone = Doorbell(lambda *_: None), folder / "left-by-nobody"
    alive.open()
    assert alive.name is not None
    abandoned = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, str(gone))
    os.rename(gone, folder / "left")
    abandoned.close()
    for each in (folder / "left", Path(alive.name)):
        os.utime(each, (0, 0), follow_symlinks=False)

    doorbell.sweep(folder)

    assert not exists(folder / "left")
    assert exists(alive.name)
    alive.close()


def test_a_folder_that_others_can_enter_has_no_doorbells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = doorbell.private_folder()
    assert made is not None
    made.chmod(0o755)

    assert doorbell.private_folder() is None


async def until_rung(log: Log, appender: PostgresLogTransport) -> int:
    """Append until PostgreSQL says nothing of it; returns how many records that took."""
    for count in range(1, 1000):
        before = len(await log.heard())
        await appender.append(numbered(TOPIC, 1))
        if len(await log.heard()) == before:
            return count
    raise AssertionError("the member is never rung")


def exists(path: str | Path) -> bool:
    return os.path.lexists(path)


@pytest.mark.parametrize("turns", range(6))
async def test_a_visitor_who_comes_while_a_doorbell_is_closed_is_sent_away(turns: int) -> None:
    """However far its way in had come: `turns` of the event loop."""
    bell = Doorbell(lambda _channel, _payload: None)
    bell.open()
    assert bell.name is not None
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.setblocking(False)
        visitor.connect(bell.name)
        for _ in range(turns):
            await asyncio.sleep(0)

        bell.close()

        with suppress(ConnectionError):
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(visitor, 1), 30) == b""


async def test_who_has_closed_visits_nobody_any_more() -> None:
    def nobody(_channel: str, _payload: str) -> None: ...

    bell, own = Doorbell(nobody), Doorbell(nobody)
    bell.open()
    assert bell.name is not None
    bells = Bells(own, nobody)
    bells.close()

    bells.meet([bell.name])

    assert bells.reached == []
    bell.close()


async def test_a_doorbell_that_is_gone_is_forgotten_before_it_is_rung() -> None:
    bell, own = Doorbell(lambda *_: None), Doorbell(lambda *_: None)
    bell.open()
    assert bell.name is not None
    bells = Bells(own, lambda *_: None)
    bells.meet([bell.name])
    assert bells.reached == [bell.name]

    bell.close()

    await eventually(lambda: not bells.reached)
    bells.close()
