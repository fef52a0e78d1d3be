"""Whatever fails and whoever dies: each key's events take effect once, in the order in which they were produced."""

from __future__ import annotations

import random

import pytest

from orderflow.core.dead_letters import FLOW_STATUS
from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.service import Ref
from orderflow.core.telemetry import Signals, Waiting
from orderflow.core.testing.state import MemoryDatabase
from orderflow.core.testing.store import MemoryStore
from orderflow.core.timing import SystemClock
from orderflow.core.transport import TopicSettings, Transport
from tests.conformance.transport.ledger import Fates, Page, check, ledger, records
from tests.support.transports import Harness
from tests.support.waiting import eventually

KEYS, NUMBERS = 12, 25
CONFIG = EngineConfig(
    batch_max=40,
    attempts_max=30,
    retry_first_ms=5,
    retry_ceiling_ms=40,
    infrastructure_first_ms=5,
    infrastructure_ceiling_ms=50,
)


class Troupe:
    """Several processes of the ledger over one database, which come, crash and leave."""

    def __init__(self, harness: Harness, topic: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.fates = Fates(self.rng, share=0.12, most=3)
        self.clock = SystemClock()
        self.database = MemoryDatabase(self.clock, checks=(check(self.fates),), stepwise=(Page,))
        self.waited = 0
        self._harness = harness
        self._service = ledger(self.fates, topic)
        self._members: list[tuple[Engine, MemoryStore]] = []

    async def join(self) -> None:
        store = MemoryStore(self.database)
        engine = Engine(
            self._service,
            store,
            await self._harness.connect(),
            gateway=None,
            signals=Signals([self._count]),
            clock=self.clock,
            rng=self.rng,
            config=CONFIG,
        )
        engine.start()
        self._members.append((engine, store))

    async def crash(self) -> None:
        """Transactions under way are lost; nothing is committed any more."""
        engine, store = self._members.pop(self.rng.randrange(len(self._members)))
        store.crash()
        await engine.kill()

    async def leave(self) -> None:
        engine, store = self._members.pop(self.rng.randrange(len(self._members)))
        await engine.drain(10.0)
        await store.close()

    async def database_away(self) -> None:
        before = self.waited
        self.database.go_down()
        await eventually(lambda: self.waited > before)
        self.database.come_back()

    async def end(self) -> None:
        while self._members:
            await self.leave()

    def pages(self) -> dict[str, list[int]]:
        pages = [self.database.state.rows.get(Ref(Page, f"key-{key}")) for key in range(KEYS)]
        return {page.name: list(page.numbers) for page in pages if isinstance(page, Page)}

    def done(self) -> bool:
        return sum(map(len, self.pages().values())) >= KEYS * NUMBERS and not self.database.state.parked

    def _count(self, signal: object) -> None:
        self.waited += isinstance(signal, Waiting)


@pytest.mark.parametrize("seed", range(3))
async def test_handled_order_is_produced_order(harness: Harness, transport: Transport, topic: str, seed: int) -> None:
    await transport.create_topics([TopicSettings(f"{topic}.DLT", 1), TopicSettings(FLOW_STATUS, 1)])
    troupe = Troupe(harness, topic, seed)
    await troupe.join()
    batch = records(topic, KEYS, NUMBERS)
    third = len(batch) // 3
    try:
        await transport.append(batch[:third])
        await troupe.join()
        await transport.append(batch[third : 2 * third])
        await troupe.database_away()
        await troupe.crash()
        await transport.append(batch[2 * third :])
        await troupe.join()
        await troupe.leave()
        await eventually(troupe.done, timeout_s=60)
    finally:
        await troupe.end()
    assert troupe.pages() == {f"key-{key}": list(range(NUMBERS)) for key in range(KEYS)}
    assert troupe.fates.failed["decision"]
    assert troupe.fates.failed["database"]
