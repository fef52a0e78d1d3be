"""A link in all its troubles, between a client and an echo, both real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from orderflow.chaos.proxy import CUT, HALF_OPEN, HOLD, RESET, SLOW, LinkFault, ProxiedLink
from tests.support.waiting import eventually

ANSWER_S = 60.0


class Echo:
    """A server that sends back what comes, and knows how many are connected."""

    def __init__(self) -> None:
        self.connected = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        self.connected -= 1
        writer.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, link: ProxiedLink) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", link.port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self, size: int) -> bytes:
        async with asyncio.timeout(ANSWER_S):
            return await self.reader.readexactly(size)

    async def is_reset(self) -> bool:
        """In the end of which it is closed."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True
        finally:
            self.writer.transport.abort()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def link(echo: Echo) -> AsyncIterator[ProxiedLink]:
    made = ProxiedLink("test", lambda: ("127.0.0.1", echo.port))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def client(link: ProxiedLink) -> AsyncIterator[Client]:
    made = await Client.of(link)
    made.send(b"hello")
    assert await made.receive(5) == b"hello"
    yield made
    made.writer.transport.abort()


async def test_what_is_large_comes_through_whole(client: Client) -> None:
    data = bytes(range(256)) * 8_192
    client.send(data)

    assert await client.receive(len(data)) == data


async def test_cut_resets_what_is_open_and_what_comes(link: ProxiedLink, client: Client) -> None:
    link.begin(LinkFault(CUT))

    assert await client.is_reset()
    assert await (await Client.of(link)).is_reset()


async def test_held_bytes_come_when_it_is_healed_in_their_order(
    link: ProxiedLink, client: Client, echo: Echo
) -> None:
    link.begin(LinkFault(HOLD))
    client.send(b"first")
    client.send(b"second")
    held = await Client.of(link)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.reader.read(1)
    link.heal()

    assert await client.receive(11) == b"firstsecond"
    assert await held.is_reset()
    assert echo.connected == 1


async def test_slow_bytes_come_late_and_in_their_order(link: ProxiedLink, client: Client) -> None:
    link.begin(LinkFault(SLOW, 30))
    loop = asyncio.get_running_loop()
    began = loop.time()
    client.send(b"first")
    await asyncio.sleep(0)
    client.send(b"second")

    assert await client.receive(11) == b"firstsecond"
    assert loop.time() - began >= 0.06


async def test_reset_after_so_many_bytes_tears_the_answer(link: ProxiedLink, client: Client) -> None:
    link.begin(LinkFault(RESET, 12))
    client.send(b"0123456789")

    # Ten bytes go there, two of the answer come back.
    assert await client.receive(2) == b"01"
    assert await client.is_reset()


async def test_half_open_the_server_loses_it_and_the_client_hears_nothing(
    link: ProxiedLink, client: Client, echo: Echo
) -> None:
    link.begin(LinkFault(HALF_OPEN))
    await eventually(lambda: echo.connected == 0)
    client.send(b"anyone?")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.reader.read(1)
    link.heal()

    assert await client.is_reset()


async def test_nobody_behind_it_is_a_reset() -> None:
    link = ProxiedLink("test", lambda: None)
    await link.open()

    assert await (await Client.of(link)).is_reset()
    await link.close()
