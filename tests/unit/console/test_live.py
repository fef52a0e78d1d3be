"""Streams of server-sent events: what has changed, and nothing that could be taken for another event."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from orderflow.console.live import STREAMS_MAX, Parts, Streams, encoded


def test_a_text_of_several_lines_stays_one_event() -> None:
    assert encoded([("part", "a\r\nevent: other\rdata: x\n\nb")]) == (
        b"event: part\ndata: a\ndata: event: other\ndata: data: x\ndata: \ndata: b\n\n"
    )


def test_a_part_that_has_become_empty_is_told() -> None:
    assert encoded([("part", "")]) == b"event: part\ndata: \n\n"


async def some(*parts: Parts) -> AsyncIterator[Parts]:
    for each in parts:
        yield each


async def body_of(response: object) -> bytes:
    assert isinstance(response, StreamingResponse)
    return b"".join([bytes(chunk) async for chunk in response.body_iterator])  # type: ignore[arg-type]


async def test_what_has_not_changed_is_not_sent_again() -> None:
    sent = await body_of(Streams().answer(some({"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"a": "1", "b": "2"})))
    assert sent.count(b"event: a\n") == 1
    assert sent.count(b"event: b\n") == 2
    assert sent.startswith(b"retry: 1000\n\n")


async def test_there_is_a_bound_to_how_many_watch() -> None:
    streams = Streams()
    opened = []
    for _ in range(STREAMS_MAX):
        response = streams.answer(some({"a": "1"}, {"a": "2"}))
        assert isinstance(response, StreamingResponse)
        iterator = aiter(response.body_iterator)
        await anext(iterator)
        opened.append(iterator)
    refused = streams.answer(some({"a": "1"}))
    assert refused.status_code == 503
    for iterator in opened:
        await iterator.aclose()  # type: ignore[attr-defined]
    assert streams.answer(some({"a": "1"})).status_code == 200


async def test_streams_end_when_the_process_does() -> None:
    streams = Streams()
    streams.stop()
    assert await body_of(streams.answer(some({"a": "1"}))) == b"retry: 1000\n\n"
