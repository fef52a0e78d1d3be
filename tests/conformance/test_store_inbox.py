"""What is known of messages and streams, for both stores."""

from __future__ import annotations

import asyncio

import pytest

from orderflow.core.inbox import InboxState
from orderflow.core.store import Changes, DataRefusedError, Plan, Snapshot, Store
from tests.conformance.store_values import CONSUMER, changes, commit, entry, outgoing, park, parked, waiting


async def recognise(store: Store, *messages: tuple[str, str | None], consumer: str = CONSUMER) -> Snapshot:
    async with store.transaction() as tx:
        return await tx.open(Plan(consumer, messages))


async def test_an_empty_inbox_knows_nothing(store: Store) -> None:
    assert await recognise(store, ("k", "1")) == Snapshot(parked=[])
    assert await recognise(store) == Snapshot(parked=[])


async def test_a_message_is_known_by_key_identity_and_consumer(store: Store) -> None:
    await commit(store, changes(inbox=[entry("k", "1"), entry("k", "OrderPlaced"), entry("l", "2")]))
    found = await recognise(store, ("k", "1"), ("k", "2"), ("l", "1"), ("k", "OrderPlaced"))
    assert found.known == {("k", "1"): InboxState.DONE, ("k", "OrderPlaced"): InboxState.DONE}
    assert (await recognise(store, ("k", "1"), consumer="other")).known == {}


async def test_of_a_message_without_an_identity_only_the_key_is_looked_up(store: Store) -> None:
    await commit(store, changes(inbox=[entry("k", "1"), entry("l", "1")], emitted={("/a", "k"): 2, ("/a", "l"): 1}))
    await park(store, parked("m", "1"))
    found = await recognise(store, ("k", None), ("l", "1"), ("k", None), ("m", None))
    assert found.known == {("l", "1"): InboxState.DONE}
    assert found.emitted == {("/a", "k"): 2, ("/a", "l"): 1}
    assert found.closed == {"m"}


async def test_two_consumers_keep_their_own_accounts(store: Store) -> None:
    await commit(store, Changes(consumer="one", inbox=[entry("k", "1")]))
    await commit(store, Changes(consumer="two", inbox=[entry("k", "1", InboxState.DISCARDED)]))
    assert (await recognise(store, ("k", "1"), consumer="one")).known == {("k", "1"): InboxState.DONE}
    assert (await recognise(store, ("k", "1"), consumer="two")).known == {("k", "1"): InboxState.DISCARDED}


@pytest.mark.parametrize("alone", [True, False])
async def test_a_new_entry_that_is_there_already_is_refused_not_ignored(store: Store, alone: bool) -> None:
    await commit(store, changes(inbox=[entry("k", "1")]))
    outbox = [] if alone else [outgoing("k")]
    with pytest.raises(DataRefusedError) as refused:
        async with store.transaction() as tx:
            await tx.commit(changes(inbox=[entry("k", "0"), entry("k", "1")], outbox=outbox))
    assert refused.value.constraint == "processed_events_once"
    assert refused.value.named == {"k", CONSUMER, "1"}
    assert (await recognise(store, ("k", "0"))).known == {}


async def test_an_entry_twice_in_one_batch_is_refused(store: Store) -> None:
    with pytest.raises(DataRefusedError):
        await commit(store, changes(inbox=[entry("k", "1"), entry("k", "1")]))


