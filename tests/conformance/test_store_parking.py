"""Parked, held and dead events, for both stores."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orderflow.core.inbox import InboxState
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Changes, DataRefusedError
from tests.conformance.store_values import (
    CONSUMER,
    FAILURE,
    as_given,
    changes,
    commit,
    dead,
    entry,
    event_id,
    park,
    parked,
    queue,
    sequence,
    waiting,
)
from tests.support.waiting import eventually

HOUR_MS = 3_600_000


async def test_a_parked_event_comes_back_byte_for_byte(store: OperatedStore) -> None:
    event = parked("k", "1", intent="charge:k")
    nothing = parked("l", "1", attempts=0)
    nothing = replace(nothing, record=replace(nothing.record, key=None, value=None, headers=(), topic=""))
    await park(store, event, nothing)
    async with store.transaction() as tx:
        found = await waiting(tx, "k", "l", "unknown", "k", limit=10, due=True)
    assert [as_given(each) for each in found] == [event, nothing]
    assert 0 < found[0].position < found[1].position


async def test_events_of_a_key_come_in_the_order_in_which_they_were_parked(store: OperatedStore) -> None:
    await park(store, parked("k", "9"), parked("k", "1", attempts=0), parked("l", "5"))
    await park(store, parked("k", "5", attempts=0))
    assert await queue(store, "k") == ["9", "1", "5"]
    assert await queue(store, "k", limit=2) == ["9", "1"]


async def test_the_limit_counts_for_each_key(store: OperatedStore) -> None:
    await park(store, parked("k", "1"), parked("l", "1"), parked("k", "2", attempts=0), parked("l", "2", attempts=0))
    async with store.transaction() as tx:
        found = await waiting(tx, "l", "k", due=True)
    assert [(event.key, event.identity) for event in found] == [("k", "1"), ("l", "1")]


async def test_a_key_is_due_when_its_head_is_and_not_before(store: OperatedStore) -> None:
    await park(store, parked("later", "1", delay_ms=HOUR_MS), parked("later", "2", attempts=0))
    await park(store, parked("soon", "1", delay_ms=50), parked("soon", "2", attempts=0))
    assert await eventually(lambda: store.due_keys(CONSUMER, 10)) == ["soon"]
    assert await queue(store, "soon") == ["1", "2"]
    assert await queue(store, "later") == []


async def test_what_is_held_behind_a_dead_head_stays_held(store: OperatedStore) -> None:
    await park(store, parked("k", "1", state=InboxState.DEAD), parked("k", "2", attempts=0))
    assert await store.due_keys(CONSUMER, 10) == []
    assert await queue(store, "k") == []


async def test_keys_are_given_longest_due_first_and_by_consumer(store: OperatedStore) -> None:
    other = Changes(consumer="other", inbox=[entry("a", "1")], parked=[parked("a", "1")])
    await commit(store, other)
    await park(store, parked("b", "1"))
    await park(store, parked("a", "1", delay_ms=20), parked("c", "1", delay_ms=10))

    async def all_due() -> bool:
        return len(await store.due_keys(CONSUMER, 10)) == 3

    await eventually(all_due)
    assert await store.due_keys(CONSUMER, 10) == ["b", "c", "a"]
    assert await store.due_keys(CONSUMER, 2) == ["b", "c"]
    assert await store.due_keys("other", 10) == ["a"]


async def test_keys_whose_head_is_of_a_type_to_be_left_are_not_given(store: OperatedStore) -> None:
    left, other = parked("a", "1"), replace(parked("b", "1"), event_type="other")
    await park(store, left, other, replace(parked("a", "2", attempts=0), event_type="other"))
    assert await store.due_keys(CONSUMER, 10, [left.event_type, "unheard of"]) == ["b"]


async def test_a_failed_attempt_replaces_what_was_known_of_the_event(store: OperatedStore) -> None:
    await park(store, parked("k", "1"))
    first = await store.recovery.letter(event_id("k/1"))
    async with store.transaction() as tx:
        (event,) = await waiting(tx, "k", due=True)
        worse = replace(FAILURE, error="ValueError")
        await tx.commit(changes(reparked=[replace(event, attempts=2, failure=worse, delay_ms=HOUR_MS)]))
    assert await store.due_keys(CONSUMER, 10) == []
    view = await store.recovery.letter(event.position)
    assert view is not None
    assert (view.event.attempts, view.event.failure) == (2, worse)
    assert first is not None
    before, now = first.letter, view.letter
    assert before.first_failed_at is not None
    assert now.last_failed_at is not None
    assert (now.parked_at, now.first_failed_at) == (before.parked_at, before.first_failed_at)
    assert before.first_failed_at <= now.last_failed_at < now.next_attempt_at


async def test_a_released_event_lets_the_next_one_be_the_head(store: OperatedStore) -> None:
    await park(store, parked("k", "1"), parked("k", "2", attempts=0), parked("k", "3", attempts=0))
    async with store.transaction() as tx:
        first, second = await waiting(tx, "k", limit=2, due=True)
        await tx.commit(changes(inbox=[entry("k", "1"), entry("k", "2")], released=[first.position, second.position]))
    assert await store.due_keys(CONSUMER, 10) == ["k"]
    assert await queue(store, "k") == ["3"]


async def test_a_held_event_that_fails_as_head_gets_its_times(store: OperatedStore) -> None:
    await park(store, parked("k", "1", attempts=0))
    async with store.transaction() as tx:
        (event,) = await waiting(tx, "k", due=True)
        await tx.commit(changes(reparked=[replace(event, attempts=1, failure=FAILURE)]))
    view = await store.recovery.letter(event_id("k/1"))
    assert view is not None
    assert view.letter.first_failed_at == view.letter.last_failed_at
    assert view.letter.first_failed_at is not None


@pytest.mark.parametrize("field", ["released", "reparked"])
async def test_what_is_not_parked_can_neither_be_released_nor_fail_again(store: OperatedStore, field: str) -> None:
    ghost = 12345 if field == "released" else parked("k", "1", position=12345)
    with pytest.raises(DataRefusedError):
        await commit(store, changes(**{field: [ghost]}))


async def test_an_event_is_parked_once(store: OperatedStore) -> None:
    await park(store, parked("k", "1"))
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(parked=[parked("k", "1")]))
    assert refused.value.constraint == "parked_events_once"


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("parked_events_in_inbox", {}),
        ("parked_events_state_waits", {"state": InboxState.DONE}),
        ("parked_events_dead_was_tried", {"state": InboxState.DEAD, "attempts": 0}),
        ("parked_events_attempts_not_negative", {"attempts": -1}),
    ],
)
async def test_a_parked_event_that_makes_no_sense_is_refused(
    store: OperatedStore, constraint: str, fields: dict[str, object]
) -> None:
    inbox = [] if constraint == "parked_events_in_inbox" else [entry("k", "1", InboxState.PARKED)]
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(parked=[parked("k", "1", **fields)], inbox=inbox))
    assert refused.value.constraint == constraint


async def test_a_failure_and_its_count_belong_together(store: OperatedStore) -> None:
    event = replace(parked("k", "1"), failure=None)
    with pytest.raises(DataRefusedError) as refused:
        await park(store, event)
    assert refused.value.constraint == "parked_events_failure_whole"


async def test_a_sequence_is_all_that_is_parked_of_a_key_whatever_its_state(store: OperatedStore) -> None:
    await park(store, dead("k", "1"), parked("k", "2", attempts=0), parked("l", "1"))
    await park(store, parked("k", "3", attempts=0, delay_ms=HOUR_MS))
    assert [event.identity for event in await sequence(store, "k")] == ["1", "2", "3"]
    assert [event.identity for event in await sequence(store, "k", limit=2)] == ["1", "2"]
    assert [event.state for event in await sequence(store, "k")] == [InboxState.DEAD, *[InboxState.PARKED] * 2]
    assert await sequence(store, "unknown") == []
    async with store.transaction() as tx:
        assert await waiting(tx, "k", limit=10, consumer="other") == []


async def test_what_a_sequence_has_shown_can_be_replaced_in_the_inbox(store: OperatedStore) -> None:
    await park(store, dead("k", "1"))
    async with store.transaction() as tx:
        (event,) = await waiting(tx, "k", limit=10)
        await tx.commit(changes(inbox=[entry("k", "1", InboxState.DISCARDED)], released=[event.position]))
    assert await sequence(store, "k") == []


async def test_parked_keys_are_counted_up_to_a_limit(store: OperatedStore) -> None:
    assert await store.parked_keys(CONSUMER, 10) == 0
    other = Changes(consumer="other", inbox=[entry("z", "1")], parked=[parked("z", "1")])
    await commit(store, other)
    await park(store, dead("a", "1"), parked("b", "1"), parked("b", "2", attempts=0), parked("c", "1"))
    assert await store.parked_keys(CONSUMER, 10) == 3
    assert await store.parked_keys(CONSUMER, 3) == 3
    assert await store.parked_keys(CONSUMER, 2) == 2


async def test_the_first_failure_is_remembered_with_the_event(store: OperatedStore) -> None:
    await park(store, parked("k", "1"), parked("l", "1", attempts=0))
    (first,) = await sequence(store, "k")
    (held,) = await sequence(store, "l")
    found = await store.recovery.letter(first.position)
    assert found is not None
    letter = found.letter
    assert letter.first_failed_at is not None
    assert first.first_failed_at == int(letter.first_failed_at.timestamp() * 1000)
    assert held.first_failed_at is None

    async def failed_later() -> bool:
        await commit(store, changes(reparked=[replace(first, attempts=2)]))
        last = await store.recovery.letter(first.position)
        assert last is not None
        failed_at = last.letter.last_failed_at
        assert failed_at is not None
        return failed_at.timestamp() - letter.parked_at.timestamp() > 0.002

    await eventually(failed_later)
    (again,) = await sequence(store, "k")
    assert again.first_failed_at == first.first_failed_at
