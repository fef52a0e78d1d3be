"""The operators' log, for both stores: every act in it by its own transaction, each row linked to the one before."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from asyncpg import DataError
from msgspec.structs import replace

from orderflow.core.failures import Verdict
from orderflow.core.game_days.fault import Fault, FaultKind
from orderflow.core.inbox import InboxState
from orderflow.core.operations.hash_chain import BEFORE_THE_FIRST, ChainCheck, hash_of
from orderflow.core.operations.model import Expired, OperatorAction, Overrule, ReplayPlan, ReplayState
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import Act, DataRefusedError, LogEntry, OutboxFilter, OutboxReader
from tests.conformance.store_backends import Backend
from tests.conformance.store_values import changes, commit, dead, entry, outgoing, park, sequence
from tests.support.callers import person
from tests.support.waiting import eventually

ADA = Act(caller=person("ada \u2603"), reason="it was mended: 7:a,b", confirmed=True)


def entries(*targets: str) -> list[LogEntry]:
    return [LogEntry(ADA, "look", target, "seen.\n") for target in targets]


def checked(latest_first: list[OperatorAction]) -> ChainCheck:
    check = ChainCheck()
    check.read(latest_first)
    check.end()
    return check


async def everything(store: OperatedStore) -> list[OperatorAction]:
    return list(await store.recovery.actions(1_000))


async def test_every_row_holds_the_hash_of_itself_and_of_the_one_before(store: OperatedStore) -> None:
    await store.recovery.log(*entries("a"))
    await commit(store, changes(log=entries("b", "c")))
    await store.recovery.log(*entries(""))

    found = await everything(store)
    assert [(each.number, each.target) for each in found] == [(4, ""), (3, "c"), (2, "b"), (1, "a")]
    previous = BEFORE_THE_FIRST
    for action in reversed(found):
        previous = hash_of(previous, action)
        assert action.hash == previous.hex()
    assert checked(found).first is None
    assert checked(found).head == (4, found[0].hash)


async def test_acts_at_the_same_time_make_one_chain_without_a_fork_or_a_gap(
    backend: Backend, store: OperatedStore
) -> None:
    other = await backend.open()
    fault = Fault(event_type="t", field="f", value="v", error=FaultKind.HANG)

    async def refused(number: int) -> None:
        with pytest.raises(DataRefusedError):
            await commit(store, changes(log=entries(f"refused {number}"), released=[987]))

    await asyncio.gather(
        *(each.recovery.log(*entries(f"{number}")) for number in range(10) for each in (store, other)),
        *(commit(each, changes(log=entries("x", "y"))) for _ in range(5) for each in (store, other)),
        *(backend.faults().add(fault, ADA) for _ in range(3)),
        *map(refused, range(5)),
    )

    found = await everything(store)
    assert [each.number for each in found] == list(range(43, 0, -1))
    assert checked(found).first is None


async def test_all_faults_are_cleared_by_one_act_with_a_row_for_each(backend: Backend, store: OperatedStore) -> None:
    faults = backend.faults()
    for value in ("a", "b"):
        await faults.add(Fault(event_type="t", field="f", value=value, error=FaultKind.HANG, share=0.5), ADA)
    await faults.clear(None, ADA)
    await faults.clear(None, ADA)
    await faults.clear(7, ADA)

    found = await everything(store)
    assert [(each.action, each.target) for each in reversed(found)] == [
        ("fault add", "fault 1: hang at t with f=a for 0.5 of the keys"),
        ("fault add", "fault 2: hang at t with f=b for 0.5 of the keys"),
        ("fault clear", "fault 1: hang at t with f=a for 0.5 of the keys"),
        ("fault clear", "fault 2: hang at t with f=b for 0.5 of the keys"),
    ]
    assert {(each.who, each.reason) for each in found} == {(ADA.who, ADA.reason)}
    assert checked(found).first is None


async def test_each_act_is_logged_by_itself_and_one_without_effect_is_not(store: OperatedStore) -> None:
    recovery = store.recovery
    await park(store, dead("k", "1"))
    (event,) = await sequence(store, "k")
    number = (await recovery.begin_replay([event.position], ReplayPlan(), ADA, 0, "group 7")).number
    assert await recovery.pause_replay(number, ADA, "lunch")
    assert not await recovery.pause_replay(number, ADA)
    assert await recovery.resume_replay(number, ADA)
    assert not await recovery.resume_replay(number, ADA)
    assert await recovery.claim_replay(60_000)
    assert await recovery.finish_step(number, 1, ReplayState.RUNNING)
    assert await recovery.finish_step(number, 2, ReplayState.STOPPED, "too many", "1 failed again. too many")
    assert not await recovery.finish_step(number, 2, ReplayState.DONE, "", "nobody's")
    await recovery.annotate("group", "look at it", ADA)
    await recovery.overrule(Overrule(consumer="shop", event_type="t.v1", verdict=Verdict.POISON), ADA, "poison.")
    await recovery.note_expired([Expired("shop", "parcels", 1, 3, 5)])
    assert await recovery.acknowledge_expired("shop", ADA) == 2
    assert await recovery.acknowledge_expired("shop", ADA) == 0
    assert await store.republish(OutboxFilter(), ADA, "all") == 0

    found = await everything(store)
    assert [(each.action, each.target, each.result) for each in reversed(found)] == [
        ("replay", f"replay {number}", "1 to replay: group 7."),
        ("pause", f"replay {number}", "Paused."),
        ("resume", f"replay {number}", "Resumed."),
        ("replay stopped", f"replay {number}", "1 failed again. too many"),
        ("note", "group", "look at it"),
        ("overrule", "shop t.v1", "poison."),
        ("acknowledge", "expired records of shop", "2 records lost"),
    ]
    assert {(each.who, each.reason) for each in found} == {(ADA.who, ADA.reason)}
    assert checked(found).first is None


UNSTORABLE = replace(ADA, reason="no text has a NUL: \x00")


async def test_an_act_whose_row_cannot_be_written_is_not_done(store: OperatedStore) -> None:
    await commit(store, changes(outbox=[outgoing("k")]))
    reader: OutboxReader = store.outbox()
    await eventually(reader.claim_slots)
    await reader.mark_sent([row.id for row in await reader.unsent(10)])
    act = LogEntry(UNSTORABLE, "set stock", "a", "done")

    with pytest.raises(DataRefusedError):
        await commit(store, changes(inbox=[entry("l", "1")], outbox=[outgoing("l")], log=[act]))
    with pytest.raises((DataRefusedError, DataError)):
        await store.republish(OutboxFilter(key="k"), UNSTORABLE, "key k")

    assert (await store.recovery.trail("l")).received == []
    assert await store.recovery.outbox_of("l") == []
    assert (await store.recovery.trail("k")).unsent == []
    assert await everything(store) == []


async def test_what_is_published_again_is_logged_with_it(store: OperatedStore) -> None:
    await commit(store, changes(outbox=[outgoing("k"), outgoing("l")], inbox=[entry("k", "1", InboxState.DONE)]))
    reader: OutboxReader = store.outbox()
    await reader.claim_slots()
    await reader.mark_sent([row.id for row in await reader.unsent(10)])

    assert await store.republish(OutboxFilter(key="k"), ADA, "key k") == 1

    (action,) = await everything(store)
    assert (action.action, action.target, action.result) == ("republish", "key k", "1 to publish again.")


async def test_whatever_is_changed_taken_out_or_exchanged_is_found_where_it_is(store: OperatedStore) -> None:
    for target in "abcde":
        await store.recovery.log(*entries(target))
    found = await everything(store)
    e, d, c, b, a = found

    for forged in (
        replace(c, target="x"),
        replace(c, who="eve"),
        replace(c, result="seen"),
        replace(c, reason=""),
        replace(c, at=c.at + timedelta(microseconds=1)),
        replace(c, action="l", target="ook"),
    ):
        misfit = checked([e, d, forged, b, a]).first
        assert misfit is not None
        assert (misfit.number, misfit.behind) == (3, 2)

    exchanged = replace(c, who="eve")
    exchanged = replace(exchanged, hash=hash_of(bytes.fromhex(b.hash), exchanged).hex())
    first = checked([e, d, exchanged, b, a]).first
    assert first is not None
    assert (first.number, first.behind) == (4, 3)

    missing = checked([e, d, b, a]).first
    assert missing is not None
    assert "row 3 is missing" in missing.why
    two_missing = checked([e, b, a]).first
    assert two_missing is not None
    assert "rows 3 to 4 are missing" in two_missing.why
    cut_before = checked([e, d, c]).first
    assert cut_before is not None
    assert (cut_before.number, cut_before.behind) == (3, 0)
    swapped = checked([e, c, d, b, a]).first
    assert swapped is not None
    unlinked = checked([e, d, replace(c, hash=""), b, a]).first
    assert unlinked is not None
    assert unlinked.number == 3


async def test_what_was_cut_off_at_the_end_shows_by_a_head_that_was_kept(store: OperatedStore) -> None:
    for target in "abc":
        await store.recovery.log(*entries(target))
    c, b, a = await everything(store)
    whole, cut = checked([c, b, a]), checked([b, a])

    assert cut.first is None
    assert whole.head[0] == 3
    assert c.hash in whole.hashes.values()
    assert c.hash not in cut.hashes.values()
