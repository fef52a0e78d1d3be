"""What waits for somebody to act on it, and what was lost, for both stores."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from orderflow.core.operations.model import Expired
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Act, Due, DueReport, WorkKind
from tests.conformance.store_values import CONSUMER, changes, commit, dead, intent, outgoing, park, parked, waiting
from tests.support.callers import person
from tests.support.waiting import eventually

ADA = Act(caller=person("ada"), reason="ticket 4711")
LONG_MS = 3_600_000
LOST = Expired("payment", "order-events", 3, 10, 100)


async def standing(store: OperatedStore, age_ms: int = LONG_MS) -> DueReport:
    return await store.standing([CONSUMER, "somebody else"], age_ms)


def counts(found: Sequence[Due]) -> dict[tuple[WorkKind, str, str], int]:
    return {(due.kind, due.consumer, due.place): due.count for due in found}


async def test_nothing_stands_in_an_empty_database(store: OperatedStore) -> None:
    assert await standing(store, 0) == DueReport([], [])


async def test_unsent_rows_are_due_by_slot_from_their_commit_until_they_are_marked(store: OperatedStore) -> None:
    written = [replace(outgoing(f"key-{n}"), slot=n % 2) for n in range(5)]
    await commit(store, changes(outbox=written))
    reader = store.outbox()
    await eventually(reader.claim_slots)
    rows = await reader.unsent(10)

    before = (await standing(store)).due
    assert counts(before) == {(WorkKind.OUTBOX, "", "0"): 3, (WorkKind.OUTBOX, "", "1"): 2}
    assert {due.oldest for due in before} == {str(rows[0].id), str(rows[1].id)}
    acknowledged = await store.standing([], 0, [row.id for row in rows[:4]])
    assert [(due.count, due.oldest) for due in acknowledged.due] == [(1, str(rows[4].id))]
    await reader.mark_sent([row.id for row in rows[:2]])
    after = (await standing(store)).due
    assert {due.oldest for due in after} == {str(rows[2].id), str(rows[3].id)}
    await reader.mark_sent([row.id for row in rows])
    assert (await standing(store)).due == []


async def test_heads_are_due_by_event_type_until_they_are_tried_and_not_what_is_held_or_dead(
    store: OperatedStore,
) -> None:
    await park(store, parked("a", "1", delay_ms=0), parked("a", "2", attempts=0, delay_ms=0))
    await park(store, replace(parked("b", "1", delay_ms=0), event_type="other"), parked("c", "1", delay_ms=LONG_MS))
    await park(store, dead("d", "1", delay_ms=0))

    async def both_due() -> Sequence[Due]:
        due = (await standing(store)).due
        assert {each.count for each in due} == {1}
        return due if len(due) == 2 else []

    before = await eventually(both_due)
    assert {(due.kind, due.consumer) for due in before} == {(WorkKind.RETRY, CONSUMER)}
    assert "other" in {due.place for due in before}
    async with store.transaction() as tx:
        (head,) = await waiting(tx, "b")
        await tx.commit(changes(reparked=[replace(head, attempts=2, delay_ms=LONG_MS)]))
    assert [due.place for due in (await standing(store)).due] == [parked("a", "1").event_type]
    assert not (await store.standing(["somebody else"], 0)).due


async def test_intents_are_due_when_no_living_process_asks_them_and_unending_when_they_are_old(
    store: OperatedStore,
) -> None:
    await commit(store, changes(opened=[intent("0")], lease_ms=LONG_MS))
    await commit(store, changes(opened=[intent("a"), intent("b")], lease_ms=0))

    async def due() -> bool:
        found = (await standing(store)).due
        return [(each.kind, each.place, each.count, each.oldest) for each in found] == [
            (WorkKind.INTENT, "charge", 2, "charge:a/0")
        ]

    assert await eventually(due)
    await store.claim_intents(10, LONG_MS)
    await commit(store, changes(postponed=[intent("a", attempts=1, delay_ms=LONG_MS)]))
    assert (await standing(store)).due == []
    assert (await standing(store)).unending == []
    (unending,) = (await standing(store, 0)).unending
    assert (unending.kind, unending.count, unending.key) == (WorkKind.INTENT, 3, "charge:0")
    assert unending.age_ms >= 0


async def test_parked_heads_are_unending_by_the_age_of_their_first_failure(store: OperatedStore) -> None:
    await park(store, parked("a", "1", delay_ms=LONG_MS), parked("a", "2", attempts=0), dead("b", "1"))
    assert (await standing(store)).unending == []
    (unending,) = (await standing(store, 0)).unending
    assert (unending.kind, unending.consumer, unending.count, unending.key) == (WorkKind.RETRY, CONSUMER, 1, "a")


async def test_what_expired_unread_is_kept_until_somebody_acknowledges_it(store: OperatedStore) -> None:
    recovery = store.recovery
    other = replace(LOST, consumer="notification")

    assert [each.count for each in await recovery.note_expired([LOST, other])] == [90, 90]
    assert await recovery.note_expired([LOST]) == []
    assert await recovery.note_expired([]) == []
    assert [(e.consumer, e.topic, e.partition, e.first_lost, e.next_kept) for e in await recovery.expired()] == [
        ("notification", "order-events", 3, 10, 100),
        ("payment", "order-events", 3, 10, 100),
    ]
    assert await recovery.acknowledge_expired("payment", ADA) == 90
    assert [each.consumer for each in await recovery.expired()] == ["notification"]
    assert await recovery.note_expired([LOST]) == []
    (action, *_) = await recovery.actions(1)
    assert (action.who, action.action, action.target) == ("ada", "acknowledge", "expired records of payment")
    assert (action.reason, action.result) == ("ticket 4711", "90 records lost")
    assert await recovery.acknowledge_expired("payment", ADA) == 0
    assert len(await recovery.actions(10)) == 1


async def test_a_loss_that_grows_is_told_again(store: OperatedStore) -> None:
    recovery = store.recovery
    await recovery.note_expired([LOST])
    await recovery.acknowledge_expired("payment", ADA)

    (news,) = await recovery.note_expired([replace(LOST, next_kept=120)])

    assert news.count == 110
    assert [each.count for each in await recovery.expired()] == [110]
