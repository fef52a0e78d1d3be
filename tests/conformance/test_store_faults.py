"""The fault port: what every process of a service reads, and what it confirms."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from orderflow.messaging.faults.port import Fault, FaultKind, FaultReader
from orderflow.messaging.store import Store, StoreUnavailableError
from tests.conformance.store_backends import Backend
from tests.support.waiting import eventually

LONG_MS = 60_000


def fault(value: str = "CUP", **others: object) -> Fault:
    made = {"event_type": "shop.Bought", "field": "sku", "error": FaultKind.HANG, "share": 0.25, **others}
    return Fault(value=value, **made)  # type: ignore[arg-type]  # the names are those of the struct


async def test_a_fault_comes_back_as_it_was_set_with_an_id_that_is_never_given_again(store: Store) -> None:
    assert (await store.faults.current()).faults == ()

    first = await store.faults.add(fault("a b=c \u2603"))
    second = await store.faults.add(fault("MILK", error=FaultKind.PERMANENT, share=1.0))

    assert first.faults[0] == fault("a b=c \u2603", id=first.faults[0].id)
    assert (await store.faults.current()).faults == (*first.faults, *second.faults)
    await store.faults.clear(None)
    third = await store.faults.add(fault())
    assert first.faults[0].id < second.faults[0].id < third.faults[0].id


async def test_every_change_makes_the_revision_one_higher(store: Store) -> None:
    begun = (await store.faults.current()).revision
    assert begun == 1
    added = await store.faults.add(fault())
    other = await store.faults.add(fault("MILK"))
    cleared = await store.faults.clear(added.faults[0].id)
    nothing = await store.faults.clear(added.faults[0].id)
    rest = await store.faults.clear(None)
    again = await store.faults.clear(None)

    changes = (added, other, cleared, nothing, rest, again)
    assert [each.revision - begun for each in changes] == [1, 2, 3, 3, 4, 4]
    assert (cleared.faults, nothing.faults, rest.faults) == (added.faults, (), other.faults)
    assert (await store.faults.current()).revision == again.revision


async def test_changes_at_the_same_time_are_one_after_the_other(backend: Backend, store: Store) -> None:
    other = await backend.open()

    found = await asyncio.gather(*(each.faults.add(fault(str(n))) for n in range(10) for each in (store, other)))

    assert sorted(each.revision for each in found) == list(range(2, 22))
    assert len((await store.faults.current()).faults) == 20


async def test_a_process_is_told_what_is_set_and_counts_until_it_leaves(backend: Backend, store: Store) -> None:
    one, two = UUID(int=1), UUID(int=2)
    other = await backend.open()
    assert (await store.faults.follow(one, 0)).revision == 1
    await other.faults.follow(two, 0)
    added = await store.faults.add(fault())

    assert await other.faults.follow(two, 1) == added
    await other.faults.follow(two, added.revision)

    assert await store.faults.readers(LONG_MS) == [
        FaultReader(process=one, revision=0),
        FaultReader(process=two, revision=added.revision),
    ]
    await store.faults.leave(one)
    await store.faults.leave(one)
    assert [each.process for each in await store.faults.readers(LONG_MS)] == [two]


async def test_a_process_that_is_silent_is_forgotten_until_it_speaks_again(store: Store) -> None:
    dead = uuid4()
    await store.faults.follow(dead, 0)

    async def nobody() -> bool:
        return await store.faults.readers(50) == []

    await eventually(nobody)
    assert await store.faults.readers(LONG_MS) == []
    await store.faults.follow(dead, 1)
    assert await store.faults.readers(LONG_MS) == [FaultReader(process=dead, revision=1)]


async def test_what_is_set_outlives_every_process(backend: Backend, store: Store) -> None:
    added = await store.faults.add(fault())
    await backend.crash(store)

    assert await (await backend.open()).faults.current() == added


async def test_a_database_that_is_away_is_told_as_such(backend: Backend, store: Store) -> None:
    backend.go_down()
    try:
        for call in (store.faults.current(), store.faults.add(fault()), store.faults.follow(uuid4(), 0)):
            with pytest.raises(StoreUnavailableError):
                await call
    finally:
        backend.come_back()
