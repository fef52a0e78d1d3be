"""Letting go of a body that is too large: for long enough, not for ever."""

from __future__ import annotations

import asyncio

import pytest

from orderflow.runtime.asgi import Event
from orderflow.runtime.body import BodyLimits, BodyRefusedError, DisconnectedError, let_go, read_body

PATIENT = BodyLimits(bytes_max=10, read_s=60, drain_bytes_max=1000, drain_s=60)


class Client:
    """Sends parts, then whatever `end` is, for ever."""

    def __init__(self, *parts: bytes, end: Event) -> None:
        self._parts = list(parts)
        self._end = end
        self.asked = 0

    async def receive(self) -> Event:
        self.asked += 1
        if self._parts:
            return {"type": "http.request", "body": self._parts.pop(0), "more_body": True}
        return self._end


MORE: Event = {"type": "http.request", "body": b"x" * 100, "more_body": True}
LAST: Event = {"type": "http.request", "body": b"z", "more_body": False}
GONE: Event = {"type": "http.disconnect"}


async def test_parts_are_one_body() -> None:
    assert await read_body({}, Client(b"ab", b"cd", end=LAST).receive, PATIENT) == b"abcdz"


async def test_the_last_byte_over_the_limit_is_one_too_much() -> None:
    assert await read_body({}, Client(b"123456789", end=LAST).receive, PATIENT) == b"123456789z"
    with pytest.raises(BodyRefusedError):
        await read_body({}, Client(b"1234567890", end=LAST).receive, PATIENT)


async def test_content_length_is_not_believed_when_it_promises_little() -> None:
    with pytest.raises(BodyRefusedError):
        await read_body({b"content-length": b"5"}, Client(end=MORE).receive, PATIENT)


async def test_a_client_that_is_gone_has_no_body() -> None:
    with pytest.raises(DisconnectedError):
        await read_body({}, Client(b"ab", end=GONE).receive, PATIENT)


async def test_an_endless_body_is_let_go_of_up_to_its_bound() -> None:
    client = Client(end=MORE)
    await let_go(client.receive, PATIENT)
    assert client.asked == 10


@pytest.mark.parametrize("end", [LAST, GONE])
async def test_letting_go_ends_with_the_client(end: Event) -> None:
    client = Client(b"ab", end=end)
    await let_go(client.receive, PATIENT)
    assert client.asked == 2


async def test_letting_go_of_a_silent_client_ends_in_time() -> None:
    async def silent() -> Event:
        await asyncio.Event().wait()
        raise AssertionError

    await let_go(silent, BodyLimits(drain_s=0.01))
