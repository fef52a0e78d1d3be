"""How many connections there may be, how long each of their states may last, and who makes room when it is full."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Protocol

from orderflow.runtime.framing import FramingLimits

FILES_OF_OTHERS = 128
_BACKLOG_MAX = 1024
_SPARE_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of one server. Every state of a connection has its time, in seconds.

    `idle_s`: between two requests. `head_s` and `body_s`: until one is whole, from its first byte on. `answer_s`: for
    carrying it out. `write_s`: while an answer waits for its reader, who must take `write_rate_min` bytes a second
    over that time. `linger_s`: for a client that still sends after it was refused, at most `linger_bytes_max`.

    Of the connections beyond `connections_max`, up to `spare` are kept for probes and operators. `backlog` is how
    many the operating system may hold that were not accepted yet.
    """

    framing: FramingLimits = field(default_factory=FramingLimits)
    idle_s: float = 75.0
    head_s: float = 10.0
    body_s: float = 10.0
    answer_s: float = 120.0
    write_s: float = 10.0
    write_rate_min: int = 1024
    linger_s: float = 5.0
    linger_bytes_max: int = 32 * 1024 * 1024
    connections_max: int = 10_000
    spare: int = _SPARE_MAX
    backlog: int = _BACKLOG_MAX


def limits_for(connections_max: int, files_max: int | None) -> HttpLimits:
    """Limits that leave room for other files where a process may have `files_max` open (None: any number)."""
    if files_max is None:
        return HttpLimits(connections_max=connections_max)
    backlog, spare = min(_BACKLOG_MAX, max(8, files_max // 8)), min(_SPARE_MAX, max(4, files_max // 32))
    room = max(8, files_max - FILES_OF_OTHERS - backlog - spare)
    return HttpLimits(connections_max=min(connections_max, room), spare=spare, backlog=backlog)


def allow_files(wanted: int) -> int | None:
    """Let this process open `wanted` files, as far as its hard limit goes. How many it may; None: any number."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if target > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (OSError, ValueError):
            return soft
        return target
    return soft


def files_wanted(connections_max: int) -> int:
    """How many files a process should be allowed to open for so many connections."""
    return connections_max + _SPARE_MAX + _BACKLOG_MAX + FILES_OF_OTHERS


class Member(Protocol):
    """What is asked of a connection here. `is_spare` is set for one beyond the bound."""

    deadline: float
    is_spare: bool

    def expire(self) -> None: ...
    def evict(self) -> None: ...
    def shut_down(self) -> None: ...
    def abort(self) -> None: ...


class Connections:
    """All connections of a server. Those without a request under way are `quiet`; when it is full, the one that has
    been quiet for longest makes room.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._all: dict[Member, None] = {}
        self._quiet: dict[Member, None] = {}
        self._quiet_spare: dict[Member, None] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def are_too_many(self) -> bool:
        return len(self._all) > self._limits.connections_max

    def enter(self, member: Member) -> None:
        """Take in a new connection, at another's cost if need be."""
        limits = self._limits
        self._all[member] = None
        if self.are_too_many:
            if self._quiet:
                self._evict_oldest(self._quiet)
            else:
                member.is_spare = True
        self.is_quiet(member)
        if len(self._all) > limits.connections_max + limits.spare:
            self._evict_oldest(self._quiet_spare or self._quiet)

    def leave(self, member: Member) -> None:
        self._all.pop(member, None)
        self.is_busy(member)
        self._changed.set()

    def is_quiet(self, member: Member) -> None:
        if member in self._all:
            (self._quiet_spare if member.is_spare else self._quiet)[member] = None

    def is_busy(self, member: Member) -> None:
        (self._quiet_spare if member.is_spare else self._quiet).pop(member, None)

    def expire(self, now: float) -> None:
        """End what has outlasted its time."""
        for member in [each for each in self._all if each.deadline <= now]:
            member.expire()

    async def shut_down(self, timeout_s: float) -> None:
        """Let each finish what it is at, for `timeout_s`; the rest is cut off."""
        for member in list(self._all):
            member.shut_down()
        try:
            async with asyncio.timeout(timeout_s):
                while self._all:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            for member in list(self._all):
                member.abort()

    def _evict_oldest(self, quiet: dict[Member, None]) -> None:
        oldest = next(iter(quiet), None)
        if oldest is not None:
            self.leave(oldest)
            oldest.evict()
