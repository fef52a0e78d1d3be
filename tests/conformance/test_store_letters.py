"""What operators see of parked events, for both stores: letters, groups, history, notes, their log."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
from msgspec.structs import replace

from orderflow.core.inbox import Failure, InboxEntry, InboxState, ParkedEvent, Waits
from orderflow.core.operations.model import LetterFilter, Moment
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Act, Changes, DataRefusedError, End, LogEntry
from tests.conformance.store_values import (
    CONSUMER,
    FAILURE,
    as_given,
    changes,
    commit,
    dead,
    end,
    entry,
    event_id,
    fail,
    park,
    parked,
    sequence,
    waiting,
)
from tests.support.callers import person
from tests.support.waiting import eventually

ADA = Act(caller=person("ada"), reason="she knows")
NAMES = [
    f"{key}/{number}"
    for key in ("k", "plain", "topic", "type", "failure", "consumer", "retried")
    for number in (1, 2)
]
OTHER_FAILURE = Failure("unknown", "ValueError", "not a number", "ValueError@model.py:9")


async def names(store: OperatedStore, wanted: LetterFilter, limit: int = 100) -> list[str]:
    named = {event_id(name): name for name in NAMES}
    return [named[each.event_id] for each in await store.recovery.letters(wanted, limit)]


async def test_operators_see_the_dead_a_page_at_a_time(store: OperatedStore) -> None:
    events = [dead(key, "1") for key in ("a", "b", "c")]
    await park(store, *events, parked("a", "2", attempts=0), parked("d", "1"))
    first = await store.recovery.letters(LetterFilter(), 2)
    rest = await store.recovery.letters(LetterFilter(), 2, after=first[-1].position)
    assert [letter.key for letter in (*first, *rest)] == ["a", "b", "c"]
    assert [view.consumer for view in first] == [CONSUMER, CONSUMER]
    found = await store.recovery.letter(first[0].position)
    assert found is not None
    assert (found.letter, as_given(found.event)) == (first[0], events[0])
    assert await store.recovery.letters(LetterFilter(), 2, after=rest[-1].position) == []


async def test_operators_find_an_event_by_its_id_or_position(store: OperatedStore) -> None:
    await park(store, parked("k", "1"))
    by_id = await store.recovery.letter(event_id("k/1"))
    assert by_id is not None
    assert await store.recovery.letter(by_id.event.position) == by_id
    assert await store.recovery.letter(event_id("unknown")) is None
    assert await store.recovery.letter(987) is None


async def test_operators_find_events_by_the_end_of_their_id_also_when_they_wait_no_longer(
    store: OperatedStore,
) -> None:
    await park(store, dead("k", "1"), parked("k", "2", attempts=0))
    for name in ("k/1", "k/2"):
        assert await store.recovery.events_ending(event_id(name).hex[-8:], 10) == [event_id(name)]
    await end(store, "k")
    assert await store.recovery.events_ending(event_id("k/1").hex[-20:], 10) == [event_id("k/1")]
    assert await store.recovery.events_ending("0" * 8, 10) == []


async def test_operators_see_what_is_stuck_by_consumer(store: OperatedStore) -> None:
    assert await store.recovery.summary() == []
    await park(store, dead("a", "1"), parked("a", "2", attempts=0), parked("b", "1"))
    (line,) = await store.recovery.summary()
    assert (line.consumer, line.keys, line.retrying, line.dead, line.held) == (CONSUMER, 2, 1, 1, 1)
    assert line.oldest.tzinfo is not None


async def several(store: OperatedStore) -> None:
    """Dead ones that differ in one thing each, one that is held, one that is tried again."""
    plain = dead("plain", "1")
    await park(
        store,
        plain,
        replace(dead("topic", "1"), record=replace(plain.record, topic="others")),
        replace(dead("type", "1"), event_type="Lost.v1"),
        replace(dead("failure", "1"), failure=OTHER_FAILURE),
        parked("plain", "2", attempts=0),
        parked("retried", "1"),
    )
    await commit(store, Changes(consumer="other", inbox=[entry("consumer", "1")], parked=[dead("consumer", "1")]))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (LetterFilter(), ["plain/1", "topic/1", "type/1", "failure/1", "consumer/1"]),
        (LetterFilter(state=InboxState.PARKED), ["plain/2", "retried/1"]),
        (LetterFilter(state=None, key="plain"), ["plain/1", "plain/2"]),
        (LetterFilter(key="plain"), ["plain/1"]),
        (LetterFilter(consumer="other"), ["consumer/1"]),
        (LetterFilter(topic="others"), ["topic/1"]),
        (LetterFilter(event_type="Lost.v1"), ["type/1"]),
        (LetterFilter(fingerprint=OTHER_FAILURE.fingerprint), ["failure/1"]),
        (LetterFilter(fingerprint=OTHER_FAILURE.fingerprint, key="plain"), []),
        (LetterFilter(older_than_ms=3_600_000), []),
        (LetterFilter(state=None, older_than_ms=3_600_000), []),
        (LetterFilter(older_than_ms=2**53), []),
        (LetterFilter(state=None, older_than_ms=2**53), []),
        (LetterFilter(events=()), []),
        (LetterFilter(events=(event_id("type/1"), event_id("plain/2"), event_id("unknown"), 987)), ["type/1"]),
        (LetterFilter(state=None, events=(event_id("plain/2"), event_id("type/1"))), ["type/1", "plain/2"]),
    ],
)
async def test_a_filter_narrows_by_each_of_its_fields(
    store: OperatedStore, wanted: LetterFilter, found: list[str]
) -> None:
    await several(store)
    assert await names(store, wanted) == found


@pytest.mark.parametrize("state", [None, InboxState.DEAD])
async def test_events_are_named_by_positions_too(store: OperatedStore, state: InboxState | None) -> None:
    await several(store)
    positions = [each.position for each in await store.recovery.letters(LetterFilter(), 10)]
    wanted = LetterFilter(state=state, events=(positions[2], event_id("plain/1")))
    assert await names(store, wanted) == ["plain/1", "type/1"]
    assert await names(store, wanted, limit=1) == ["plain/1"]


async def test_an_age_is_counted_from_when_it_was_parked(store: OperatedStore) -> None:
    await park(store, dead("k", "1"))

    async def old() -> list[str]:
        return await names(store, LetterFilter(older_than_ms=30))

    assert await eventually(old) == ["k/1"]
    await fail(store, "k")
    assert await old() == ["k/1"]


async def test_a_letter_tells_how_many_wait_behind_it(store: OperatedStore) -> None:
    await park(store, dead("k", "1"), parked("k", "2", attempts=0), parked("l", "1"))
    await park(store, parked("k", "3", attempts=0))
    letters = await store.recovery.letters(LetterFilter(state=None, consumer=CONSUMER, key="k"), 10)
    assert [(each.event_id, each.behind) for each in letters] == [
        (event_id(f"k/{number}"), 3 - number) for number in (1, 2, 3)
    ]
    assert await store.recovery.letters(LetterFilter(state=None, consumer="other", key="k"), 10) == []
    (head,) = await store.recovery.letters(LetterFilter(), 10)
    assert head == letters[0]
    found = await store.recovery.letter(event_id("k/1"))
    assert found is not None
    assert found.letter == head


async def test_dead_events_are_grouped_by_how_they_failed(store: OperatedStore) -> None:
    await several(store)
    await park(store, parked("not dead", "1"))
    large, small = await store.recovery.groups(LetterFilter(state=None))
    assert (large.fingerprint, large.count, large.keys) == (FAILURE.fingerprint, 4, 4)
    assert (large.consumers, large.event_types) == (("other", "shop"), ("Lost.v1", "Sent.v1"))
    assert (small.fingerprint, small.error, small.message) == (
        OTHER_FAILURE.fingerprint,
        "ValueError",
        "not a number",
    )
    letters = {each.position: each for each in await store.recovery.letters(LetterFilter(), 10)}
    alike = [each for each in letters.values() if each.fingerprint == FAILURE.fingerprint]
    assert large.first_seen == min(each.first_failed_at for each in alike if each.first_failed_at)
    assert large.last_seen == max(each.last_failed_at for each in alike if each.last_failed_at)
    assert (letters[large.example].consumer, letters[large.example].key) == ("other", "consumer")


async def test_a_group_shows_the_event_that_failed_last(store: OperatedStore) -> None:
    await park(store, dead("a", "1"), dead("b", "1"))
    before = (await store.recovery.groups(LetterFilter()))[0].last_seen
    worse = replace(FAILURE, message="worse")

    async def later() -> bool:
        await fail(store, "a", worse)
        return (await store.recovery.groups(LetterFilter()))[0].last_seen > before

    await eventually(later)
    (group,) = await store.recovery.groups(LetterFilter())
    (example,) = await sequence(store, "a")
    assert (group.example, group.message, group.count) == (example.position, "worse", 2)
    await park(store, dead("c", "1"))
    (first, _, last) = await store.recovery.letters(LetterFilter(), 10)
    (group,) = await store.recovery.groups(LetterFilter())
    assert first.first_failed_at is not None
    assert last.first_failed_at is not None
    assert group.first_seen == first.first_failed_at < last.first_failed_at


@pytest.mark.parametrize(
    ("wanted", "counts"),
    [
        (LetterFilter(consumer="other"), [1]),
        (LetterFilter(topic="others"), [1]),
        (LetterFilter(event_type="Lost.v1"), [1]),
        (LetterFilter(key="plain"), [1]),
        (LetterFilter(fingerprint=FAILURE.fingerprint), [4]),
        (LetterFilter(events=(event_id("plain/1"), event_id("failure/1"))), [1, 1]),
        (LetterFilter(older_than_ms=2**53), []),
    ],
)
async def test_groups_are_narrowed_by_the_same_filter(
    store: OperatedStore, wanted: LetterFilter, counts: list[int]
) -> None:
    await several(store)
    assert [group.count for group in await store.recovery.groups(wanted)] == counts


async def test_a_note_stands_on_its_group_until_it_is_taken_away(store: OperatedStore) -> None:
    await park(store, dead("k", "1"))
    for note in ("look at the parser", "mended in 1.4", ""):
        await store.recovery.annotate(FAILURE.fingerprint, note, ADA)
        assert [group.note for group in await store.recovery.groups(LetterFilter())] == [note]
    logged = await store.recovery.actions(10)
    assert {(each.who, each.action, each.target, each.reason) for each in logged} == {
        ("ada", "note", FAILURE.fingerprint, "she knows")
    }
    assert [each.result for each in logged] == ["the note was taken away", "mended in 1.4", "look at the parser"]


async def test_the_operators_log_is_read_backwards(store: OperatedStore) -> None:
    for number in range(5):
        await store.recovery.log(LogEntry(ADA, "discard", f"event {number}", "1 discarded"))
    latest = await store.recovery.actions(2)
    assert [each.target for each in latest] == ["event 4", "event 3"]
    rest = await store.recovery.actions(10, before=latest[-1].number)
    assert [each.target for each in rest] == ["event 2", "event 1", "event 0"]
    assert await store.recovery.actions(10, before=rest[-1].number) == []
    first = rest[-1]
    assert (first.who, first.action, first.reason, first.result) == ("ada", "discard", "she knows", "1 discarded")
    assert first.at <= latest[0].at


async def history(store: OperatedStore, event: UUID | int) -> list[tuple[Moment, int, str]]:
    return [(each.moment, each.attempt, each.error) for each in await store.recovery.history(event)]


async def test_the_history_of_an_event_is_every_failure_of_it(store: OperatedStore) -> None:
    await park(store, parked("k", "1"), parked("k", "2", attempts=0), dead("l", "1"))
    await fail(store, "k", OTHER_FAILURE, InboxState.PARKED)
    await fail(store, "k")
    (head, held) = await sequence(store, "k")
    told = [(Moment.FAILED, 1, "KeyError"), (Moment.FAILED, 2, "ValueError"), (Moment.DEAD, 3, "KeyError")]
    assert await history(store, head.position) == told
    assert await history(store, event_id("k/1")) == told
    assert await history(store, held.position) == []
    assert await history(store, event_id("l/1")) == [(Moment.DEAD, 6, "KeyError")]
    entries = await store.recovery.history(head.position)
    assert [each.message for each in entries] == ["no such thing", "not a number", "no such thing"]
    assert entries[0].at <= entries[1].at <= entries[2].at
    found = await store.recovery.letter(head.position)
    assert found is not None
    assert (entries[0].at, entries[2].at) == (found.letter.first_failed_at, found.letter.last_failed_at)


async def test_a_history_is_there_when_the_event_waits_no_longer(store: OperatedStore) -> None:
    await park(store, parked("k", "1"))
    await end(store, "k")
    assert await store.recovery.letter(event_id("k/1")) is None
    assert await history(store, event_id("k/1")) == [(Moment.FAILED, 1, "KeyError"), (Moment.HANDLED, 1, "")]
    assert await history(store, event_id("unknown")) == []


async def test_the_history_ends_with_who_discarded_the_event_and_why(store: OperatedStore) -> None:
    await park(store, dead("k", "1"), parked("k", "2", attempts=0), parked("k", "3", attempts=0))
    for name in ("k/1", "k/2"):
        async with store.transaction() as tx:
            (head,) = await waiting(tx, "k")
            known = InboxEntry("k", head.identity, head.event_id, InboxState.DISCARDED)
            await tx.commit(changes(inbox=[known], released=[head.position], discarding=ADA))
        last = (await store.recovery.history(event_id(name)))[-1]
        assert (last.moment, last.who, last.message) == (Moment.DISCARDED, "ada", "she knows")
    await end(store, "k")
    assert await history(store, event_id("k/3")) == []


async def test_what_waits_is_counted_as_each_of_it_says(store: OperatedStore) -> None:
    await several(store)
    letters = await store.recovery.letters(LetterFilter(state=None), 100)
    summary = await store.recovery.summary()
    told = {str(each): sum(getattr(line, each) for line in summary) for each in Waits}
    assert told == Counter(str(letter.state) for letter in letters) == {"dead": 5, "retrying": 1, "held": 1}


async def test_a_held_event_that_is_written_again_without_a_failure_has_no_history(store: OperatedStore) -> None:
    await park(store, parked("k", "1", attempts=0))
    async with store.transaction() as tx:
        (event,) = await waiting(tx, "k")
        await tx.commit(changes(reparked=[event]))
    assert await history(store, event.position) == []


async def test_a_failure_that_is_rolled_back_was_none(store: OperatedStore) -> None:
    await park(store, parked("k", "1"))
    with pytest.raises(DataRefusedError):
        await fail_and_break(store, (await sequence(store, "k"))[0])
    assert await history(store, event_id("k/1")) == [(Moment.FAILED, 1, "KeyError")]


async def fail_and_break(store: OperatedStore, event: ParkedEvent) -> None:
    async with store.transaction() as tx:
        await tx.commit(changes(reparked=[replace(event, attempts=2)], released=[987]))


async def change_ones_mind(store: OperatedStore, batch: Changes) -> None:
    async with store.transaction() as tx:
        await tx.commit(batch, End.ROLLBACK)
        raise InterruptedError


async def test_what_an_operator_did_is_logged_with_its_effect_or_not_at_all(store: OperatedStore) -> None:
    logged = LogEntry(ADA, "discard", "event 1", "Discarded.")
    with pytest.raises(InterruptedError):
        await change_ones_mind(store, changes(log=[logged]))
    assert await store.recovery.actions(10) == []

    await commit(store, changes(inbox=[entry("k", "1", InboxState.DISCARDED)], log=[logged, logged]))

    second, first = await store.recovery.actions(10)
    assert second.number > first.number
    assert (first.who, first.action, first.target) == ("ada", "discard", "event 1")
    assert (first.reason, first.result) == ("she knows", "Discarded.")
