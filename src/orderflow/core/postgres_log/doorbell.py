"""How appenders tell the members of their own machine what is new, past PostgreSQL: each process has a doorbell.

It is a Unix socket in a folder that only its user can enter, and its name stands beside the lease of each member. An
appender that has connected to it writes the notice there after its commit. So PostgreSQL need not notify, which wakes
each session that listens to anything. Whoever cannot be reached so (another machine, container or user; Windows) is
notified. A notice that was lost with its process is found by the next renewal of the lease.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

TRY_AGAIN_S = 10.0
"""After so long an appender tries to connect again to a doorbell that it did not reach."""

UNREAD_MAX = 1024 * 1024
"""Bytes that wait for a process that does not read. It stands still, and whoever follows it reads the table."""

LINE_MAX = 64 * 1024
LEFT_AFTER_S = 60.0
"""Only what is older than this is looked at, so that nobody is caught while he opens his."""

NAME_MAX = 100
"""The path of a socket may have 104 bytes on some systems."""

Hear = Callable[[str, str], None]
"""Gets (channel, payload)."""


class Doorbell:
    """One a process. `name` is where it can be rung; None as long as it cannot."""

    def __init__(self, hear: Hear) -> None:
        self.name: str | None = None
        self._hear = hear
        self._server: asyncio.AbstractServer | None = None
        self._visitors: set[asyncio.BaseTransport] = set()

    async def open(self) -> None:
        """Where that is impossible there is none."""
        folder = private_folder()
        if folder is None or self._server is not None:
            return
        sweep(folder)
        path = folder / f"{os.getpid()}-{token_hex(8)}"
        if len(os.fsencode(path)) > NAME_MAX:
            return
        with suppress(OSError):
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: _Visitor(self._hear, self._visitors), str(path)
            )
            self.name = str(path)

    def close(self) -> None:
        name, self.name = self.name, None
        if self._server is not None:
            self._server.close()
        for visitor in tuple(self._visitors):
            visitor.close()
        if name is not None:
            Path(name).unlink(missing_ok=True)


class Bells:
    """The doorbells that this process has connected to, to ring them. `own` is answered without a detour."""

    def __init__(self, own: Doorbell, hear: Hear) -> None:
        self._own = own
        self._hear = hear
        self._reached: dict[str, asyncio.WriteTransport] = {}
        self._not_before: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def reached(self) -> list[str]:
        """Those that can be rung now."""
        return [*self._reached, *([self._own.name] if self._own.name else [])]

    def meet(self, names: Iterable[str]) -> None:
        """Connect to those that are new, without waiting for it."""
        now = time.monotonic()
        for name in names:
            if name == self._own.name or name in self._reached or name in self._tasks:
                continue
            if now >= self._not_before.get(name, now):
                self._not_before[name] = now + TRY_AGAIN_S
                self._tasks[name] = asyncio.get_running_loop().create_task(self._connect(name))

    def ring(self, name: str, channel: str, payload: str) -> bool:
        """Tell whoever is there. Whether it could be told."""
        if name == self._own.name:
            self._hear(channel, payload)
            return True
        visit = self._reached.get(name)
        if visit is None or visit.is_closing():
            return False
        if visit.get_write_buffer_size() > UNREAD_MAX:
            visit.abort()
            self._lost(name)
            return False
        visit.write(f"{channel} {payload}\n".encode())
        return True

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for visit in self._reached.values():
            visit.close()
        self._reached.clear()

    async def _connect(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            with suppress(OSError):
                visit, _ = await loop.create_unix_connection(lambda: _Visit(lambda: self._lost(name)), name)
                self._reached[name] = visit
                self._not_before.pop(name, None)
        finally:
            del self._tasks[name]

    def _lost(self, name: str) -> None:
        self._reached.pop(name, None)
        now = time.monotonic()
        # Names are never used again: those of processes that are gone must not stay for ever.
        self._not_before = {each: at for each, at in self._not_before.items() if at > now}
        self._not_before[name] = now + TRY_AGAIN_S


class _Visit(asyncio.Protocol):
    """The appender's end: nothing comes back."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def connection_lost(self, _: Exception | None) -> None:
        self._lost()


class _Visitor(asyncio.Protocol):
    """The member's end: a notice a line."""

    def __init__(self, hear: Hear, visitors: set[asyncio.BaseTransport]) -> None:
        self._hear = hear
        self._visitors = visitors
        self._begun = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a server's connections can be read and written
        self._visitors.add(transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            channel, _, payload = line.decode(errors="replace").partition(" ")
            self._hear(channel, payload)
        if len(self._begun) > LINE_MAX and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        if self._transport is not None:
            self._visitors.discard(self._transport)


def private_folder() -> Path | None:
    """Where the sockets of this user's processes are; None where nobody else can be kept out of it."""
    if os.name != "posix":
        return None
    folder = Path(tempfile.gettempdir()) / f"orderflow-doorbells-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return folder if is_ours else None


def sweep(folder: Path) -> None:
    """Remove what processes left that were killed: where nobody answers any more."""
    for left in folder.iterdir():
        with suppress(OSError), socket.socket(socket.AF_UNIX) as visit:
            if time.time() - left.lstat().st_mtime > LEFT_AFTER_S:
                visit.setblocking(False)
                try:
                    visit.connect(str(left))
                except ConnectionRefusedError:
                    left.unlink()
