"""An operator gives a parked event up: it is never handled, and those behind it go on."""

from __future__ import annotations

import asyncio

import pytest

from orderflow.core.identity import lock_id
from orderflow.core.inbox import InboxState
from orderflow.core.operations.model import (
    ConfirmationNeededError,
    LetterFilter,
    LetterMissingError,
    Moment,
)
from orderflow.core.processor import KeyBusyError
from orderflow.core.store import Act
from tests.support.callers import person
from tests.support.interleaving import virtually
from tests.support.waiting import eventually
from tests.unit.core.recovery.bench import ME, Bench, held_lock
from tests.unit.core.toy import Counted
from tests.unit.core.world import outcomes


async def test_what_waits_behind_goes_on() -> None:
    bench = Bench()
    (head,) = await bench.bury("k")
    await bench.world.admit(Counted(name="k", amount=2), Counted(name="k", amount=3))

    async with bench.started():
        await bench.recovery.discard(head.event_id, ME)
        await eventually(lambda: not bench.world.parked())

    assert bench.world.moods.handled == ["k+2", "k+3"]
    assert bench.state_of(head) is InboxState.DISCARDED
    assert bench.world.flow()[-1] == "Reopened k"


async def test_what_waits_behind_is_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.core.progress.LOOK_S", 3600.0)
    bench = Bench()
    (head,) = await bench.bury("k")
    await bench.world.admit(Counted(name="k", amount=2))

    async with bench.started():
        await eventually(lambda: bench.world.steps.count("due_keys") >= len(bench.engine.overruling.consumers))
        await bench.recovery.discard(head.event_id, ME)
        await eventually(lambda: bench.world.moods.handled == ["k+2"])


async def test_a_key_with_nothing_behind_is_open_again() -> None:
    bench = Bench()
    (head,) = await bench.bury("k")

    await bench.recovery.discard(head.position, ME)

    assert bench.world.flow() == ["Dead k", "Reopened k"]
    assert outcomes(await bench.world.admit(Counted(name="k", amount=2))) == ["handled"]


async def test_one_in_the_middle_can_be_taken_out() -> None:
    bench = Bench()
    (head,) = await bench.bury("k")
    await bench.world.admit(Counted(name="k", amount=-9), Counted(name="k", amount=3))
    middle = bench.world.parked()[1]

    await bench.recovery.discard(middle.event_id, ME)

    assert [event.position for event in bench.world.parked()] == [head.position, middle.position + 1]
    assert bench.world.flow() == ["Dead k"]


async def test_a_discarded_event_that_comes_again_is_known() -> None:
    bench = Bench()
    bench.world.moods.broken.add("k")
    event = bench.world.read(Counted(name="k", amount=1))
    await bench.world.admit(event)
    bench.world.moods.broken.clear()
    await bench.recovery.discard(event.event_id, ME)

    assert outcomes(await bench.world.admit(event)) == ["duplicate"]
    assert bench.world.total("k") is None


async def test_a_reason_is_always_asked_for() -> None:
    bench = Bench()
    (head,) = await bench.bury("k")

    with pytest.raises(ConfirmationNeededError, match="give a reason"):
        await bench.recovery.discard(head.event_id, Act(caller=person("ada"), reason=" "))

    assert bench.world.parked() == [head]


async def test_it_is_logged_with_its_result() -> None:
    bench = Bench()
    (head,) = await bench.bury("k")
    await bench.world.admit(Counted(name="k", amount=2))

    await bench.recovery.discard(head.event_id, ME)

    (action,) = await bench.recovery.store.actions(10)
    assert (action.action, action.target, action.reason) == ("discard", str(head.event_id), "mended in 1.2.4")
    assert action.result == "Discarded. What waits behind it goes on (1)."
    last = (await bench.recovery.store.history(head.event_id))[-1]
    assert (last.moment, last.who, last.message) == (Moment.DISCARDED, ME.who, ME.reason)


async def test_what_is_not_parked_cannot_be_discarded() -> None:
    bench = Bench()
    (head,) = await bench.bury("k")
    await bench.recovery.discard(head.event_id, ME)

    with pytest.raises(LetterMissingError, match=str(head.event_id)):
        await bench.recovery.discard(head.event_id, ME)


@virtually
async def test_it_does_not_wait_long_for_live_traffic() -> None:
    bench = Bench()
    (head,) = await bench.bury("k")
    done = asyncio.Event()
    traffic = asyncio.ensure_future(held_lock(bench, [lock_id("k")], done))
    await eventually(lambda: bench.world.database.locks.is_held(lock_id("k")))

    with pytest.raises(KeyBusyError, match="try again"):
        await bench.recovery.discard(head.event_id, ME)

    done.set()
    await traffic
    assert bench.world.parked() == [head]
    assert bench.world.database.state.actions == {}


async def test_two_operators_at_once_discard_it_once() -> None:
    bench = Bench()
    (head,) = await bench.bury("k")

    done = await asyncio.gather(
        *(bench.recovery.discard(head.event_id, ME) for _ in range(3)), return_exceptions=True
    )

    assert sorted(type(each).__name__ for each in done) == ["LetterMissingError", "LetterMissingError", "NoneType"]
    assert await bench.recovery.store.letters(LetterFilter(state=None), 10) == []
