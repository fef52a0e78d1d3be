"""What a store tells of the way of one key."""

from __future__ import annotations

from orderflow.core.inbox import InboxState
from orderflow.core.operations.model import Trail
from orderflow.core.operations.port import OperatedStore
from tests.conformance.store_values import CONSUMER, changes, commit, entry, event_id, intent, outgoing, park, parked
from tests.support.waiting import eventually

KEY = "key-1"


async def test_a_key_of_which_nothing_is_known_has_an_empty_trail(store: OperatedStore) -> None:
    await commit(store, changes(inbox=[entry("another", "a")]))

    assert await store.recovery.trail(KEY) == Trail(received=[], unsent=[], asked=[])


async def test_what_came_in_is_told_with_its_state(store: OperatedStore) -> None:
    await commit(
        store, changes(inbox=[entry(KEY, "a"), entry(KEY, "b", InboxState.DISCARDED), entry("another", "a")])
    )
    await park(store, parked(KEY, "c"))
    received = (await store.recovery.trail(KEY)).received

    assert [(each.consumer, each.identity, each.state) for each in received] == [
        (CONSUMER, "a", "done"),
        (CONSUMER, "b", "discarded"),
        (CONSUMER, "c", "parked"),
    ]
    assert received[0].event_id == event_id(f"{KEY}/a")


async def test_what_is_written_is_unsent_until_it_is_marked(store: OperatedStore) -> None:
    await commit(store, changes(outbox=[outgoing(KEY, b"1"), outgoing("another"), outgoing(KEY, b"2")]))
    reader = store.outbox()
    await eventually(reader.claim_slots)
    rows = {row.event_id: row.id for row in await reader.unsent(10)}
    first, second = (await store.recovery.trail(KEY)).unsent
    assert (first.topic, first.event_id) == ("parcel-events", event_id(f"{KEY}/b'1'"))
    assert second.event_id == event_id(f"{KEY}/b'2'")

    await reader.mark_sent([rows[first.event_id]])
    assert (await store.recovery.trail(KEY)).unsent == [second]


async def test_what_the_outbox_has_of_a_key_is_told_sent_or_not(store: OperatedStore) -> None:
    await commit(store, changes(outbox=[outgoing(KEY, b"1"), outgoing("another"), outgoing(KEY, b"\xff")]))
    reader = store.outbox()
    await eventually(reader.claim_slots)
    first = next(row.id for row in await reader.unsent(10) if row.value == b"1")
    await reader.mark_sent([first])
    found = await store.recovery.outbox_of(KEY)

    assert [(each.topic, each.event_id, each.value.to_bytes()) for each in found] == [
        ("parcel-events", event_id(f"{KEY}/b'1'"), b"1"),
        ("parcel-events", event_id(f"{KEY}/b'\\xff'"), b"\xff"),
    ]
    assert found[0].at <= found[1].at
    assert await store.recovery.outbox_of("nobody") == []


async def test_what_the_outside_world_was_asked_is_told_until_it_answers(store: OperatedStore) -> None:
    await commit(store, changes(opened=[intent(KEY), intent("another")]))
    (asked,) = (await store.recovery.trail(KEY)).asked
    assert (asked.key, asked.kind, asked.attempts) == (f"charge:{KEY}", "charge", 0)
    assert asked.since <= asked.due_at

    await commit(store, changes(closed_intents=[asked.key]))
    assert (await store.recovery.trail(KEY)).asked == []
