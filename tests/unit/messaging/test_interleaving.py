"""Whoever is told "it runs already, it will see to this": a call at each await of the other loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orderflow.messaging.transport import TransportUnavailableError
from orderflow.messaging.transports.postgres_log.settling import Settler
from tests.support.interleaving import Scene, at_each_step, soon


class Offsets:
    """Noted ones, written some steps later, as a statement on its way."""

    def __init__(self, *, failing: int = 0) -> None:
        self.noted: set[int] = set()
        self.written: set[int] = set()
        self._failing = failing

    async def write(self) -> None:
        noted, self.noted = self.noted, set()
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if self._failing:
                self._failing -= 1
                raise TransportUnavailableError("away")
        except BaseException:
            self.noted |= noted
            raise
        self.written |= noted


def settling(*, failing: int = 0, before: int = 0) -> Callable[[], Scene]:
    """Offset 1 is settled, and 2 meanwhile; `before` others were settled just before."""

    def make() -> Scene:
        offsets = Offsets(failing=failing)
        settler = Settler(offsets.write, lambda: bool(offsets.noted), lambda _: None)

        async def settle(offset: int) -> None:
            offsets.noted.add(offset)
            while offset in offsets.noted:
                try:
                    return await settler.settle()
                except TransportUnavailableError:
                    await asyncio.sleep(1)

        async def first() -> None:
            for number in range(before):
                await settle(10 + number)
            await settle(1)
            await asyncio.sleep(1)

        async def check() -> None:
            await soon(lambda: offsets.written >= {1, 2}, lambda: f"noted {offsets.noted}, written {offsets.written}")

        return Scene(first, lambda: settle(2), check)

    return make


def test_what_is_settled_while_offsets_are_written_is_written_without_another_record() -> None:
    assert at_each_step(settling()) > 10
    assert at_each_step(settling(before=1)) > 10
    assert at_each_step(settling(failing=1, before=1)) > 10
