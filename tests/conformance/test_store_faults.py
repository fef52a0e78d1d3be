"""The fault port: what every process of a service reads, and what it confirms."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from orderflow.core.game_days.fault import Fault, FaultKind, FaultReader, FaultStore
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Act, StoreUnavailableError
from tests.conformance.store_backends import Backend
from tests.support.callers import person
from tests.support.waiting import eventually

LONG_MS = 60_000
ADA = Act(caller=person("ada"), reason="an exercise")


@pytest.fixture
def faults(backend: Backend, store: OperatedStore) -> FaultStore:
    assert store
    return backend.faults()


def fault(value: str = "CUP", **others: object) -> Fault:
    made = {"event_type": "shop.Bought", "field": "sku", "error": FaultKind.HANG, "share": 0.25, **others}
    return Fault(value=value, **made)  # type: ignore[arg-type]  # the names are those of the struct


async def test_a_fault_comes_back_as_it_was_set_with_an_id_that_is_never_given_again(faults: FaultStore) -> None:
    assert (await faults.current()).faults == ()

    first = await faults.add(fault("a b=c \u2603"), ADA)
    second = await faults.add(fault("MILK", error=FaultKind.PERMANENT, share=1.0), ADA)

    assert first.faults[0] == fault("a b=c \u2603", id=first.faults[0].id)
    assert (await faults.current()).faults == (*first.faults, *second.faults)
    await faults.clear(None, ADA)
    third = await faults.add(fault(), ADA)
    assert first.faults[0].id < second.faults[0].id < third.faults[0].id


async def test_every_change_makes_the_revision_one_higher(faults: FaultStore) -> None:
    begun = (await faults.current()).revision
    assert begun == 1
    added = await faults.add(fault(), ADA)
    other = await faults.add(fault("MILK"), ADA)
    cleared = await faults.clear(added.faults[0].id, ADA)
    nothing = await faults.clear(added.faults[0].id, ADA)
    rest = await faults.clear(None, ADA)
    again = await faults.clear(None, ADA)

    changes = (added, other, cleared, nothing, rest, again)
    assert [each.revision - begun for each in changes] == [1, 2, 3, 3, 4, 4]
    assert (cleared.faults, nothing.faults, rest.faults) == (added.faults, (), other.faults)
    assert (await faults.current()).revision == again.revision


async def test_changes_at_the_same_time_are_one_after_the_other(backend: Backend, faults: FaultStore) -> None:
    await backend.open()
    other = backend.faults()

    found = await asyncio.gather(*(each.add(fault(str(n)), ADA) for n in range(10) for each in (faults, other)))

    assert sorted(each.revision for each in found) == list(range(2, 22))
    assert len((await faults.current()).faults) == 20


async def test_a_process_is_told_what_is_set_and_counts_until_it_leaves(backend: Backend, faults: FaultStore) -> None:
    one, two = UUID(int=1), UUID(int=2)
    await backend.open()
    other = backend.faults()
    assert (await faults.follow(one, 0)).revision == 1
    await other.follow(two, 0)
    added = await faults.add(fault(), ADA)

    assert await other.follow(two, 1) == added
    await other.follow(two, added.revision)

    assert await faults.readers(LONG_MS) == [
        FaultReader(process=one, revision=0),
        FaultReader(process=two, revision=added.revision),
    ]
    await faults.leave(one)
    await faults.leave(one)
    assert [each.process for each in await faults.readers(LONG_MS)] == [two]


async def test_a_process_that_is_silent_is_forgotten_until_it_speaks_again(faults: FaultStore) -> None:
    dead = uuid4()
    await faults.follow(dead, 0)

    async def nobody() -> bool:
        return await faults.readers(50) == []

    await eventually(nobody)
    assert await faults.readers(LONG_MS) == []
    await faults.follow(dead, 1)
    assert await faults.readers(LONG_MS) == [FaultReader(process=dead, revision=1)]


async def test_what_is_set_outlives_every_process(backend: Backend, store: OperatedStore, faults: FaultStore) -> None:
    added = await faults.add(fault(), ADA)
    await backend.crash(store)
    await backend.open()

    assert await backend.faults().current() == added


async def test_a_database_that_is_away_is_told_as_such(backend: Backend, faults: FaultStore) -> None:
    backend.go_down()
    try:
        for call in (faults.current(), faults.add(fault(), ADA), faults.follow(uuid4(), 0)):
            with pytest.raises(StoreUnavailableError):
                await call
    finally:
        backend.come_back()