async def test_two_processes_cannot_both_take_note_of_one_message(store: Store) -> None:
    async def note() -> None:
        async with store.transaction() as tx:
            await tx.commit(changes(inbox=[entry("k", "1")]))

    results = await asyncio.gather(note(), note(), return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [DataRefusedError]


async def test_a_recognised_entry_gets_its_new_state(store: Store) -> None:
    await park(store, parked("k", "1"))
    assert (await recognise(store, ("k", "1"))).known == {("k", "1"): InboxState.PARKED}
    await commit(store, changes(inbox=[entry("k", "1"), entry("k", "2")]))
    found = await recognise(store, ("k", "1"), ("k", "2"))
    assert set(found.known.values()) == {InboxState.DONE}


async def test_entries_of_parked_events_are_replaced_without_being_recognised_again(store: Store) -> None:
    await park(store, parked("k", "1"))
    async with store.transaction() as tx:
        (event,) = await waiting(tx, "k", limit=10, due=True)
        await tx.commit(changes(inbox=[entry("k", "1")], released=[event.position]))
    assert (await recognise(store, ("k", "1"))).known == {("k", "1"): InboxState.DONE}


async def test_a_key_with_parked_events_is_closed_at_its_consumer_only(store: Store) -> None:
    await park(store, parked("k", "1"))
    assert (await recognise(store, ("k", "9"), ("l", "9"))).closed == {"k"}
    assert (await recognise(store, ("k", "9"), consumer="other")).closed == set()


async def test_streams_count_by_source_and_key(store: Store) -> None:
    await commit(store, changes(emitted={("/a", "k"): 2, ("/b", "k"): 1, ("/a", "l"): 7}))
    await commit(store, changes(emitted={("/a", "k"): 3}))
    assert (await recognise(store, ("k", "1"))).emitted == {("/a", "k"): 3, ("/b", "k"): 1}


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_stream_that_was_not_recognised_must_be_new(store: Store, count: int) -> None:
    await commit(store, changes(emitted={("/a", "k"): 2}))
    with pytest.raises(DataRefusedError) as refused:
        async with store.transaction() as tx:
            await tx.commit(changes(emitted={("/b", "k"): 1, ("/a", "k"): count}))
    assert refused.value.constraint == "streams_once"
    assert (await recognise(store, ("k", None))).emitted == {("/a", "k"): 2}


async def test_new_and_known_streams_are_counted_in_one_batch(store: Store) -> None:
    await commit(store, changes(emitted={("/a", "k"): 2}))
    await commit(store, changes(emitted={("/a", "k"): 4, ("/b", "k"): 1, ("/a", "l"): 2}, outbox=[outgoing("k")]))
    assert (await recognise(store, ("k", None), ("l", None))).emitted == {
        ("/a", "k"): 4,
        ("/b", "k"): 1,
        ("/a", "l"): 2,
    }


async def test_the_first_count_of_a_stream_is_positive(store: Store) -> None:
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(emitted={("/a", "k"): 0}))
    assert refused.value.constraint == "streams_emitted_positive"


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_a_stream_never_counts_backwards(store: Store, count: int) -> None:
    await commit(store, changes(emitted={("/a", "k"): 2}))
    with pytest.raises(DataRefusedError):
        await commit(store, changes(emitted={("/a", "k"): count}, outbox=[outgoing("k")]))
    assert (await store.backlog()).unsent == 0


async def test_the_depth_of_a_closed_key_is_counted_up_to_a_limit(store: Store) -> None:
    await park(store, parked("k", "1"), parked("k", "2", attempts=0), parked("k", "3", attempts=0), parked("l", "1"))
    await commit(store, Changes(consumer="other", inbox=[entry("m", "1")], parked=[parked("m", "1")]))
    names = [("k", "9"), ("k", "10"), ("l", "9"), ("m", "9"), ("n", "9")]
    assert (await recognise(store, *names)).depth == {"k": 3, "l": 1}
    async with store.transaction() as tx:
        limited = await tx.open(Plan(CONSUMER, names, depth_max=2))
    assert limited.depth == {"k": 2, "l": 1}
    assert limited.closed == {"k", "l"}


async def test_a_known_entry_twice_in_one_batch_is_refused(store: Store) -> None:
    await commit(store, changes(inbox=[entry("k", "1")]))
    with pytest.raises(DataRefusedError):
        await commit(store, changes(inbox=[entry("k", "1"), entry("k", "1", InboxState.DISCARDED)]))
    assert (await recognise(store, ("k", "1"))).known == {("k", "1"): InboxState.DONE}
