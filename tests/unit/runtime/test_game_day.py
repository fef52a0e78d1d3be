"""A process outside of game days has no trace of faults in the way of its events."""

from __future__ import annotations

from orderflow.messaging.clock import SystemClock
from orderflow.messaging.faults.port import Fault, FaultKind
from orderflow.messaging.processor import Processor
from orderflow.messaging.signals import Signals
from orderflow.messaging.stores.memory.database import MemoryDatabase
from orderflow.messaging.stores.memory.store import MemoryStore
from orderflow.notification.service import SERVICE
from orderflow.runtime.game_day import GameDay


async def test_off_service_and_inlet_are_those_without_faults() -> None:
    store = MemoryStore(MemoryDatabase(SystemClock()))
    fault = Fault(event_type="PaymentFailed", field="reason", value="x", error=FaultKind.PERMANENT)
    await store.faults.add(fault)
    game_day = GameDay(SERVICE, store, Signals(), SystemClock(), on=False)

    await game_day.begin()

    assert game_day.service is SERVICE
    assert game_day.processor is Processor
    assert game_day.faults() == []
    assert game_day.problems() == {}
    assert await store.faults.readers(60_000) == []


async def test_on_a_fault_is_applied_and_told_before_the_engine_starts() -> None:
    store = MemoryStore(MemoryDatabase(SystemClock()))
    fault = Fault(event_type="PaymentFailed", field="reason", value="x", error=FaultKind.PERMANENT)
    await store.faults.add(fault)
    game_day = GameDay(SERVICE, store, Signals(), SystemClock(), on=True)

    await game_day.begin()

    assert game_day.faults() == ["fault 1: permanent at PaymentFailed with reason=x"]
    assert [reader.revision for reader in await store.faults.readers(60_000)] == [2]
    await game_day.leave()
    assert await store.faults.readers(60_000) == []
