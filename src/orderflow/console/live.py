"""One stream of server-sent events a tab: parts of a page, as HTML, each when it has changed.

Source: HTML Living Standard, 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress

from starlette.responses import PlainTextResponse, Response, StreamingResponse

STREAMS_MAX = 64
LASTS_S = 600.0
SILENT_S = 15.0
RETRY_MS = 1_000
Parts = Mapping[str, str]


class Streams:
    """The streams of all tabs: no more than `STREAMS_MAX`, none longer than `LASTS_S`; a browser asks again then."""

    def __init__(self) -> None:
        self._open = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """All end, so that the process can."""
        self._stopping.set()

    def answer(self, parts: AsyncIterator[Parts]) -> Response:
        """`parts` is by the name of the event; what has not changed is not sent again."""
        if self._open >= STREAMS_MAX:
            sentence = "Too many tabs watch this page. Close some of them."
            return PlainTextResponse(sentence, 503, {"retry-after": "5"})
        return StreamingResponse(self._events(parts), headers=_HEADERS, media_type="text/event-stream")

    async def _events(self, parts: AsyncIterator[Parts]) -> AsyncIterator[bytes]:
        self._open += 1
        sent: dict[str, str] = {}
        ends_at = time.monotonic() + LASTS_S
        following: asyncio.Task[Parts] | None = None
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            yield b"retry: %d\n\n" % RETRY_MS
            while time.monotonic() < ends_at and not self._stopping.is_set():
                following = following or asyncio.ensure_future(_next(parts))
                await asyncio.wait({following, stopping}, timeout=SILENT_S, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    yield b": still here\n\n"
                    continue
                found, following = following.result(), None
                if not found:
                    return
                fresh = {name: text for name, text in found.items() if sent.get(name) != text}
                sent.update(fresh)
                yield encoded(fresh.items()) or b": no change\n\n"
        finally:
            self._open -= 1
            stopping.cancel()
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            with suppress(RuntimeError):
                await parts.aclose()  # type: ignore[attr-defined]  # all of ours are generators


_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def _next(parts: AsyncIterator[Parts]) -> Parts:
    return await anext(parts, {})


def encoded(parts: Iterable[tuple[str, str]]) -> bytes:
    return "".join(map(_event, parts)).encode()


def _event(part: tuple[str, str]) -> str:
    """A part that is empty has a line of data, too: without one a browser drops the event."""
    name, text = part
    data = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {name}\n{data}\n"
