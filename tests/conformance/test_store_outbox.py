"""The outbox and its readers, for both stores."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace

from orderflow.core.identity import lock_id
from orderflow.core.store import (
    Act,
    DataRefusedError,
    OutboxFilter,
    OutboxReader,
    OutboxRows,
    Plan,
    Store,
    StoreUnavailableError,
    WakeUp,
)
from tests.conformance.store_backends import Backend
from tests.conformance.store_values import changes, commit, outgoing
from tests.support.callers import person
from tests.support.waiting import eventually

ALL = frozenset(range(16))
SILENT_S = 6.0
ADA = Act(caller=person("ada"), reason="the topic was deleted")


async def settle(*readers: OutboxReader) -> list[frozenset[int]]:
    """Let each reader claim until nobody moves any more."""
    held: list[frozenset[int]] = []
    for _ in range(10):
        now = [await reader.claim_slots() for reader in readers]
        if now == held:
            return held
        held = now
    raise AssertionError(f"the readers never come to rest: {held}")


async def listening(reader: OutboxReader) -> None:
    """What a relay does all the time, beside its steps."""
    while True:
        await reader.wait(60)


async def hears_of_rows(reader: OutboxReader) -> None:
    """Whatever slots change hands before."""
    while await reader.wait(600) is not WakeUp.ROWS:
        pass


async def test_rows_come_as_they_were_written_with_an_id_and_a_time(store: Store) -> None:
    written = [outgoing("k", b"1"), outgoing("l", None), replace(outgoing("m"), key=None, headers=())]
    await commit(store, changes(outbox=written))
    reader = store.outbox()
    assert await reader.claim_slots() == ALL
    rows = await reader.unsent(10)
    assert [replace(row, id=0, created_at=0) for row in rows] == written
    assert [row.id for row in rows] == sorted({row.id for row in rows})
    assert min(row.created_at for row in rows) > 1_600_000_000_000


async def test_rows_that_are_sent_do_not_come_again(store: Store) -> None:
    await commit(store, changes(outbox=[outgoing("k", b"%d" % n) for n in range(5)]))
    reader = store.outbox()
    await reader.claim_slots()
    rows = await reader.unsent(3)
    assert [row.value for row in rows] == [b"0", b"1", b"2"]
    await reader.mark_sent([rows[0].id, rows[1].id])
    assert [row.value for row in await reader.unsent(10)] == [b"2", b"3", b"4"]
    await reader.mark_sent([row.id for row in await reader.unsent(10)])
    await reader.mark_sent([rows[0].id])
    await reader.mark_sent([])
    assert await reader.unsent(10) == []
    assert (await store.backlog()).unsent == 0


@pytest.mark.parametrize("count", [7, 200])
async def test_a_look_marks_what_is_sent_and_passes_it_over(store: Store, count: int) -> None:
    await commit(store, changes(outbox=[outgoing(f"key-{n}", b"%d" % n) for n in range(count + 5)]))
    reader = store.outbox()
    await reader.claim_slots()
    sent = [row.id for row in await reader.unsent(count)]

    assert [row.value for row in await reader.unsent(2, sent)] == [b"%d" % count, b"%d" % (count + 1)]
    assert (await store.backlog()).unsent == 5
    assert len(await reader.unsent(10)) == 5
    assert len(await reader.unsent(10, sent)) == 5


async def test_a_look_marks_nothing_but_what_is_sent(store: Store) -> None:
    await commit(store, changes(outbox=[outgoing("k", b"%d" % n) for n in range(3)]))
    reader = store.outbox()
    await reader.claim_slots()
    rows = await reader.unsent(10)

    assert [row.value for row in await reader.unsent(10, [rows[1].id])] == [b"0", b"2"]
    assert (await store.backlog()).unsent == 2


async def test_what_the_own_process_commits_after_a_look_needs_no_other(store: Store) -> None:
    reader = store.outbox()
    await reader.claim_slots()
    assert reader.take_fresh() is None
    await commit(store, changes(outbox=[outgoing("k", b"0")]))
    found = await reader.unsent(10)
    assert reader.take_fresh() == []

    await commit(store, changes(outbox=[outgoing("k", b"1"), outgoing("l", b"2")]))
    handed = reader.take_fresh()

    assert handed is not None
    assert [row.value for row in [*found, *handed]] == [b"0", b"1", b"2"]
    assert [*found, *handed] == await reader.unsent(10)
    await reader.unsent(10, [row.id for row in [*found, *handed]])
    await commit(store, changes(outbox=[outgoing("k", b"3")]))
    assert [row.value for row in reader.take_fresh() or ()] == [b"3"]


async def test_behind_rows_of_another_process_a_look_is_needed(backend: Backend, store: Store) -> None:
    reader = store.outbox()
    await reader.claim_slots()
    await reader.unsent(10)
    other = await backend.open()
    await commit(other, changes(outbox=[outgoing("k", b"0")]))

    await commit(store, changes(outbox=[outgoing("k", b"1")]))

    assert reader.take_fresh() is None
    assert [row.value for row in await reader.unsent(10)] == [b"0", b"1"]
    await commit(store, changes(outbox=[outgoing("k", b"2")]))
    assert reader.take_fresh() is None, "what another process wrote is unsent still"
    await reader.unsent(10, [row.id for row in await reader.unsent(10)])
    await commit(store, changes(outbox=[outgoing("k", b"3")]))
    assert [row.value for row in reader.take_fresh() or ()] == [b"3"]


async def test_a_reader_that_has_lost_its_slots_hands_nothing_on(backend: Backend, store: Store) -> None:
    reader = store.outbox()
    await reader.claim_slots()
    await reader.unsent(10)
    await commit(store, changes(outbox=[outgoing("k")]))

    backend.cut(reader)

    assert await eventually(lambda: reader.take_fresh() is None)


async def test_within_a_key_rows_come_in_commit_order_under_concurrent_writers(
    backend: Backend, store: Store
) -> None:
    stores = [store, await backend.open()]
    keys = [f"key-{n}" for n in range(4)]
    committed: dict[str, int] = dict.fromkeys(keys, 0)
    rng = random.Random(7)

    async def write(where: Store, times: int) -> None:
        for _ in range(times):
            touched = rng.sample(keys, 2)
            async with where.transaction() as tx:
                await tx.open(Plan("shop", locks=sorted(lock_id(key) for key in touched)))
                numbers = {key: committed[key] + 1 for key in touched}
                committed.update(numbers)
                await tx.commit(changes(outbox=[outgoing(key, b"%d" % n) for key, n in numbers.items()]))

    reader = store.outbox()
    await reader.claim_slots()
    read: dict[str, list[int]] = {key: [] for key in keys}

    async def relay() -> bool:
        rows = await reader.unsent(5)
        for row in rows:
            assert row.key is not None
            assert row.value is not None
            read[row.key.decode()].append(int(row.value))
        await reader.mark_sent([row.id for row in rows])
        return sum(map(len, read.values())) == 2 * 4 * 20

    writers = asyncio.gather(*(write(stores[n % 2], 20) for n in range(4)))
    await eventually(relay, timeout_s=60, every_s=0)
    await writers
    assert read == {key: list(range(1, committed[key] + 1)) for key in keys}


async def test_readers_share_all_slots_and_never_own_one_twice(backend: Backend, store: Store) -> None:
    first = store.outbox()
    assert await first.claim_slots() == ALL
    second = (await backend.open()).outbox()
    third = (await backend.open()).outbox()
    for readers in ([first, second], [first, second, third]):
        held = await settle(*readers)
        assert sorted(slot for slots in held for slot in slots) == sorted(ALL)
        assert max(map(len, held)) - min(map(len, held)) <= 1


async def test_two_readers_of_one_process_share_as_well(store: Store) -> None:
    held = await settle(store.outbox(), store.outbox())
    assert [len(slots) for slots in held] == [8, 8]
    assert held[0] | held[1] == ALL


async def test_a_reader_sees_only_rows_of_its_own_slots(backend: Backend, store: Store) -> None:
    readers = [store.outbox(), (await backend.open()).outbox()]
    held = await settle(*readers)
    written = [outgoing(f"key-{n}") for n in range(40)]
    await commit(store, changes(outbox=written))
    for reader, slots in zip(readers, held, strict=True):
        rows = await reader.unsent(100)
        assert [row.key for row in rows] == [row.key for row in written if row.slot in slots]


async def test_the_slots_of_a_lost_reader_go_to_the_next_who_claims(backend: Backend, store: Store) -> None:
    lost, survivor = store.outbox(), (await backend.open()).outbox()
    await settle(lost, survivor)
    await commit(store, changes(outbox=[outgoing(f"key-{n}") for n in range(20)]))
    backend.cut(lost)
    assert await survivor.claim_slots() == ALL
    assert len(await survivor.unsent(100)) == 20
    with pytest.raises(StoreUnavailableError):
        await lost.unsent(100)
        await lost.mark_sent([1])
    assert await lost.claim_slots() == frozenset()
    assert [len(slots) for slots in await settle(survivor, lost)] == [8, 8]


async def test_a_crashed_process_leaves_its_slots_to_others(backend: Backend, store: Store) -> None:
    dying = await backend.open()
    readers = [store.outbox(), dying.outbox()]
    await settle(*readers)
    await backend.crash(dying)

    async def owns_all() -> bool:
        return await readers[0].claim_slots() == ALL

    await eventually(owns_all)


async def test_a_closed_reader_gives_its_slots_up_at_once(store: Store) -> None:
    first, second = store.outbox(), store.outbox()
    await settle(first, second)
    await first.close()
    await first.close()
    assert await second.claim_slots() == ALL
    with pytest.raises(StoreUnavailableError):
        await first.claim_slots()


async def test_a_row_that_somebody_holds_is_marked_later_and_holds_up_no_other(
    backend: Backend, store: Store
) -> None:
    await commit(store, changes(outbox=[outgoing(f"key-{n}") for n in range(5)]))
    reader = store.outbox()
    await reader.claim_slots()
    ids = [row.id for row in await reader.unsent(10)]
    async with backend.holding(ids[1]):
        for _ in range(2):
            await reader.mark_sent(ids)
            assert set(reader.held) == {ids[1]}
        assert [row.id for row in await reader.unsent(10)] == [ids[1]]
        assert await reader.unsent(10, {ids[1]}) == []
        await commit(store, changes(outbox=[outgoing("later")]))
        later = await reader.unsent(1, {ids[1]})
        assert [row.key for row in later] == [b"later"]
        assert await reader.unsent(10, {ids[1], later[0].id}) == []
        assert set(reader.held) == {ids[1]}
    assert await reader.unsent(10, {ids[1]}) == []
    assert set(reader.held) == set()
    assert await reader.unsent(10) == []


async def test_a_reader_that_stands_still_is_fenced_and_one_that_waits_is_not(backend: Backend) -> None:
    stores = [await backend.open(silence_s=SILENT_S) for _ in range(3)]
    claiming, waiting, still = (each.outbox() for each in stores)
    await settle(claiming, waiting, still)
    await commit(stores[0], changes(outbox=[outgoing(f"key-{n}") for n in range(40)]))
    rows = await still.unsent(100)
    alive = asyncio.create_task(listening(waiting))

    async def took_over() -> bool:
        return len(await claiming.claim_slots()) == 8

    await eventually(took_over)

    assert len(await waiting.unsent(100)) < 40
    with pytest.raises(StoreUnavailableError):
        await still.mark_sent([row.id for row in rows])
    assert (await stores[0].backlog()).unsent == 40
    alive.cancel()
    held = await settle(claiming, waiting, still)
    assert sorted(slot for slots in held for slot in slots) == sorted(ALL)


async def test_a_reader_that_is_woken_again_and_again_stands_not_still(backend: Backend) -> None:
    """As in a relay whose call to the log takes long, while other processes go on writing."""
    stores = [await backend.open(silence_s=SILENT_S) for _ in range(3)]
    claiming, woken, still = (each.outbox() for each in stores)
    await settle(claiming, woken, still)
    await still.unsent(1)

    async def took_over() -> bool:
        stores[0].notify_relays()
        return len(await claiming.claim_slots()) == 8

    alive = asyncio.create_task(listening(woken))
    await eventually(took_over)

    assert not alive.done()
    await woken.unsent(1)
    alive.cancel()


async def test_a_reader_wakes_up_for_rows_of_other_processes(backend: Backend, store: Store) -> None:
    other = await backend.open()
    reader = store.outbox()
    await reader.claim_slots()
    waiting = asyncio.create_task(reader.wait(600))
    for _ in range(20):
        other.notify_relays()
    assert await asyncio.wait_for(waiting, 60) is WakeUp.ROWS


async def test_a_reader_does_not_wake_up_for_its_own_process(backend: Backend, store: Store) -> None:
    reader = store.outbox()
    other = (await backend.open()).outbox()
    await settle(reader, other)
    waiting = asyncio.create_task(hears_of_rows(reader))

    async def other_hears() -> bool:
        """Slots that have just changed hands are told first, and in the place of rows."""
        store.notify_relays()
        return await other.wait(1) is WakeUp.ROWS

    await eventually(other_hears)
    await reader.unsent(1)
    await store.ping()
    assert not waiting.done()
    waiting.cancel()


async def test_a_reader_that_waits_is_let_go_when_it_is_closed(store: Store) -> None:
    reader = store.outbox()
    await reader.claim_slots()
    waiting = asyncio.create_task(reader.wait(600))
    await asyncio.sleep(0)
    await reader.close()
    async with asyncio.timeout(60):
        await waiting


async def test_a_reader_waits_no_longer_than_asked(store: Store) -> None:
    reader = store.outbox()
    await reader.claim_slots()
    async with asyncio.timeout(60):
        assert await reader.wait(0.05) is WakeUp.NONE


async def test_readers_learn_at_once_that_slots_change_hands(backend: Backend, store: Store) -> None:
    first, second = store.outbox(), (await backend.open()).outbox()
    await first.claim_slots()
    async with asyncio.timeout(60):
        joined = asyncio.create_task(first.wait(60))
        assert await second.claim_slots() == frozenset()
        assert await joined is WakeUp.SLOTS, "another reader has come, and has less than its share"

        given_up = asyncio.create_task(second.wait(60))
        assert len(await first.claim_slots()) == 8
        assert await given_up is WakeUp.SLOTS, "there are free slots now"
        assert len(await second.claim_slots()) == 8

        left = asyncio.create_task(first.wait(60))
        await second.close()
        assert await left is WakeUp.SLOTS, "another reader has gone"
        assert await first.claim_slots() == ALL


async def test_a_reader_whose_session_is_lost_learns_it_at_once(backend: Backend, store: Store) -> None:
    reader = store.outbox()
    await reader.claim_slots()
    async with asyncio.timeout(60):
        waiting = asyncio.create_task(reader.wait(60))
        backend.cut(reader)
        assert await waiting is WakeUp.SLOTS


async def test_the_backlog_counts_and_ages(store: Store) -> None:
    assert (await store.backlog()).oldest_ms == 0
    await commit(store, changes(outbox=[outgoing("k"), outgoing("l")]))

    async def aged() -> bool:
        backlog = await store.backlog()
        return backlog.unsent == 2 and backlog.oldest_ms >= 20

    await eventually(aged)


async def test_a_purge_takes_old_rows_that_are_sent_and_leaves_the_others(store: Store) -> None:
    reader = store.outbox()
    await reader.claim_slots()
    await commit(store, changes(outbox=[outgoing("k", b"sent")]))
    assert await store.purge(0) == 0
    await reader.mark_sent([row.id for row in await reader.unsent(10)])
    assert await store.purge(3_600_000) == 0
    assert await store.purge(0) == 1
    assert await store.purge(0) == 0
    await commit(store, changes(outbox=[outgoing("k", b"unsent")]))
    await store.purge(0)
    assert [row.value for row in await reader.unsent(10)] == [b"unsent"]


async def test_what_was_published_is_counted_by_topic_and_comes_again_in_its_order(
    backend: Backend, store: Store
) -> None:
    rows = [outgoing(f"key-{n % 3}", b"%d" % n) for n in range(9)]
    await commit(store, changes(outbox=[*rows, replace(outgoing("key-0", b"else"), topic="other-events")]))
    reader = store.outbox()
    await reader.claim_slots()
    sent = await reader.unsent(9)
    await reader.mark_sent([row.id for row in sent])
    times = [row.created_at for row in sent]

    assert await store.published(OutboxFilter()) == [OutboxRows("parcel-events", 9, min(times), max(times))]
    assert await store.republish(OutboxFilter(key="key-1"), ADA, "key-1") == 3
    assert await store.republish(OutboxFilter(key="key-1"), ADA, "key-1") == 0
    again = await reader.unsent(10)
    assert [row.value for row in again] == [b"1", b"4", b"7", b"else"]
    assert [replace(row) for row in again[:3]] == [sent[n] for n in (1, 4, 7)]
    assert await store.published(OutboxFilter(topic="other-events")) == []
    assert [each.count for each in await store.published(OutboxFilter(topic="parcel-events"))] == [6]


async def test_what_was_published_is_narrowed_by_time(store: Store) -> None:
    await commit(store, changes(outbox=[outgoing("k")]))
    reader = store.outbox()
    await reader.claim_slots()
    (row,) = await reader.unsent(1)
    await reader.mark_sent([row.id])
    written = row.created_at

    async def count(from_ms: int | None = None, to_ms: int | None = None) -> int:
        found = await store.published(OutboxFilter(from_ms=from_ms, to_ms=to_ms))
        return sum(each.count for each in found)

    assert [await count(from_ms=written), await count(to_ms=written + 1)] == [1, 1]
    assert [await count(from_ms=written + 1), await count(to_ms=written)] == [0, 0]
    assert await store.republish(OutboxFilter(from_ms=written + 1), ADA, "later") == 0
    assert await store.republish(OutboxFilter(from_ms=written, to_ms=written + 1), ADA, "then") == 1
    await reader.mark_sent([row.id])
    await store.purge(0)
    assert await count() == 0


async def test_a_record_that_no_log_would_take_is_refused(store: Store) -> None:
    await commit(store, changes(outbox=[outgoing("k", b"x" * (2 * 1024 * 1024 - 1000))]))
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(outbox=[outgoing("k", b"x" * (2 * 1024 * 1024))]))
    assert refused.value.constraint == "outbox_record_fits"
