"""Events that an operator has edited, for both stores."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orderflow.core.inbox import EditedEvent, InboxEntry, InboxState
from orderflow.core.operations.model import LetterFilter, Moment, StoredLetter
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import DataRefusedError, ParkedQuery, Plan
from orderflow.core.transport import ConsumerRecord
from tests.conformance.store_values import CONSUMER, changes, dead, end, event_id, park, parked, sequence, waiting

RECORD = ConsumerRecord("elsewhere", 9, 9, b"k", b'{"mended": true}', (("ce_id", b"new"),), 9)


async def edit(store: OperatedStore, key: str, identity: str, record: ConsumerRecord = RECORD) -> EditedEvent:
    """Put another event in the place of the key's head, as the recovery does it."""
    async with store.transaction() as tx:
        found = await tx.open(Plan(CONSUMER, [(key, identity)], parked=ParkedQuery([key], 1, due=False)))
        (head,) = found.parked
        edited = EditedEvent(
            position=head.position,
            event_id=event_id(f"{key}/{identity}"),
            identity=identity,
            event_type="Sent.v2",
            record=record,
            who="ada",
        )
        entries = [
            InboxEntry(key, head.identity, head.event_id, InboxState.DISCARDED),
            InboxEntry(key, identity, edited.event_id, head.state),
        ]
        await tx.commit(changes(inbox=entries, edited=[edited]))
    return edited


async def letter_of(store: OperatedStore, name: str) -> StoredLetter:
    letter = await store.recovery.letter(event_id(name))
    assert letter is not None
    return letter


async def test_an_edited_event_takes_the_place_of_the_one_that_failed(store: OperatedStore) -> None:
    await park(store, dead("k", "1", intent="charge:k"), parked("k", "2", attempts=0), dead("l", "1"))
    before, held = await sequence(store, "k")
    edited = await edit(store, "k", "1 edited")
    after, still_held = await sequence(store, "k")
    came = replace(before.record, key=RECORD.key, value=RECORD.value, headers=RECORD.headers)
    expected = replace(
        before, event_id=edited.event_id, identity="1 edited", event_type="Sent.v2", record=came, replays=0
    )
    assert after == expected
    assert still_held == held
    assert (await letter_of(store, "l/1")).original is None


async def test_the_original_is_seen_with_the_edited_event_and_found_by_its_id(store: OperatedStore) -> None:
    await park(store, dead("k", "1"), dead("l", "1"))
    before = await letter_of(store, "k/1")
    edited = await edit(store, "k", "1 edited")
    after = await letter_of(store, "k/1 edited")
    assert (after.original, after.original_id) == (before.event.record, before.event.event_id)
    assert (after.letter.parked_at, after.letter.next_attempt_at) == (
        before.letter.parked_at,
        before.letter.next_attempt_at,
    )
    assert (before.letter.edited, after.letter.edited) == (False, True)
    assert await letter_of(store, "k/1") == after
    for state in (None, InboxState.DEAD):
        wanted = LetterFilter(state=state, events=(event_id("k/1"),))
        assert await store.recovery.letters(wanted, 10) == [after.letter]
        wanted = LetterFilter(state=state, events=(edited.event_id,))
        assert await store.recovery.letters(wanted, 10) == [after.letter]
    (group,) = await store.recovery.groups(LetterFilter(events=(event_id("k/1"),)))
    assert group.event_types == ("Sent.v2",)


async def test_a_second_edit_leaves_the_first_original(store: OperatedStore) -> None:
    await park(store, dead("k", "1"))
    first = await letter_of(store, "k/1")
    await edit(store, "k", "1 edited")
    await edit(store, "k", "1 edited again", replace(RECORD, key=None, value=None, headers=()))
    after = await letter_of(store, "k/1")
    assert after.event.identity == "1 edited again"
    assert (after.event.record.key, after.event.record.value, after.event.record.headers) == (None, None, ())
    assert (after.original, after.original_id) == (first.event.record, first.event.event_id)


async def test_the_history_tells_who_edited_and_is_found_by_either_id(store: OperatedStore) -> None:
    await park(store, dead("k", "1"))
    await edit(store, "k", "1 edited")
    for name in ("k/1", "k/1 edited"):
        told = await store.recovery.history(event_id(name))
        assert [(each.moment, each.who, each.attempt) for each in told] == [
            (Moment.DEAD, "", 6),
            (Moment.EDITED, "ada", 6),
        ]
    await end(store, "k")
    assert len(await store.recovery.history(event_id("k/1"))) == 3


async def test_the_original_and_the_edited_event_are_both_known_when_they_come_again(store: OperatedStore) -> None:
    await park(store, dead("k", "1"))
    await edit(store, "k", "1 edited")
    await end(store, "k")
    async with store.transaction() as tx:
        found = await tx.open(Plan(CONSUMER, [("k", "1"), ("k", "1 edited")]))
    assert found.known == {("k", "1"): InboxState.DISCARDED, ("k", "1 edited"): InboxState.DONE}
    assert found.closed == set()


async def test_what_is_not_parked_cannot_be_edited(store: OperatedStore) -> None:
    edited = EditedEvent(
        position=987, event_id=event_id("k/1"), identity="1", event_type="Sent.v1", record=RECORD, who="ada"
    )
    with pytest.raises(DataRefusedError):
        async with store.transaction() as tx:
            await tx.commit(changes(edited=[edited]))


async def test_an_edited_event_that_the_inbox_does_not_know_is_refused(store: OperatedStore) -> None:
    await park(store, dead("k", "1"))
    with pytest.raises(DataRefusedError) as refused:
        async with store.transaction() as tx:
            (head,) = await waiting(tx, "k")
            edited = EditedEvent(
                position=head.position,
                event_id=event_id("k/unknown"),
                identity="unknown",
                event_type="Sent.v1",
                record=RECORD,
                who="ada",
            )
            await tx.commit(changes(edited=[edited]))
    assert refused.value.constraint == "parked_events_in_inbox"
    letter = await letter_of(store, "k/1")
    assert (letter.event.identity, letter.original) == ("1", None)
