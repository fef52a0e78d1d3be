"""Reading the logs of a home: their ends, and what is added while we look."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orderflow.local.errors import LocalError

LOOK_EVERY_S = 0.2


def find(folder: Path, names: Sequence[str]) -> Mapping[str, Path]:
    """The logs called so, or of processes of the services called so; without names all that hold anything.

    Raises LocalError: there is none.
    """
    known = {path.name.removesuffix(".log"): path for path in sorted(folder.glob("*.log"))}
    if not names:
        if held := {name: path for name, path in known.items() if path.stat().st_size > 0}:
            return held
        raise LocalError(f"there are no logs in {folder} yet. They begin with: orderflow up")
    found: dict[str, Path] = {}
    for wanted in names:
        matching = {name: path for name, path in known.items() if _is_of(name, wanted)}
        if not matching:
            there = ", ".join(known) or "none yet"
            raise LocalError(f"there is no log of {wanted} in {folder}; there are: {there}")
        found |= matching
    return found


def lines(logs: Mapping[str, Path], last: int, *, follow: bool) -> Iterator[tuple[str, str]]:
    """The last lines of each, then, to follow, every line that is added to any."""
    readers = [Reader(name, path) for name, path in logs.items()]
    for reader in readers:
        for line in reader.last(last):
            yield reader.name, line
    while follow:
        added = False
        for reader in readers:
            for line in reader.added():
                added = True
                yield reader.name, line
        if not added:
            time.sleep(LOOK_EVERY_S)


@dataclass(slots=True)
class Reader:
    """One log. It may be rotated while we read: replaced by a new file, or emptied."""

    name: str
    path: Path
    position: int = 0
    inode: int = 0

    def last(self, count: int) -> Sequence[str]:
        """The last lines; afterwards `added` goes on behind them."""
        return deque(self.added(), maxlen=count) if count else [*deque(self.added(), maxlen=0)]

    def added(self) -> Iterator[str]:
        """Whole lines since the last look."""
        try:
            with self.path.open("rb") as file:
                self._find_place(file.fileno())
                file.seek(self.position)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self.position += len(line)
                    yield line.decode(errors="replace").rstrip()
        except FileNotFoundError:
            return

    def _find_place(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if status.st_ino != self.inode or status.st_size < self.position:
            self.position, self.inode = 0, status.st_ino


def _is_of(name: str, wanted: str) -> bool:
    rest = name.removeprefix(wanted)
    return name.startswith(wanted) and (not rest or rest.startswith(("-", ".")))
