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
"""Bytes that may wait for a process that does not read, as far as the system allows that. It stands still then, and
whoever follows it reads the table.
"""

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
        self._listener: socket.socket | None = None
        self._visitors: dict[socket.socket, bytes] = {}

    def open(self) -> None:
        """Where that is impossible there is none."""
        folder = private_folder()
        if folder is None or self._listener is not None:
            return
        sweep(folder)
        path = folder / f"{os.getpid()}-{token_hex(8)}"
        if len(os.fsencode(path)) > NAME_MAX:
            return
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.setblocking(False)
            listener.bind(str(path))
            listener.listen()
            asyncio.get_running_loop().add_reader(listener, self._admit, listener)
        except OSError:
            listener.close()
        else:
            self._listener, self.name = listener, str(path)

    def close(self) -> None:
        name, self.name = self.name, None
        listener, self._listener = self._listener, None
        for each in (*self._visitors, *([listener] if listener else [])):
            self._part(each)
        if name is not None:
            Path(name).unlink(missing_ok=True)

    def _admit(self, listener: socket.socket) -> None:
        with suppress(OSError):
            visitor, _ = listener.accept()
            visitor.setblocking(False)
            self._visitors[visitor] = b""
            asyncio.get_running_loop().add_reader(visitor, self._listen, visitor)

    def _listen(self, visitor: socket.socket) -> None:
        """A notice a line."""
        try:
            said = visitor.recv(LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        *lines, begun = (self._visitors[visitor] + said).split(b"\n")
        for line in lines:
            channel, _, payload = line.decode(errors="replace").partition(" ")
            self._hear(channel, payload)
        if said and len(begun) <= LINE_MAX:
            self._visitors[visitor] = begun
        else:
            self._part(visitor)

    def _part(self, each: socket.socket) -> None:
        self._visitors.pop(each, None)
        asyncio.get_running_loop().remove_reader(each)
        each.close()


class Bells:
    """The doorbells that this process has connected to, to ring them. `own` is answered without a detour."""

    def __init__(self, own: Doorbell, hear: Hear) -> None:
        self._own = own
        self._hear = hear
        self._reached: dict[str, socket.socket] = {}
        self._not_before: dict[str, float] = {}
        self._closed = False

    @property
    def reached(self) -> list[str]:
        """Those that can be rung now."""
        return [*self._reached, *([self._own.name] if self._own.name else [])]

    def meet(self, names: Iterable[str]) -> None:
        """Connect to those that are new. Nothing is waited for: who does not let us in at once is not there."""
        now = time.monotonic()
        for name in names:
            known = name == self._own.name or name in self._reached
            if known or self._closed or now < self._not_before.get(name, now):
                continue
            visit = socket.socket(socket.AF_UNIX)
            try:
                visit.setblocking(False)
                visit.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_MAX)
                visit.connect(name)
            except OSError:
                visit.close()
                self._avoid(name)
            else:
                # Nothing ever comes back: it can be read from when its other end is closed.
                asyncio.get_running_loop().add_reader(visit, self._lost, name)
                self._reached[name] = visit

    def ring(self, name: str, channel: str, payload: str) -> bool:
        """Tell whoever is there. Whether it could be told."""
        if name == self._own.name:
            self._hear(channel, payload)
            return True
        visit = self._reached.get(name)
        if visit is None:
            return False
        line = f"{channel} {payload}\n".encode()
        with suppress(OSError):
            if visit.send(line) == len(line):
                return True
        self._lost(name)
        return False

    def close(self) -> None:
        self._closed = True
        for name in [*self._reached]:
            self._lost(name)

    def _lost(self, name: str) -> None:
        visit = self._reached.pop(name)
        asyncio.get_running_loop().remove_reader(visit)
        visit.close()
        self._avoid(name)

    def _avoid(self, name: str) -> None:
        now = time.monotonic()
        # Names are never used again: those of processes that are gone must not stay for ever.
        self._not_before = {each: at for each, at in self._not_before.items() if at > now}
        self._not_before[name] = now + TRY_AGAIN_S


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
