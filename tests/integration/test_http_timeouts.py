"""A time-out for every state of a connection: each is a setting, and ends who dawdles at a running service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from orderflow.cli.http import ClientTls
from orderflow.local.authority import Authority
from tests.support.sample.running import Running, migrate, running, settings
from tests.support.waiting import eventually

TIMEOUT_S = 2
GET = b"GET /counters/a HTTP/1.1\r\nHost: localhost\r\n"
LARGEST = b"GET /docs/files/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Client = Callable[[Streams], Awaitable[bytes]]


async def silent(streams: Streams) -> bytes:
    """Sends nothing at all."""
    with suppress(ConnectionError):
        return await streams[0].read()
    return b""


async def drips_its_head(streams: Streams) -> bytes:
    return await dripping(streams, GET + b"x-slow: ")


async def drips_its_body(streams: Streams) -> bytes:
    return await dripping(streams, b"POST" + GET[3:] + b"content-length: 60000\r\n\r\n")


async def dripping(streams: Streams, first: bytes) -> bytes:
    """Sends on, a byte at a time, so that the connection is never idle."""
    writer = streams[1]
    writer.write(first)
    answer = asyncio.create_task(silent(streams))
    while not answer.done():
        with suppress(ConnectionError):
            writer.write(b"a")
        await asyncio.wait({answer}, timeout=0.05)
    return answer.result()


async def asks_once(streams: Streams) -> bytes:
    streams[1].write(GET + b"\r\n")
    return await silent(streams)


async def asks_what_takes_for_ever(streams: Streams) -> bytes:
    streams[1].write(GET.replace(b"/counters/a", b"/until-stopping") + b"\r\n")
    return await silent(streams)


async def never_reads(streams: Streams) -> bytes:
    """Asks for much, and lets it lie: what the stream holds is full soon, and so is what the system holds."""
    streams[1].write(LARGEST * 20)
    await asyncio.Event().wait()
    return b""


CASES = {
    "handshake": (silent, b""),
    "head": (drips_its_head, b"HTTP/1.1 408 "),
    "head, of which nothing comes": (silent, b"HTTP/1.1 408 "),
    "body": (drips_its_body, b"HTTP/1.1 408 "),
    "answer": (asks_what_takes_for_ever, b"HTTP/1.1 503 "),
    "idle": (asks_once, b"HTTP/1.1 404 "),
    "write": (never_reads, None),
}


async def timed_out(service: Running) -> dict[str, float]:
    """How many connections, by state."""
    metrics = (await service.client.get("/metrics")).text
    found = re.findall(r'^orderflow_http_timed_out_total\{state="(\w+)"\} (\S+)$', metrics, re.MULTILINE)
    return {state: float(count) for state, count in found}


@pytest.mark.parametrize("case", CASES)
async def test_a_client_that_dawdles_is_ended_by_the_setting_of_its_state(
    case: str, database_url: str, tmp_path: Path
) -> None:
    await migrate(database_url)
    authority = Authority(tmp_path / "authority")
    issued = authority.issue("service")
    state = case.partition(",")[0]
    wanted = settings(
        database_url,
        tmp_path,
        tls_certificate_file=issued.certificate,
        tls_key_file=issued.key,
        **{f"http_{state}_timeout_s": TIMEOUT_S},
    )
    client, begins = CASES[case]
    async with running(wanted) as service:
        metrics = (await service.client.get("/metrics")).text
        for door in ("public", "ops"):
            assert f'orderflow_http_limit{{door="{door}",limit="{state}_seconds"}} {TIMEOUT_S}.0' in metrics
        tls = None if case == "handshake" else ClientTls(ca=authority.certificate).context()
        streams = await asyncio.open_connection("127.0.0.1", service.port, ssl=tls)
        dawdling = asyncio.create_task(client(streams))
        try:

            async def is_told() -> bool:
                return (await timed_out(service)).get(state, 0) >= 1

            await eventually(is_told, timeout_s=60)
            if begins is not None:
                answer = await asyncio.wait_for(dawdling, 60)
                assert answer.startswith(begins)
                assert bool(answer) == bool(begins)
        finally:
            dawdling.cancel()
            await asyncio.gather(dawdling, return_exceptions=True)
            streams[1].transport.abort()
