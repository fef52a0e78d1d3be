"""The logs of a home: read to their ends and beyond, and rotated where another program holds them open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from pathlib import Path
from typing import NamedTuple

from orderflow.local.errors import LocalError

LOOK_EVERY_S = 0.2
_TIME = re.compile(r'(?:\{"time":"|\[)?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)(Z| UTC)?')
CHECK_EVERY_S = 60.0


class LogMissingError(LocalError):
    """No log is called so, or nothing has been logged yet."""


def find(folder: Path, names: Sequence[str]) -> Mapping[str, Path]:
    """The logs called so, or of processes of the services called so; without names all that hold anything.

    Raises LogMissingError.
    """
    known = {path.name.removesuffix(".log"): path for path in sorted(folder.glob("*.log"))}
    if not names:
        if held := {name: path for name, path in known.items() if path.stat().st_size > 0}:
            return held
        raise LogMissingError(f"there are no logs in {folder} yet")
    found: dict[str, Path] = {}
    for wanted in names:
        matching = {name: path for name, path in known.items() if _is_of(name, wanted)}
        if not matching:
            there = ", ".join(known) or "none yet"
            raise LogMissingError(f"there is no log of {wanted} in {folder}; there are: {there}")
        found |= matching
    return found


def lines(
    logs: Mapping[str, Path],
    last: int,
    *,
    follow: bool,
    wanted: Callable[[str], bool] = lambda _: True,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[str, str]]:
    """The last lines of all the logs that are `wanted`, by time, then, to follow, every such line that is added.

    What was rotated away is looked at too. What is added is in order of time within each look.
    """
    readers = [LogReader(name, path) for name, path in logs.items()]
    ends = [deque((each for each in reader.kept() if wanted(each.text)), maxlen=last) for reader in readers]
    yield from [(each.log, each.text) for each in merge(*ends, key=_time)][-last if last else sys.maxsize :]
    while follow:
        added = [[each for each in reader.added() if wanted(each.text)] for reader in readers]
        yield from ((each.log, each.text) for each in merge(*added, key=_time))
        if not any(added):
            pause(LOOK_EVERY_S)


class LogLine(NamedTuple):
    """`at` is its time in s since the epoch; a line that tells none is of the time of the one before it, or of the
    time at which its file was written last.
    """

    log: str
    text: str
    at: float


@dataclass(slots=True)
class LogReader:
    """One log. It may be rotated while we read: replaced by a new file, or emptied."""

    name: str
    path: Path
    position: int = 0
    inode: int = 0
    at: float = 0.0

    def kept(self) -> Iterator[LogLine]:
        """All that there is, the oldest of the rotated files first; afterwards `added` goes on behind it."""
        for path in sorted(self.path.parent.glob(f"{self.path.name}.*"), key=_age, reverse=True):
            if _age(path):
                with suppress(OSError), path.open("rb") as file:
                    written_at = os.fstat(file.fileno()).st_mtime
                    yield from (self._line(line, written_at) for line in file)
        yield from self.added()

    def added(self) -> Iterator[LogLine]:
        """Whole lines since the last look."""
        try:
            with self.path.open("rb") as file:
                written_at = self._find_place(file.fileno()).st_mtime
                file.seek(self.position)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self.position += len(line)
                    yield self._line(line, written_at)
        except FileNotFoundError:
            return

    def _line(self, line: bytes, written_at: float) -> LogLine:
        shown = line.decode(errors="replace").rstrip()
        self.at = time_of(shown) or self.at
        return LogLine(self.name, shown, self.at or written_at)

    def _find_place(self, descriptor: int) -> os.stat_result:
        status = os.fstat(descriptor)
        if status.st_ino != self.inode or status.st_size < self.position:
            self.position, self.inode = 0, status.st_ino
        return status


def time_of(line: str) -> float | None:
    """When a line was written, in s since the epoch, as services, PostgreSQL and Kafka say it; None if it does not.

    Where no zone is said, it is this machine's.
    """
    found = _TIME.match(line)
    if found is None:
        return None
    date, clock, zone = found[1], found[2].replace(",", "."), found[3]
    try:
        at = datetime.fromisoformat(f"{date}T{clock}")
        return at.replace(tzinfo=UTC if zone else None).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _time(line: LogLine) -> float:
    return line.at


def _age(path: Path) -> int:
    """`order.log.3` is older than `order.log.1`; 0: it is no rotated log."""
    number = path.name.rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def _is_of(name: str, wanted: str) -> bool:
    rest = name.removeprefix(wanted)
    return name.startswith(wanted) and (not rest or rest.startswith(("-", ".")))


def rotate(log: Path, *, max_bytes: int, kept: int) -> bool:
    """When `log` is larger, make it `log.1` (older ones move up, `kept` stay) and empty it.

    For files that are open in append mode: the writer goes on at the new end. What it writes between the
    copy and the emptying is lost. Where there is no room for a copy, everything stays as it is.
    """
    copy = log.with_name(f"{log.name}.new")
    try:
        if log.stat().st_size <= max_bytes:
            return False
        shutil.copyfile(log, copy)
        for number in range(kept - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                _numbered(log, number).replace(_numbered(log, number + 1))
        copy.replace(_numbered(log, 1))
        with log.open("r+b") as file:
            file.truncate(0)
    except OSError:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
        return False
    return True


async def rotate_for_ever(logs: Iterable[Path], *, max_bytes: int, kept: int) -> None:
    """Look once a minute."""
    watched = tuple(logs)
    while True:
        for log in watched:
            await asyncio.to_thread(rotate, log, max_bytes=max_bytes, kept=kept)
        await asyncio.sleep(CHECK_EVERY_S)


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
