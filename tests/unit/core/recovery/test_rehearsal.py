"""A rehearsal says what a replay would do, and does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from orderflow.core.envelopes import from_record
from orderflow.core.failures import InfrastructureError
from orderflow.core.identity import lock_id
from orderflow.core.messages import Envelope
from orderflow.core.operations.model import CausedEvent, LetterFilter, RehearsalVerdict, Rehearsed, RowChange
from orderflow.core.service import Decision, Rows
from orderflow.core.store import StoreUnavailableError
from orderflow.core.testing.state import Rules
from tests.support.interleaving import virtually
from tests.support.waiting import eventually
from tests.unit.core.recovery.bench import DEAD, Bench, Closed, held_lock
from tests.unit.core.toy import Asked, Counted, Opened, refuse_666
from tests.unit.core.world import poisoned


def verdicts(rehearsed: Sequence[Rehearsed]) -> list[str]:
    return [each.verdict for each in rehearsed]


async def test_what_would_succeed_is_told_with_the_rows_and_events_that_it_would_cause() -> None:
    bench = Bench()
    await bench.world.admit(Counted(name="k", amount=5))
    await bench.bury("k", amount=2)
    await bench.world.admit(Counted(name="k", amount=3), Asked(name="k"))

    first, second, third = await bench.recovery.rehearse(DEAD)

    assert [each.verdict for each in (first, second, third)] == [RehearsalVerdict.SUCCEEDS] * 3
    assert first.rows == [
        RowChange(table="tallies", id="k", before={"total": 5}, after={"total": 7}),
        RowChange(table="movements", id=("k", 7), before=None, after={"name": "k", "number": 7}),
    ]
    assert first.events == [CausedEvent(type="toy.Total.v1", topic="totals", payload={"name": "k", "total": 7})]
    assert second.rows[0] == RowChange(table="tallies", id="k", before={"total": 7}, after={"total": 10})
    assert (third.rows, third.events, third.intents) == ([], [], ["ask:k"])
    assert msgspec.json.encode([first, second, third])


async def test_a_new_row_is_told_whole_and_an_unchanged_one_not_at_all() -> None:
    bench = Bench()
    await bench.bury("new")
    await bench.world.admit(Closed(name="new"), Closed(name="new"))

    new, emptied, same = await bench.recovery.rehearse(DEAD)

    assert new.rows[0] == RowChange(table="tallies", id="new", before=None, after={"name": "new", "total": 1})
    assert emptied.rows == [RowChange(table="tallies", id="new", before={"total": 1}, after={"total": 0})]
    assert (same.verdict, same.rows) == (RehearsalVerdict.SUCCEEDS, [])


async def test_what_would_fail_holds_what_is_behind_it() -> None:
    bench = Bench()
    await bench.bury("k")
    await bench.world.admit(Counted(name="k", amount=-2), Counted(name="k", amount=3))

    rehearsed = await bench.recovery.rehearse(DEAD)

    assert verdicts(rehearsed) == ["succeeds", "fails", "held"]
    assert (rehearsed[1].error, rehearsed[1].message) == ("ArithmeticError", "-2 is below zero")
    assert (rehearsed[1].rows, rehearsed[2].rows, rehearsed[2].error) == ([], [], "")


async def test_an_illegal_transition_is_told_from_a_failure_whoever_refuses_it() -> None:
    bench = Bench()
    await bench.world.admit(Closed(name="nothing"))
    await bench.bury("refused", amount=777)
    await bench.bury("beast", amount=666)

    rehearsed = await bench.recovery.rehearse(DEAD)

    assert verdicts(rehearsed) == ["illegal", "illegal", "fails"]
    assert [each.error for each in rehearsed] == [
        "IllegalTransitionError",
        "TransitionRefusedError",
        "DataRefusedError",
    ]


async def test_what_the_database_would_refuse_is_found_in_the_middle_of_a_sequence() -> None:
    bench = Bench()
    await bench.bury("k")
    await bench.world.admit(*(Counted(name="k", amount=amount) for amount in (600, 65, 4, 5)))

    rehearsed = await bench.recovery.rehearse(DEAD)

    assert verdicts(rehearsed) == ["succeeds", "succeeds", "fails", "held", "held"]
    assert rehearsed[2].message == "the number of the beast"
    assert [change.after["total"] for each in rehearsed for change in each.rows if "total" in change.after] == [
        1,
        601,
    ]


async def test_more_than_one_transaction_of_the_retrier_takes_is_rehearsed_whole() -> None:
    bench = Bench()
    await bench.bury("k")
    await bench.world.admit(*(Counted(name="k", amount=n) for n in range(1_000, 1_450)))

    rehearsed = await bench.recovery.rehearse(DEAD)

    assert verdicts(rehearsed) == ["succeeds"] * 451


async def test_an_event_that_cannot_be_read_still_fails() -> None:
    bench = Bench()
    await bench.world.admit(from_record(poisoned(1, key=b"k", value=b"?"), bench.world.service.catalogue))

    (rehearsed,) = await bench.recovery.rehearse(DEAD)

    assert rehearsed.verdict is RehearsalVerdict.FAILS
    assert rehearsed.kind == "permanent"


async def test_only_what_is_meant_is_rehearsed_and_never_more_than_asked_for() -> None:
    bench = Bench()
    _, b, _ = [(await bench.bury(name))[0] for name in ("a", "b", "c")]

    one = await bench.recovery.rehearse(LetterFilter(events=(b.event_id,)))
    two = await bench.recovery.rehearse(DEAD, limit=2)

    assert [each.key for each in one] == ["b"]
    assert [each.key for each in two] == ["a", "b"]


async def test_nothing_at_all_is_changed_published_or_asked() -> None:
    bench = Bench()
    await bench.world.admit(Counted(name="k", amount=5))
    await bench.bury("k")
    await bench.world.admit(
        Counted(name="k", amount=2), Asked(name="k"), Opened(name="k"), Counted(name="k", amount=-1)
    )
    await bench.bury("beast", amount=666)
    before, committed = bench.checksum(), len(bench.world.committed)

    rehearsed = await bench.recovery.rehearse(DEAD)

    assert verdicts(rehearsed) == ["succeeds"] * 4 + ["fails", "fails"]
    assert bench.checksum() == before
    assert len(bench.world.committed) == committed


@pytest.mark.parametrize("step", ["begin", "open", "opened", "commit"])
async def test_a_rehearsal_that_is_cancelled_leaves_nothing(step: str) -> None:
    bench = Bench()
    await bench.bury("k")
    before = bench.checksum()
    reached, stay = asyncio.Event(), asyncio.Event()

    async def gate(name: str) -> None:
        if name == step:
            reached.set()
            await stay.wait()

    bench.world.database.gate = gate
    rehearsing = asyncio.ensure_future(bench.recovery.rehearse(DEAD))
    async with asyncio.timeout(60):
        await reached.wait()
    rehearsing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rehearsing
    stay.set()

    assert bench.checksum() == before
    assert (await bench.world.admit(Counted(name="k", amount=1)))[0].outcome == "held"


async def test_a_database_that_goes_away_is_told() -> None:
    bench = Bench()
    await bench.bury("k")
    bench.world.lose("commit")

    with pytest.raises(StoreUnavailableError):
        await bench.recovery.rehearse(DEAD)


@virtually
async def test_it_does_not_wait_long_for_live_traffic_and_says_so() -> None:
    bench = Bench()
    for name in ("a", "b", "c"):
        await bench.bury(name)
    await bench.world.admit(Counted(name="b", amount=1))
    done = asyncio.Event()
    traffic = asyncio.ensure_future(held_lock(bench, [lock_id("a"), lock_id("b")], done))
    await eventually(lambda: bench.world.database.locks.is_held(lock_id("b")))

    rehearsed = await bench.recovery.rehearse(DEAD)

    assert [(each.key, each.verdict.value) for each in rehearsed] == [
        ("a", "busy"),
        ("b", "busy"),
        ("b", "busy"),
        ("c", "succeeds"),
    ]
    assert rehearsed[0].message == "Live traffic is working on the key a: try again in a moment."
    done.set()
    await traffic


async def test_what_is_changed_while_it_waits_for_the_lock_is_looked_at_again() -> None:
    bench = Bench()
    (head,) = await bench.bury("k", amount=1)
    done = asyncio.Event()
    traffic = asyncio.ensure_future(held_lock(bench, [lock_id("k")], done))
    await eventually(lambda: bench.world.database.locks.is_held(lock_id("k")))
    rehearsing = asyncio.ensure_future(bench.recovery.rehearse(DEAD))
    await eventually(lambda: bench.world.database.locks.awaited)

    parked = bench.world.database.state.parked
    edited = msgspec.structs.replace(head.record, value=b'{"name":"k","amount":9}')
    event = msgspec.structs.replace(head, record=edited)
    parked[head.position] = msgspec.structs.replace(parked[head.position], event=event)
    done.set()
    await traffic

    assert [each.rows[0].after["total"] for each in await rehearsing] == [9]


async def test_infrastructure_that_is_away_is_told_for_the_key_that_needs_it() -> None:
    bench = Bench()
    await bench.bury("k", "other")
    handler = bench.world.service.handlers[Counted]

    def away(rows: Rows, envelope: Envelope) -> Decision:
        if envelope.key == "k":
            raise InfrastructureError("the provider is away")
        return handler.decide(rows, envelope)

    bench.world.service.handlers[Counted] = replace(handler, decide=away)  # type: ignore[index]
    rehearsed = await bench.recovery.rehearse(DEAD)

    assert verdicts(rehearsed) == ["busy", "succeeds"]
    assert (rehearsed[0].kind, rehearsed[0].message) == ("infrastructure", "the provider is away")


async def test_what_a_whole_batch_hides_is_hidden_as_it_is_for_the_retrier() -> None:
    """Within one batch the database sees the last version of a row only; so the way in is taken in the same parts."""
    bench = Bench()
    bench.world.database.rules = Rules((refuse_666,), frozenset())
    await bench.bury("k", amount=1)
    await bench.world.admit(Counted(name="k", amount=665), *(Counted(name="k", amount=1) for _ in range(198)))
    await bench.world.admit(Closed(name="k"), Counted(name="k", amount=666), Counted(name="k", amount=1))

    rehearsed = await bench.recovery.rehearse(DEAD)
    await bench.replay_all()

    assert verdicts(rehearsed) == ["succeeds"] * 201 + ["fails", "held"]
    assert [event.position for event in bench.world.parked()] == [each.position for each in rehearsed[-2:]]
