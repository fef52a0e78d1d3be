"""The clock of the database was ahead for a while, for both stores: what was dated meanwhile does not wait for it.

A store that knows no wait as long as an hour stands for one whose clock was an hour ahead when it wrote.
"""

from __future__ import annotations

import pytest

from orderflow.core.operations.model import ReplayPlan
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Act, Due, WorkKind
from tests.conformance.store_backends import Backend
from tests.conformance.store_values import CONSUMER, changes, commit, dead, intent, park, parked, queue, sequence
from tests.support.callers import person

HOUR_MS = 3_600_000
LONGEST_MS = 60_000
WAITING_MS = 30_000


@pytest.fixture
async def store(backend: Backend) -> OperatedStore:
    return await backend.open(longest_wait_ms=LONGEST_MS)


async def due(store: OperatedStore) -> set[tuple[WorkKind, int, str]]:
    found: list[Due] = list((await store.standing([CONSUMER], HOUR_MS)).due)
    return {(each.kind, each.count, each.oldest) for each in found}


async def test_parked_events_dated_ahead_are_due_and_those_that_wait_are_not(store: OperatedStore) -> None:
    await park(store, parked("ahead", "1", delay_ms=HOUR_MS), parked("ahead", "2", attempts=0))
    await park(store, parked("waits", "1", delay_ms=WAITING_MS), dead("dead", "1", delay_ms=HOUR_MS))

    assert await store.due_keys(CONSUMER, 10) == ["ahead"]
    assert await queue(store, "ahead") == ["1", "2"]
    assert await queue(store, "waits") == []
    (head, _) = await sequence(store, "ahead")
    assert await due(store) == {(WorkKind.RETRY, 1, f"{head.position}/1")}


async def test_intents_dated_ahead_are_claimed_and_those_that_wait_are_not(store: OperatedStore) -> None:
    await commit(store, changes(opened=[intent("a"), intent("b"), intent("c")], lease_ms=HOUR_MS))
    await commit(store, changes(opened=[intent("waits")], lease_ms=WAITING_MS))

    assert await due(store) == {(WorkKind.INTENT, 3, "charge:a/0")}
    first, rest = await store.claim_intents(2, WAITING_MS), await store.claim_intents(10, WAITING_MS)
    assert sorted(each.key for each in (*first, *rest)) == ["a", "b", "c"]
    assert len(first) == 2
    assert await store.claim_intents(10, WAITING_MS) == []
    assert await due(store) == set()


async def test_a_replay_leased_ahead_goes_on_elsewhere(store: OperatedStore, backend: Backend) -> None:
    await park(store, dead("k", "1"))
    (event,) = await sequence(store, "k")
    begun = await store.recovery.begin_replay([event.position], ReplayPlan(), Act(caller=person("ada")), 0, "all")
    number = begun.number
    assert await store.recovery.claim_replay(HOUR_MS) is not None
    other = await backend.open(longest_wait_ms=LONGEST_MS)

    claimed = await other.recovery.claim_replay(WAITING_MS)
    assert claimed is not None
    assert claimed.number == number
    assert await store.recovery.claim_replay(WAITING_MS) is None
