"""Intents: opened with their cause, leased, asked again, closed, for both stores."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from orderflow.core.store import DataRefusedError, End, OpenIntent, Store
from tests.conformance.store_values import changes, commit, intent
from tests.support.waiting import eventually

LONG_MS = 3_600_000


async def claim(store: Store) -> Sequence[OpenIntent]:
    return await store.claim_intents(10, LONG_MS)


async def test_an_opened_intent_belongs_to_its_writer_until_the_lease_ends(store: Store) -> None:
    await commit(store, changes(opened=[intent("a")], lease_ms=LONG_MS))
    await commit(store, changes(opened=[intent("b")], lease_ms=50))
    assert await eventually(lambda: claim(store)) == [intent("b")]
    assert await claim(store) == []


async def test_a_lease_that_ends_without_an_answer_is_given_to_another(store: Store) -> None:
    await commit(store, changes(opened=[intent("a")], lease_ms=0))
    assert await eventually(lambda: store.claim_intents(10, 50)) == [intent("a")]
    assert await eventually(lambda: claim(store)) == [intent("a")]
    assert await claim(store) == []


async def test_a_claim_takes_no_more_than_asked_for_longest_due_first(store: Store) -> None:
    for name in ("c", "a", "b"):
        await commit(store, changes(opened=[intent(name)], lease_ms=0))

    async def claim_one() -> str:
        (one,) = await eventually(lambda: store.claim_intents(1, LONG_MS))
        return one.key

    assert {await claim_one(), await claim_one(), await claim_one()} == {"a", "b", "c"}
    assert await claim(store) == []


async def test_an_intent_that_is_open_is_not_opened_again(store: Store) -> None:
    await commit(store, changes(opened=[intent("a")]))
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(opened=[intent("a")]))
    assert refused.value.constraint == "intents_once"


async def test_a_postponed_intent_waits_for_its_delay_and_keeps_its_count(store: Store) -> None:
    await commit(store, changes(opened=[intent("a"), intent("b")], lease_ms=0))
    soon = replace(intent("a"), attempts=1, delay_ms=50)
    await commit(store, changes(postponed=[soon, replace(intent("b"), attempts=1, delay_ms=LONG_MS)]))
    assert await eventually(lambda: claim(store)) == [replace(soon, delay_ms=0)]
    assert await claim(store) == []


async def test_a_closed_intent_is_gone_and_may_be_closed_twice(store: Store) -> None:
    await commit(store, changes(opened=[intent("a"), intent("b")], lease_ms=0))
    await commit(store, changes(closed_intents=["charge:a"]))
    await commit(store, changes(closed_intents=["charge:a", "charge:unknown"]))
    assert [each.key for each in await eventually(lambda: claim(store))] == ["b"]
    await commit(store, changes(opened=[intent("a")]))


async def test_an_intent_may_be_closed_and_opened_in_one_batch(store: Store) -> None:
    await commit(store, changes(opened=[intent("a")]))
    await commit(store, changes(closed_intents=["charge:a"], opened=[intent("a")], lease_ms=0))
    assert len(await eventually(lambda: claim(store))) == 1


async def test_an_intent_that_was_not_committed_is_never_asked(store: Store) -> None:
    with pytest.raises(RuntimeError):
        async with store.transaction() as tx:
            await tx.commit(changes(opened=[intent("a")], lease_ms=0), End.ROLLBACK)
            raise RuntimeError
    assert await claim(store) == []
