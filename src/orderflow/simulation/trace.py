"""What happened, step by step: the proof that a seed is replayed, and the story of a failure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

Step = tuple[float, str, str]


class Trace:
    """Steps as (virtual seconds, who, what)."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, time: float, who: str, what: str) -> None:
        self.steps.append((time, who, what))

    def lines(self, last: int | None = None) -> Sequence[str]:
        """Readable, oldest first; only the `last` ones if told."""
        steps = self.steps if last is None else self.steps[-last:]
        return [f"{time:10.4f}  {who:<16} {what}" for time, who, what in steps]

    def digest(self) -> str:
        """Equal for equal runs, on every machine."""
        return hashlib.blake2b(repr(self.steps).encode(), digest_size=16).hexdigest()
