"""Bodies that are too large, too slow, or not what they say; spoken over a bare socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.frame import GOOD, HASTY, Recorder, serving

POST = b"POST /baskets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture
async def frame() -> AsyncIterator[Recorder]:
    async with serving() as recorder:
        yield recorder


@pytest.fixture
async def hasty() -> AsyncIterator[Recorder]:
    async with serving(HASTY) as recorder:
        yield recorder


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, json.loads(body) if body else None


async def test_a_body_over_the_limit_by_its_own_word_gets_413_and_the_connection_ends(frame: Recorder) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(POST + b"content-length: 65537\r\n\r\n" + b" " * 65537)
    status, headers, problem = await read_answer(reader)
    assert (status, headers["connection"], problem["status"]) == (413, "close", 413)
    assert headers["content-type"] == "application/problem+json"
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()
    assert frame.baskets == []


async def test_413_reaches_a_client_that_is_still_sending_chunks(frame: Recorder) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(POST + b"transfer-encoding: chunked\r\n\r\n")
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    for _ in range(40):
        writer.write(chunk)
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    status, _, problem = await asyncio.wait_for(read_answer(reader), 60)
    assert (status, problem["detail"]) == (413, "the body is larger than 65536 bytes")
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def test_an_endless_body_is_cut_off(frame: Recorder) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(POST + b"transfer-encoding: chunked\r\n\r\n")
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    sent = 0

    async def send_for_ever() -> None:
        nonlocal sent
        while True:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_for_ever(), 60)
    assert sent > 65536
    writer.close()
    assert reader is not None


async def test_a_body_that_does_not_come_gets_408(hasty: Recorder) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    writer.write(POST + b"content-length: 100\r\n\r\n{")
    status, headers, _ = await asyncio.wait_for(read_answer(reader), 60)
    assert (status, headers["connection"]) == (408, "close")
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def test_a_client_that_leaves_in_the_middle_of_its_body_reaches_no_handler(frame: Recorder) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(POST + b"content-length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await read_answer(reader))[0] == 404
    writer.close()
    assert frame.baskets == []


async def test_who_asks_before_sending_too_much_is_told_without_sending(frame: Recorder) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(POST + b"content-length: 70000\r\nexpect: 100-continue\r\n\r\n")
    assert (await read_answer(reader))[0] == 413
    writer.close()


async def test_who_asks_before_sending_gets_to_send(frame: Recorder) -> None:
    body = json.dumps(GOOD).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(POST + b"content-length: %d\r\nexpect: 100-continue\r\n\r\n" % len(body))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await read_answer(reader))[0] == 201
    writer.close()


async def test_an_endless_body_on_a_path_that_is_not_there_is_refused_too(frame: Recorder) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(b"GET /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(20):
        writer.write(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
        await writer.drain()
    assert (await asyncio.wait_for(read_answer(reader), 60))[0] == 413
    writer.close()


async def test_requests_on_one_connection_follow_each_other_after_an_error(frame: Recorder) -> None:
    body = json.dumps(GOOD).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(POST + b"content-length: 1\r\n\r\n{")
    writer.write(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert (await read_answer(reader))[0] == 400
    assert (await read_answer(reader))[0] == 201
    writer.close()


@pytest.mark.parametrize("head", [POST + b"connection: close\r\n", POST.replace(b"HTTP/1.1", b"HTTP/1.0")])
async def test_who_wants_one_answer_only_gets_it_and_the_connection_ends(frame: Recorder, head: bytes) -> None:
    body = json.dumps(GOOD).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    status, headers, answer = await read_answer(reader)
    assert (status, headers["connection"], answer) == (201, "close", {"customer_id": "c"})
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def test_many_requests_in_one_packet_are_answered_in_order(frame: Recorder) -> None:
    bodies = [json.dumps({**GOOD, "customer_id": name}).encode() for name in "abcdef"]
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(b"".join(POST + b"content-length: %d\r\n\r\n" % len(body) + body for body in bodies))
    answers = [await asyncio.wait_for(read_answer(reader), 60) for _ in bodies]
    assert [answer for _, _, answer in answers] == [{"customer_id": name} for name in "abcdef"]
    writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 100_000, 431),
        (POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
    ],
)
async def test_a_broken_head_is_answered_with_a_problem_and_the_connection_ends(
    frame: Recorder, sent: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", frame.port)
    writer.write(sent)
    answered, headers, problem = await asyncio.wait_for(read_answer(reader), 60)
    assert (answered, problem["status"]) == (status, status)
    assert headers["content-type"] == "application/problem+json"
    writer.close()
    assert frame.baskets == []


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost:"])
async def test_a_head_that_does_not_come_gets_408(hasty: Recorder, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    writer.write(sent)
    status, headers, _ = await asyncio.wait_for(read_answer(reader), 60)
    assert (status, headers["connection"]) == (408, "close")
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def test_a_head_that_comes_slowly_on_a_used_connection_gets_408(hasty: Recorder) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    writer.write(b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await read_answer(reader))[0] == 404
    writer.write(b"GET /nowhere HTTP/1.1\r\nhost")
    assert (await asyncio.wait_for(read_answer(reader), 60))[0] == 408
    writer.close()
