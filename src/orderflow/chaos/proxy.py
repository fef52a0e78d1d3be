"""A TCP link that can be cut, held, slowed, broken in the middle and left half open, while it is used."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

CONNECT_TIMEOUT_S = 5.0
CUT, HOLD, SLOW, RESET, HALF_OPEN = "cut", "hold", "slow", "reset", "half-open"

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LinkFault:
    """`cut`: connections are reset, and new ones refused. `hold`: nothing passes, and nobody is told.

    `slow`: each piece comes `amount` ms late. `reset`: a connection is reset after so many bytes. `half-open`: the
    server loses its connections, and the client is not told; new ones are held.
    """

    kind: str
    amount: int = 0


class ProxiedLink:
    """Listens on a port of its own before what `target` names at each new connection (None: nobody is there)."""

    def __init__(self, name: str, target: Callable[[], Address | None]) -> None:
        self.name = name
        self.port = 0
        self.trouble: LinkFault | None = None
        self.passed = 0
        self._target = target
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, port: int = 0) -> None:
        """Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for pair in list(self._pairs):
            pair.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, trouble: LinkFault) -> None:
        """Strikes the connections that are open, and those that come."""
        self.trouble = trouble
        for pair in list(self._pairs):
            pair.struck(trouble)

    def heal(self) -> None:
        """What was held goes on; of what one end has lost, the other is told now."""
        self.trouble = None
        for pair in list(self._pairs):
            pair.healed()

    def target(self) -> Address | None:
        return self._target()

    def add(self, pair: _Pair) -> None:
        self._pairs.add(pair)

    def forget(self, pair: _Pair) -> None:
        self._pairs.discard(pair)

    def begin_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self) -> asyncio.Protocol:
        return _Pair(self).client


class _Pair:
    """A connection of a client, and the one that was made for it to the server."""

    def __init__(self, link: ProxiedLink) -> None:
        self._link = link
        self._left = 0
        self._slow: deque[tuple[_End, bytes]] = deque()
        self.client = _End(self)
        self.server = _End(self)

    def other(self, end: _End) -> _End:
        return self.server if end is self.client else self.client

    def accepted(self) -> None:
        trouble = self._link.trouble
        if trouble is not None and trouble.kind == CUT:
            self.client.abort()
            return
        self._link.add(self)
        if trouble is not None:
            self.struck(trouble)
        self.client.hold()
        if trouble is None or trouble.kind not in {HOLD, HALF_OPEN}:
            self._link.begin_task(self._connect())

    async def _connect(self) -> None:
        target = self._link.target()
        loop = asyncio.get_running_loop()
        if target is None:
            self.abort()
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: self.server, *target)
        except (OSError, TimeoutError):
            self.abort()
            return
        if not self._is_held():
            self._go_on()

    def came(self, end: _End, data: bytes) -> None:
        """`data` has come in at one end."""
        trouble = self._link.trouble
        self._link.passed += len(data)
        if not self.other(end).is_made:
            # A loop may hand over what came in before it was told to read nothing.
            end.keep(data)
        elif trouble is None:
            self.other(end).write(data)
        elif trouble.kind in {HOLD, HALF_OPEN}:
            end.keep(data)
        elif trouble.kind == SLOW:
            self._slow.append((self.other(end), data))
            asyncio.get_running_loop().call_later(trouble.amount / 1000, self._write_slow)
        elif trouble.kind == RESET:
            self.other(end).write(data[: self._left])
            self._left -= len(data)
            if self._left <= 0:
                self.abort()
        else:
            self.abort()

    def _write_slow(self) -> None:
        if self._slow:
            end, data = self._slow.popleft()
            end.write(data)

    def lost(self, end: _End) -> None:
        """One end is gone: so is the other, unless it is not to know yet."""
        if not self._is_held() and not self._slow:
            self.abort()
        elif self.client.is_gone and self.server.is_gone:
            self._link.forget(self)

    def struck(self, trouble: LinkFault) -> None:
        self._left = trouble.amount
        if trouble.kind == CUT:
            self.abort()
        elif trouble.kind in {HOLD, HALF_OPEN}:
            self.client.hold()
            self.server.hold()
            if trouble.kind == HALF_OPEN:
                self.server.abort()

    def healed(self) -> None:
        """Held connections that were never made to the server, and such as have lost an end, are reset."""
        if self.client.is_gone or self.server.is_gone or not self.server.is_made:
            self.abort()
            return
        self._go_on()

    def _go_on(self) -> None:
        for end in (self.client, self.server):
            for data in end.kept():
                self.other(end).write(data)
            end.release()

    def abort(self) -> None:
        self._link.forget(self)
        self._slow.clear()
        self.client.abort()
        self.server.abort()

    def _is_held(self) -> bool:
        trouble = self._link.trouble
        return trouble is not None and trouble.kind in {HOLD, HALF_OPEN}


class _End(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self._transport: asyncio.Transport | None = None
        self._kept: list[bytes] = []
        self._gone = False

    @property
    def is_made(self) -> bool:
        return self._transport is not None

    @property
    def is_gone(self) -> bool:
        return self._gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        if self is self._pair.client:
            self._pair.accepted()
        elif self._pair.client.is_gone:
            self.abort()

    def data_received(self, data: bytes) -> None:
        self._pair.came(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._pair.lost(self)

    def pause_writing(self) -> None:
        self._pair.other(self).hold()

    def resume_writing(self) -> None:
        self._pair.other(self).release()

    def write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._gone:
            self._transport.write(data)

    def keep(self, data: bytes) -> None:
        self._kept.append(data)

    def kept(self) -> list[bytes]:
        kept, self._kept = self._kept, []
        return kept

    def hold(self) -> None:
        if self._transport is not None and not self._gone:
            self._transport.pause_reading()

    def release(self) -> None:
        if self._transport is not None and not self._gone:
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None and not self._gone:
            with contextlib.suppress(OSError):
                self._transport.abort()
