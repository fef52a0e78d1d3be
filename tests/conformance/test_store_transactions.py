"""Atomicity, isolation and locks, for both stores."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from msgspec.structs import replace

from orderflow.core.inbox import InboxState
from orderflow.core.service import Ref
from orderflow.core.store import (
    Changes,
    DataRefusedError,
    End,
    FoundError,
    Plan,
    Snapshot,
    Store,
    StoreUnavailableError,
)
from tests.conformance.store_backends import Backend
from tests.conformance.store_tables import Counter, Line, Move, Parcel
from tests.conformance.store_values import changes, commit, entry, intent, load, outgoing, parked
from tests.support.waiting import eventually

A = Ref(Counter, "a")
B = Ref(Counter, "b")


async def value_of(store: Store, ref: Ref) -> int | None:
    row = (await load(store, ref)).get(ref)
    return row.value if isinstance(row, Counter) else None


async def test_every_kind_of_column_comes_back_as_it_was(store: Store) -> None:
    parcel = Parcel(
        parcel_id="p1",
        weight=2_000_000_000,
        fragile=True,
        owner=UUID(int=7),
        packed_at=datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
        note="naïve \u2713 'quoted' {a,b} \\",
        lines=(Line("sku-ä", 2), Line('"x"', 0)),
    )
    plain = Parcel(parcel_id="p2")
    await commit(store, changes(rows=[parcel, plain]))
    loaded = await load(store, parcel.ref, plain.ref, Ref(Parcel, "unknown"), parcel.ref)
    assert loaded == {parcel.ref: parcel, plain.ref: plain}


async def test_all_parts_of_a_batch_are_there_after_its_commit(store: Store) -> None:
    batch = changes(
        rows=[Counter(counter_id="a", value=1)],
        facts=[Move(parcel_id="p", number=1, place="x")],
        inbox=[entry("k", "1")],
        emitted={("/shop", "k"): 1},
        outbox=[outgoing("k")],
        opened=[intent("k")],
    )
    await commit(store, batch)
    assert await value_of(store, A) == 1
    assert (await store.backlog()).unsent == 1
    async with store.transaction() as tx:
        assert (await tx.open(Plan("shop", [("k", "1")]))).emitted == {("/shop", "k"): 1}


async def test_nothing_is_left_of_a_block_that_was_left_by_an_exception(store: Store) -> None:
    with pytest.raises(RuntimeError, match="rehearsal"):
        async with store.transaction() as tx:
            await tx.open(Plan("shop", [("k", "1")], [1], [A]))
            raise RuntimeError("rehearsal")
    assert await value_of(store, A) is None
    assert (await store.backlog()).unsent == 0
    async with store.transaction() as tx:
        found = await tx.open(Plan("shop", [("k", "1")]))
    assert (found.known, found.emitted, found.closed) == ({}, {}, frozenset())


async def test_what_ends_with_a_rollback_was_checked_and_nothing_is_left_of_it(
    backend: Backend, store: Store
) -> None:
    await commit(store, changes(inbox=[entry("l", "1")]))
    batch = changes(
        rows=[Counter(counter_id="a", value=1)],
        inbox=[entry("k", "1")],
        emitted={("/shop", "k"): 1},
        outbox=[outgoing("k")],
        opened=[intent("k")],
    )
    async with store.transaction() as tx:
        await tx.open(Plan("shop", [("k", "1")], [1], [A]))
        await tx.commit(batch, End.ROLLBACK)
    for refused in (
        changes(rows=[Counter(counter_id="a", value=-1)]),
        changes(inbox=[entry("l", "1")]),
        changes(parked=[parked("k", "2")]),
    ):
        with pytest.raises(DataRefusedError):
            async with store.transaction() as tx:
                await tx.open(Plan("shop", locks=[1]))
                await tx.commit(refused, End.ROLLBACK)
    assert await value_of(store, A) is None
    assert (await store.backlog()).unsent == 0
    assert await store.claim_intents(1, 1) == []
    other = await backend.open()
    async with asyncio.timeout(60), other.transaction() as tx:
        found = await tx.open(Plan("shop", [("k", "1")], [1]))
    assert (found.known, found.emitted, found.closed) == ({}, {}, set())


NEW = Plan("shop", [("k", "1")], [1], [A], expects_nothing=True)


async def test_what_expects_nothing_is_written_where_nothing_is(backend: Backend, store: Store) -> None:
    batch = changes(
        rows=[Counter(counter_id="a", value=1)],
        inbox=[entry("k", "1")],
        emitted={("/shop", "k"): 1},
        outbox=[outgoing("k")],
        opened=[intent("k")],
    )
    async with store.transaction() as tx:
        assert (await tx.open(NEW)).is_empty
        await tx.commit(batch)
    assert await value_of(store, A) == 1
    assert (await store.backlog()).unsent == 1
    await nothing_is_locked(backend)


@pytest.mark.parametrize(
    "there",
    [
        changes(rows=[Counter(counter_id="a", value=7)]),
        changes(inbox=[entry("k", "1")]),
        changes(emitted={("/shop", "k"): 1}),
        changes(parked=[parked("k", "0")], inbox=[entry("k", "0", InboxState.PARKED)]),
    ],
    ids=["row", "inbox", "stream", "parked"],
)
async def test_what_expects_nothing_is_not_written_where_something_is(
    backend: Backend, store: Store, there: Changes
) -> None:
    await commit(store, there)
    before = await value_of(store, A)
    batch = changes(facts=[Move(parcel_id="p", number=1, place="x")], outbox=[outgoing("k")])
    async with store.transaction() as tx:
        await tx.open(NEW)
        with pytest.raises(FoundError) as found:
            await tx.commit(batch)
    assert found.value.snapshot == await found_by(store)
    assert await value_of(store, A) == before
    assert (await store.backlog()).unsent == 0
    await nothing_is_locked(backend)
    async with store.transaction() as tx:
        await tx.open(NEW)
        with pytest.raises(FoundError):
            await tx.commit(batch)
        await tx.commit(batch)
    assert (await store.backlog()).unsent == 1
    await nothing_is_locked(backend)


async def test_of_two_who_expect_nothing_of_one_key_one_finds_the_other(store: Store) -> None:
    async def write(value: int) -> bool:
        async with store.transaction() as tx:
            await tx.open(NEW)
            batch = changes(rows=[Counter(counter_id="a", value=value)], inbox=[entry("k", "1")])
            try:
                await tx.commit(batch)
            except FoundError:
                return False
            return True

    written = await asyncio.gather(*(write(value) for value in range(4)))

    assert sorted(written) == [False, False, False, True]
    assert await value_of(store, A) == written.index(True)


@pytest.mark.parametrize("end", list(End))
async def test_what_fails_or_is_taken_back_is_not_written_at_once(store: Store, end: End) -> None:
    batch = changes(parked=[parked("k", "1")], inbox=[entry("k", "1", InboxState.PARKED)])
    async with store.transaction() as tx:
        await tx.open(NEW)
        with pytest.raises(FoundError) as found:
            await tx.commit(batch, end)
        assert found.value.snapshot.is_empty
        await tx.commit(batch, end)
    assert await store.parked_keys("shop", 10) == (end is End.COMMIT)


async def found_by(store: Store) -> Snapshot:
    async with store.transaction() as tx:
        return await tx.open(replace(NEW, locks=(), expects_nothing=False))


async def nothing_is_locked(backend: Backend) -> None:
    other = await backend.open()
    async with asyncio.timeout(60), other.transaction() as tx:
        await tx.open(Plan("shop", locks=NEW.locks))


async def test_a_refusal_in_one_part_takes_back_all_parts(store: Store) -> None:
    await commit(store, changes(inbox=[entry("k", "1")]))
    with pytest.raises(DataRefusedError):
        async with store.transaction() as tx:
            await tx.commit(
                changes(
                    rows=[Counter(counter_id="a", value=1)],
                    outbox=[outgoing("k")],
                    parked=[parked("k", "2")],
                )
            )
    assert await value_of(store, A) is None
    assert (await store.backlog()).unsent == 0


async def test_a_refusal_that_was_swallowed_commits_nothing(store: Store) -> None:
    rows = [Counter(counter_id="a", value=1), Counter(counter_id="b", value=-1)]
    async with store.transaction() as tx:
        with pytest.raises(DataRefusedError):
            await tx.commit(changes(rows=list(rows)))
    assert await value_of(store, A) is None


async def test_a_block_that_is_left_without_a_commit_frees_its_locks(backend: Backend, store: Store) -> None:
    other = await backend.open()
    for _ in range(3):
        async with store.transaction() as tx:
            await tx.open(Plan("shop", locks=[1, 2]))
    async with asyncio.timeout(60), other.transaction() as tx:
        await tx.open(Plan("shop", locks=[1, 2]))


async def test_a_crash_before_the_commit_leaves_nothing_and_frees_the_locks(backend: Backend, store: Store) -> None:
    other = await backend.open()
    with pytest.raises(StoreUnavailableError):
        async with store.transaction() as tx:
            await tx.open(Plan("shop", locks=[1, 2]))
            await backend.crash(store)
            await tx.commit(changes(rows=[Counter(counter_id="a", value=1)]))
    async with asyncio.timeout(60), other.transaction() as tx:
        assert (await tx.open(Plan("shop", locks=[1, 2], rows=[A]))).rows == {}


async def test_a_lock_keeps_others_out_until_the_transaction_ends(backend: Backend, store: Store) -> None:
    other = await backend.open()
    entered = asyncio.Event()

    async def enter() -> None:
        async with other.transaction() as tx:
            await tx.open(Plan("shop", locks=[3, 5]))
            entered.set()

    async with store.transaction() as tx:
        await tx.open(Plan("shop", locks=[5, 9]))
        waiting = asyncio.create_task(enter())
        for _ in range(3):
            await store.ping()
            await other.ping()
        assert not entered.is_set()
    await asyncio.wait_for(waiting, 60)


async def test_locks_are_the_whole_64_bits_with_their_sign(store: Store) -> None:
    async with store.transaction() as tx:
        await tx.open(Plan("shop", locks=[-(2**63), -1, 0, 2**63 - 1, 2**63 - 1]))
        async with store.transaction() as other:
            await other.open(Plan("shop", locks=[1, 2**32, 2**63 - 2]))


async def test_under_its_lock_a_batch_sees_what_the_last_holder_committed(backend: Backend, store: Store) -> None:
    """Two counters, two processes, sorted locks: no update is lost and nobody waits for ever."""
    other = await backend.open()
    await commit(store, changes(rows=[Counter(counter_id="a", value=0), Counter(counter_id="b", value=0)]))

    async def add(where: Store, times: int) -> None:
        for _ in range(times):
            async with where.transaction() as tx:
                loaded = (await tx.open(Plan("shop", locks=[11, 12], rows=[A, B]))).rows
                raised = [
                    Counter(counter_id=row.counter_id, value=row.value + 1)
                    for row in loaded.values()
                    if isinstance(row, Counter)
                ]
                await tx.commit(changes(rows=list(raised), existing=frozenset(loaded)))

    await asyncio.wait_for(asyncio.gather(*(add(each, 10) for each in (store, other, store, other))), 60)
    assert (await value_of(store, A), await value_of(store, B)) == (40, 40)


async def test_one_who_is_cancelled_while_waiting_lets_the_others_through(store: Store) -> None:
    async def enter() -> None:
        async with store.transaction() as tx:
            await tx.open(Plan("shop", locks=[1, 2]))

    async with store.transaction() as tx:
        await tx.open(Plan("shop", locks=[2]))
        patient = asyncio.create_task(enter())
        impatient = asyncio.create_task(enter())
        await store.ping()
        await store.ping()
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
    await asyncio.wait_for(patient, 60)
    await asyncio.wait_for(enter(), 60)


async def test_an_outage_is_told_as_one_and_ends(backend: Backend, store: Store) -> None:
    await store.ping()
    with pytest.raises(StoreUnavailableError):
        async with store.transaction() as tx:
            await tx.open(Plan("shop", locks=[1]))
            backend.go_down()
            await tx.commit(changes(rows=[Counter(counter_id="a", value=1)]))
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    with pytest.raises(StoreUnavailableError):
        await commit(store, changes(inbox=[entry("k", "1")]))
    for question in (store.due_keys("shop", 1), store.claim_intents(1, 1), store.backlog(), store.purge(0)):
        with pytest.raises(StoreUnavailableError):
            await question
    backend.come_back()

    async def answers() -> bool:
        try:
            await store.ping()
        except StoreUnavailableError:
            return False
        return True

    await eventually(answers)
    assert await value_of(store, A) is None


async def test_a_transaction_does_not_outlive_a_short_outage(backend: Backend, store: Store) -> None:
    with pytest.raises(StoreUnavailableError):
        async with store.transaction() as tx:
            await tx.open(Plan("shop", locks=[1]))
            backend.go_down()
            backend.come_back()
            await tx.commit(changes(rows=[Counter(counter_id="a", value=1)]))
    assert await value_of(store, A) is None
    async with asyncio.timeout(60), store.transaction() as tx:
        await tx.open(Plan("shop", locks=[1]))


async def test_a_closed_store_refuses_and_closes_twice(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    with pytest.raises(StoreUnavailableError):
        await commit(store, changes(inbox=[entry("k", "1")]))
