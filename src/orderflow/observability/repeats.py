"""Lines that say the same again and again are counted and summed up, so that whoever can cause one cannot rotate the
logs away.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass

TOLD_FIRST = 5
EVERY_S = 10.0
KINDS_MAX = 200
OTHERS = "others"

Line = dict[str, object]


@dataclass(slots=True)
class _Kind:
    """Lines of one kind since `began` (monotonic, s): `told` were written, `more` were not, `example` is the last."""

    began: float
    told: int = 0
    more: int = 0
    example: Line | None = None


class Repeats:
    """Lets the first lines of a kind through; then it sums up, one line a kind and interval, until the kind is quiet
    for a whole interval. The kinds beyond KINDS_MAX are one kind. For several threads.
    """

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind] = {}
        self._lock = threading.Lock()

    def admit(self, like: Hashable, line: Line, now: float) -> bool:
        """Whether the line is to be written; if not, it is counted. `like`: what lines of its kind have in common."""
        with self._lock:
            kind = self._kinds.get(like)
            if kind is None:
                if len(self._kinds) >= KINDS_MAX:
                    like = OTHERS
                kind = self._kinds.setdefault(like, _Kind(now))
            if kind.told < TOLD_FIRST:
                kind.told += 1
                return True
            kind.more += 1
            kind.example = line
            return False

    def summed_up(self, now: float, *, at_once: bool = False) -> list[Line]:
        """A line for each kind whose interval is over, or for all of them (`at_once`): the last that was not written,
        with `repeated`, how many were not, and `within_s`.
        """
        lines: list[Line] = []
        with self._lock:
            for like, kind in list(self._kinds.items()):
                since = now - kind.began
                if since < EVERY_S and not at_once:
                    continue
                if kind.example is None:
                    del self._kinds[like]
                    continue
                lines.append({**kind.example, "repeated": kind.more, "within_s": round(since, 1)})
                kind.began, kind.more, kind.example = now, 0, None
        return lines
