"""Stock clients that offer HTTP/2 to a server of HTTP/1.1, and clients that hold on to what they have."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from orderflow.http.protocol import HttpLimits
from tests.integration.test_http_edges_process import ready, started
from tests.support.frame import GOOD, HASTY, Recorder, serving
from tests.support.sample.running import migrate
from tests.support.waiting import eventually

BODY = json.dumps(GOOD).encode()
UPGRADE = (
    b"POST /baskets HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\ncontent-type: application/json\r\n"
)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HIDDEN = b"GET /failing HTTP/1.1\r\nhost: x\r\n\r\n"
JAVA_CLIENT = """
import java.io.*;
import java.net.*;
import java.net.http.*;

public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        byte[] body = arguments[1].getBytes("UTF-8");
        HttpRequest.BodyPublisher[] publishers = {
            HttpRequest.BodyPublishers.ofByteArray(body),
            HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)),
            HttpRequest.BodyPublishers.ofByteArray(body),
        };
        for (HttpRequest.BodyPublisher publisher : publishers) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("content-type", "application/json").POST(publisher).build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.version() + " " + answer.statusCode());
        }
    }
}
"""


@pytest.fixture
async def frame() -> AsyncIterator[Recorder]:
    async with serving() as recorder:
        yield recorder


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors
    return output.decode()


async def answers(port: int, *parts: bytes) -> list[int]:
    """The statuses of all answers to `parts`, each sent once what was sent before it has been taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    got = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return [int(answer[:3]) for answer in got.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java on this machine")
async def test_a_stock_java_client_orders(frame: Recorder, tmp_path: Path) -> None:
    source = tmp_path / "Client.java"
    source.write_text(JAVA_CLIENT, encoding="utf-8")
    said = await run("java", str(source), f"http://127.0.0.1:{frame.port}/baskets", BODY.decode())
    assert said.splitlines() == ["HTTP_1_1 201"] * 3
    assert [request.content for request in frame.baskets] == [BODY] * 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
async def test_curl_that_offers_http2_orders(frame: Recorder) -> None:
    url = f"http://127.0.0.1:{frame.port}/baskets"
    sent = ["-H", "content-type: application/json", "--data-binary", BODY.decode()]
    said = await run("curl", "--silent", "--http2", "--write-out", " %{http_version} %{http_code}", *sent, url, url)
    assert said == '{"customer_id":"c"} 1.1 201{"customer_id":"c"} 1.1 201'


@pytest.mark.parametrize(
    "sent",
    [
        [UPGRADE + b"content-length: %d\r\n\r\n" % len(BODY) + BODY],
        [UPGRADE + b"content-length: %d\r\n\r\n" % len(BODY), BODY],
        [UPGRADE + b"transfer-encoding: chunked\r\n\r\n" + CHUNKED],
        [UPGRADE + b"transfer-encoding: chunked\r\n\r\n", CHUNKED],
        [bytes([byte]) for byte in UPGRADE + b"content-length: %d\r\n\r\n" % len(BODY) + BODY],
        [bytes([byte]) for byte in UPGRADE + b"transfer-encoding: chunked\r\n\r\n" + CHUNKED],
    ],
    ids=["one segment", "two segments", "chunked", "chunked, two segments", "byte by byte", "chunked, byte by byte"],
)
async def test_an_offer_to_upgrade_is_passed_over(frame: Recorder, sent: list[bytes]) -> None:
    assert await answers(frame.port, *sent) == [201, 404]
    assert [request.content for request in frame.baskets] == [BODY]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"x", b"TLS/1.2, h2c"])
async def test_no_body_passes_as_the_next_request(frame: Recorder, protocol: bytes) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: %b\r\ncontent-length: %d\r\n\r\n"
    assert await answers(frame.port, head % (protocol, len(HIDDEN)), HIDDEN) == [404, 404]
    assert await answers(frame.port, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", HIDDEN) == [501]
    assert [route for route, _, _ in frame.observed if route == "/failing"] == []


async def test_a_client_that_never_reads_a_large_answer_is_given_up() -> None:
    async with serving(HttpLimits(write_s=0.4)) as frame:
        largest = b"GET /docs/files/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"
        with socket.create_connection(("127.0.0.1", frame.port)) as connection:
            connection.sendall(largest * 20)
            await eventually(frame.connections)
            await eventually(lambda: not frame.connections())


async def test_a_body_that_drips_into_a_file_gets_408() -> None:
    async with serving(HASTY) as frame:
        reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
        writer.write(b"GET /docs/files/index.css HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        got = asyncio.create_task(reader.read())
        while not got.done():
            writer.write(b"a")
            await asyncio.wait({got}, timeout=0.05)
        assert got.result().startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_kept_connection_ends_also_after_a_stray_empty_line() -> None:
    async with serving(HttpLimits(idle_s=1.0)) as frame:
        reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
        writer.write(b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 404 ")
        writer.write(b"\r\n")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_a_file_is_served_beside_the_operations(frame: Recorder) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{frame.port}", timeout=60) as client:
        whole = await client.get("/docs/files/swagger-ui.css")
        head = await client.head("/docs/files/swagger-ui.css")
        part = await client.get("/docs/files/swagger-ui.css", headers={"range": "bytes=0-9"})
        same = await client.get("/docs/files/swagger-ui.css", headers={"if-none-match": whole.headers["etag"]})
        none = await client.get("/docs/files/none.css")
    assert [each.status_code for each in (whole, head, part, same, none)] == [200, 200, 206, 304, 404]
    assert (len(whole.content), head.content) == (int(head.headers["content-length"]), b"")
    assert part.content == whole.content[:10]


async def test_it_is_the_same_on_the_loop_that_services_run_on(database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    async with started(database_url, tmp_path) as process:
        port = await ready(process)
        head = UPGRADE.replace(b"/baskets", b"/counters/a") + b"content-length: 12\r\n\r\n"
        assert await answers(port, head + b'{"amount":1}', head, b'{"amount":1}') == [201, 201, 404]
        assert await answers(port, UPGRADE + b"content-length: %d\r\n\r\n" % len(HIDDEN), HIDDEN) == [404, 404]
        assert await answers(port, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n", b"x" * 99999) == [
            413
        ]
        assert await answers(port, b"GET /docs/files/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n") == [200, 404]


async def test_more_connections_than_files_take_neither_health_nor_operators_away(
    database_url: str, tmp_path: Path
) -> None:
    await migrate(database_url)
    async with started(database_url, tmp_path, files="256") as process:
        port = await ready(process)
        held = b"GET /until-stopping HTTP/1.1\r\nhost: x\r\n\r\n"
        streams = []
        for _ in range(400):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(held)
            streams.append((reader, writer))
        waiting = {asyncio.create_task(reader.readuntil(b"}")) for reader, _ in streams}

        async def others_are_refused() -> bool:
            refused = [task for task in waiting if task.done()]
            assert all(task.result().startswith(b"HTTP/1.1 503 ") for task in refused)
            assert len(waiting) - len(refused) == HELD_AT_256_FILES
            return True

        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            await eventually(others_are_refused)
            for path in ("/health/live", "/health/ready", "/metrics", "/ops/outbox"):
                assert (await client.get(path)).status_code == 200, path
            refused = await client.post("/counters/a", json={"amount": 1})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        for _, writer in streams:
            writer.close()
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            async def works() -> bool:
                return (await client.post("/counters/a", json={"amount": 1})).status_code == 201

            await eventually(works)
        await asyncio.gather(*waiting, return_exceptions=True)


HELD_AT_256_FILES = 256 - 128 - 32 - 8
