"""A clock that stands still: who sleeps by it is left sleeping."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


class Standing:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        raise Asleep

    @staticmethod
    async def until_it_sleeps(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Asleep:
            return


class Asleep(BaseException):
    """The work has come to its rest."""
