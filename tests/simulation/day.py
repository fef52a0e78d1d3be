"""The toy service through hours of virtual time: what comes when, and when it was handled or given up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.messages import Message
from orderflow.core.service import Handler
from orderflow.core.telemetry import BatchCommitted, OutageJudged, OutageOver, Outcome, Signal, TaskFailed
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.testing.store import MemoryStore
from orderflow.core.transport import ProducerRecord, TopicSettings
from orderflow.simulation.loop import VirtualClock, virtual_loop
from tests.unit.core.toy import Counted
from tests.unit.core.world import World, record_of

LOOK_EVERY_S = 0.5


class Day:
    """One process of the toy service. Times are virtual seconds since it began.

    `came`, `handled`, `dead`: by key, when. `outages`: what was judged, and when.
    """

    def __init__(self, seed: int = 1, config: EngineConfig | None = None) -> None:
        self.loop = virtual_loop(random.Random(seed))
        self.rng = random.Random(seed + 1)
        self.clock = VirtualClock(self.loop)
        self.world = World(clock=self.clock)
        self.world.signals.subscribe(self._hear)
        self.log = MemoryLog(self.clock, random.Random(seed))
        self.log.create([TopicSettings(name, 3) for name in ("counts", "totals", "flow-status", "counts.DLT")])
        self.transport = MemoryTransport(self.log)
        self.config = config or EngineConfig()
        self.engine = self.process()
        self.came: dict[str, float] = {}
        self.handled: dict[str, float] = {}
        self.dead: dict[str, float] = {}
        self.outages: list[tuple[float, Signal]] = []

    @property
    def now(self) -> float:
        return self.loop.time()

    def process(self, **handlers: Handler) -> Engine:
        return Engine(
            self.world.service,
            MemoryStore(self.world.database),
            MemoryTransport(self.log),
            gateway=None,
            signals=self.world.signals,
            clock=self.clock,
            rng=self.rng,
            config=self.config,
        )

    def live(self, what: Callable[[], Awaitable[None]]) -> None:
        """Run the process, and beside it `what`."""

        async def main() -> None:
            self.engine.start()
            await what()
            await self.engine.kill()

        try:
            self.loop.run_until_complete(main())
        finally:
            self.loop.close()
        assert self.loop.errors == []
        assert self.world.signals_of(TaskFailed) == []

    async def come(self, *events: Message) -> None:
        self.came |= {event.key: self.now for event in events if event.key not in self.came}
        records = [record_of(event, offset=0) for event in events]
        await self.transport.append([ProducerRecord("counts", r.key, r.value, r.headers) for r in records])

    async def stream(self, name: str, rate: float, for_s: float, *, regular: bool = False) -> None:
        """New keys, one event each, at so many a second."""
        until, number = self.now + for_s, 0
        while self.now < until:
            await self.come(Counted(name=f"{name}{number}", amount=1))
            number += 1
            await asyncio.sleep(1 / rate if regular else self.rng.expovariate(rate))

    async def burst(self, name: str, count: int) -> None:
        """So many keys at once, one event each."""
        await self.come(*(Counted(name=f"{name}{number}", amount=1) for number in range(count)))

    async def until(self, condition: Callable[[], object], within_s: float) -> float:
        """How long it took. Fails when it takes longer."""
        began = self.now
        while not condition():
            assert self.now - began <= within_s, f"after {within_s} s still not"
            await asyncio.sleep(LOOK_EVERY_S)
        return self.now - began

    def delays(self, name: str) -> list[float]:
        """How long the keys of this name took; all of them must have been handled."""
        return [self.handled[key] - came for key, came in self.came.items() if key.startswith(name)]

    def are_dead(self, name: str) -> bool:
        return all(key in self.dead for key in self.came if key.startswith(name))

    def are_handled(self, name: str) -> bool:
        return all(key in self.handled for key in self.came if key.startswith(name))

    def _hear(self, signal: Signal) -> None:
        match signal:
            case BatchCommitted(handled=handled):
                for each in handled:
                    if each.outcome is Outcome.HANDLED:
                        self.handled.setdefault(each.key, self.now)
                    elif each.outcome is Outcome.DEAD:
                        self.dead.setdefault(each.key, self.now)
            case OutageJudged() | OutageOver():
                self.outages.append((self.now, signal))
            case _:
                pass
