"""Reading a request's body within bounds of size and time, and letting go of what is over them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from orderflow.runtime.asgi import Receive
from orderflow.runtime.problems import ProblemError


class DisconnectedError(Exception):
    """The client went away before its request was whole: nobody is there to answer."""


class BodyRefusedError(ProblemError):
    """The body is not read to its end: the connection cannot be used again after the answer."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds of one body. What is over `bytes_max` is let go of, up to `drain_bytes_max` and `drain_s`:
    long enough for a client to see the answer that writes all before it reads, not for an endless one.
    """

    bytes_max: int = 64 * 1024
    read_s: float = 10.0
    drain_bytes_max: int = 32 * 1024 * 1024
    drain_s: float = 5.0


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limits: BodyLimits) -> bytes:
    """The whole body, counted as it comes: Content-Length is only believed when it is already too much.

    Raises BodyRefusedError (413, 408), DisconnectedError.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and len(declared) < 20 and int(declared) > limits.bytes_max:
        raise too_large(limits)
    try:
        async with asyncio.timeout(limits.read_s):
            return await _collect(receive, limits)
    except TimeoutError as error:
        raise BodyRefusedError(408, f"the body did not arrive within {limits.read_s:g} s") from error


async def _collect(receive: Receive, limits: BodyLimits) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise DisconnectedError
        part: bytes = event.get("body", b"")
        size += len(part)
        if size > limits.bytes_max:
            raise too_large(limits)
        if not event.get("more_body", False):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


async def let_go(receive: Receive, limits: BodyLimits) -> None:
    """Read on and forget, until the client is done, gone, or over the bounds."""
    size = 0
    try:
        async with asyncio.timeout(limits.drain_s):
            while size < limits.drain_bytes_max:
                event = await receive()
                if event["type"] == "http.disconnect" or not event.get("more_body", False):
                    return
                size += len(event.get("body", b""))
    except TimeoutError:
        return


def too_large(limits: BodyLimits) -> BodyRefusedError:
    return BodyRefusedError(413, f"the body is larger than {limits.bytes_max} bytes")
