"""A service says again what was lost on the way, and takes again what was lost on arrival; nothing else changes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import ClassVar
from uuid import UUID

import msgspec
import pytest

from orderflow.core.engine import Engine
from orderflow.core.failures import FinalError
from orderflow.core.identity import event_id, lock_id
from orderflow.core.inbox import InboxState
from orderflow.core.messages import Catalogue, Envelope, Event
from orderflow.core.operations.model import ConfirmationNeededError, EventUnreadError, RecoveryError
from orderflow.core.operations.repairing import Regard, Regarded, Repairs, Said
from orderflow.core.processor import KeyBusyError
from orderflow.core.retry import Backoff, RetryPolicy
from orderflow.core.service import Decision, Handler, Ref, RefusedError, Restatement, Rows, Stated, Statement
from orderflow.core.store import Act
from orderflow.core.testing import MemoryTransport
from orderflow.core.testing.store import MemoryStore
from tests.support.callers import person
from tests.support.waiting import eventually
from tests.unit.core.recovery.bench import ME, QUICK, Bench, held_lock
from tests.unit.core.toy import Counted, Noticed, Put, Tally, Total, ToyEvent, intent_of, touches
from tests.unit.core.world import header, outcomes

SOURCE = "/orderflow/counter"


class Begun(ToyEvent, frozen=True, kw_only=True):
    """Happens once a key: a tally is made, the outside world is asked, and the total is said."""

    TYPE: ClassVar[str] = "toy.Begun"
    ONCE: ClassVar[bool] = True


def begun(rows: Rows, envelope: Envelope) -> Decision:
    if rows.get(Tally, envelope.key) is not None:
        raise FinalError("it has begun")
    told = Total(name=envelope.key, total=0)
    return Decision(rows=(Tally(name=envelope.key, total=0),), events=(told,), intents=(intent_of(envelope.key),))


def state(rows: Rows, key: str) -> Statement:
    tally = rows.get(Tally, key)
    if tally is None:
        return Statement()
    return Statement(events=(Stated(Total(name=key, total=tally.total), 1),), intents=(intent_of(key),))


class Desk(Bench):
    """The toy service with an event that happens once, and an operator at its repairs."""

    def __init__(self) -> None:
        super().__init__()
        world = self.world
        world.service = replace(
            world.service,
            catalogue=Catalogue((*world.service.catalogue.types, Begun)),
            handlers={**world.service.handlers, Begun: Handler(touches, begun)},
            restatement=Restatement(lambda key: (Ref(Tally, key),), state),
        )
        world.processor = self.processor()
        self.engine = Engine(
            world.service,
            MemoryStore(world.database),
            MemoryTransport(self.log),
            gateway=None,
            signals=world.signals,
            clock=world.clock,
            rng=random.Random(3),
            config=QUICK,
        )

    @property
    def repairs(self) -> Repairs:
        return self.recovery.repairs

    def lose_the_tally(self, name: str) -> None:
        del self.world.database.state.rows[Ref(Tally, name)]

    async def regard(self, said: Said) -> Regarded:
        before = self.checksum()
        [found] = await self.repairs.regard(key_of(said), [said])
        assert self.checksum() == before
        return found


def said_of(event: Event, identity: UUID | None = None, sequence: int = 1) -> Said:
    return Said(
        type=f"{event.TYPE}.v1",
        topic="counts",
        event_id=str(identity or event_id("/other", event.TYPE, event.key, sequence)),
        source="/other",
        sequence=sequence,
        value=msgspec.json.encode(event).decode(),
    )


def key_of(said: Said) -> str:
    return str(msgspec.json.decode(said.value)["name"])


BEGUN = said_of(Begun(name="k"))


async def test_what_never_came_is_missing_and_what_came_is_known() -> None:
    desk = Desk()
    assert await desk.regard(BEGUN) == Regarded(consumer="counter", type="toy.Begun.v1", regard=Regard.MISSING)
    await desk.world.admit(Begun(name="k"))
    assert (await desk.regard(BEGUN)).regard is Regard.KNOWN


async def test_an_effect_that_is_lost_is_had_again_once_and_logged() -> None:
    desk = Desk()
    await desk.world.admit(Begun(name="k"))
    desk.lose_the_tally("k")
    desk.world.database.state.intents.clear()
    assert (await desk.regard(BEGUN)).regard is Regard.LOST

    [found] = await desk.repairs.take_again("k", BEGUN, ME)
    assert (found.regard, desk.world.total("k"), list(desk.world.intents())) == (Regard.LOST, 0, ["ask:k"])
    assert desk.world.states() == {("k", "toy.Begun"): "DONE"}
    [action] = await desk.recovery.store.actions(10)
    assert (action.who, action.action, action.target, action.reason) == ("ada", "repair", "k", ME.reason)
    assert action.result == "counter has taken toy.Begun.v1 again: its effect was not there."

    before = desk.checksum()
    assert [each.regard for each in await desk.repairs.take_again("k", BEGUN, ME)] == [Regard.KNOWN]
    assert desk.checksum() == before


async def test_the_answer_to_what_is_asked_once_more_is_not_the_one_that_is_known() -> None:
    desk = Desk()
    await desk.world.admit(desk.world.read(Begun(name="k"), event_id=UUID(BEGUN.event_id)))
    [first] = desk.world.intents().values()
    desk.lose_the_tally("k")
    desk.world.database.state.intents.clear()

    await desk.repairs.take_again("k", BEGUN, ME)
    [again] = desk.world.intents().values()
    questions = [first, again]
    for _ in range(2):
        await desk.repairs.say_again("k", (), ME, ask=True, flow=False)
        questions += desk.world.intents().values()
    assert len({each.cause for each in questions}) == len(questions) == 4
    assert {each.intent.key for each in questions} == {"ask:k"}


async def test_what_contradicts_the_rows_would_be_refused() -> None:
    desk = Desk()
    await desk.world.admit(Counted(name="k", amount=2))
    assert await desk.regard(BEGUN) == Regarded(
        consumer="counter", type="toy.Begun.v1", regard=Regard.REFUSED, why="FinalError: it has begun"
    )
    assert [each.regard for each in await desk.repairs.take_again("k", BEGUN, ME)] == [Regard.REFUSED]
    assert await desk.recovery.store.actions(10) == []


async def test_what_the_database_refuses_would_be_refused_too() -> None:
    desk = Desk()
    assert (await desk.regard(said_of(Counted(name="k", amount=666)))).regard is Regard.REFUSED


async def test_an_event_that_can_come_often_is_known_by_its_id() -> None:
    desk = Desk()
    event = desk.world.read(Counted(name="k", amount=2))
    await desk.world.admit(event)
    known = said_of(Counted(name="k", amount=2), event.event_id)
    assert (await desk.regard(said_of(Counted(name="k", amount=2)))).regard is Regard.MISSING
    desk.world.database.state.facts.clear()
    assert (await desk.regard(known)).regard is Regard.LOST


async def test_what_waits_or_would_wait_is_for_the_dead_letters() -> None:
    desk = Desk()
    [head] = await desk.bury("k")
    waiting = said_of(Counted(name="k", amount=1), head.event_id)
    assert [(await desk.regard(each)).regard for each in (waiting, BEGUN)] == [Regard.WAITS, Regard.WAITS]
    await desk.recovery.discard(head.event_id, ME)
    assert (await desk.regard(waiting)).regard is Regard.GIVEN_UP


async def test_an_event_that_is_known_to_wait_and_waits_nowhere_is_lost() -> None:
    desk = Desk()
    [head] = await desk.bury("k")
    desk.world.database.state.parked.clear()
    said = said_of(Counted(name="k", amount=1), head.event_id)
    assert (await desk.regard(said)).regard is Regard.LOST
    await desk.repairs.take_again("k", said, ME)
    assert (desk.world.total("k"), desk.state_of(head)) == (1, InboxState.DONE)


async def test_what_is_not_read_is_left_out_and_what_cannot_be_read_is_refused() -> None:
    desk = Desk()
    unread = said_of(Noticed(name="k"))
    unknown = msgspec.structs.replace(BEGUN, type="toy.Unknown.v1")
    elsewhere = msgspec.structs.replace(BEGUN, topic="totals")
    assert await desk.repairs.regard("k", [unread, unknown, elsewhere]) == []
    with pytest.raises(EventUnreadError, match=r"No consumer of counter reads toy\.Noticed\.v1 of counts"):
        await desk.repairs.take_again("k", unread, ME)
    for value, key in (("{}", "k"), (BEGUN.value, "another")):
        with pytest.raises(EventUnreadError, match="This is no event that counter can read"):
            await desk.repairs.regard(key, [msgspec.structs.replace(BEGUN, value=value)])


async def test_the_same_event_is_said_again_with_its_id_and_number() -> None:
    desk = Desk()
    await desk.world.admit(Begun(name="k"))
    [first] = desk.world.outbox("totals")
    streams = dict(desk.world.database.state.streams)

    standing = await desk.repairs.standing("k")
    assert [(each.type, each.event_id, each.sequence) for each in standing.said] == [
        ("toy.Total.v1", str(first.event_id), 1)
    ]
    done = await desk.repairs.say_again("k", ["toy.Total.v1"], ME, ask=False, flow=False)
    assert (done.said, done.asks) == (standing.said, ())

    [_, again] = desk.world.outbox("totals")
    assert (again.event_id, again.value, again.slot) == (first.event_id, first.value, first.slot)
    assert header(again.headers, "ce_sequence") == "1"
    assert desk.world.database.state.streams == streams
    [action] = await desk.recovery.store.actions(10)
    assert action.result == "said again: toy.Total.v1"


async def test_what_is_said_again_is_published_and_counted_where_the_count_was_lost() -> None:
    desk = Desk()
    await desk.world.admit(Begun(name="k"))
    desk.world.database.state.outbox.clear()
    desk.world.database.state.pending.clear()
    desk.world.database.state.streams.clear()

    async with desk.started():
        await desk.repairs.say_again("k", ["toy.Total.v1"], ME, ask=False, flow=False)
        await eventually(lambda: not desk.world.database.state.pending)

    records = await MemoryTransport(desk.log).read("totals", 0, 0, 10)
    assert [header(each.headers, "ce_id") for each in records] == [str(event_id(SOURCE, "toy.Total", "k", 1))]
    assert desk.world.database.state.streams == {("k", SOURCE): 1}


async def test_nothing_is_said_of_a_key_that_is_not_known() -> None:
    desk = Desk()
    assert (await desk.repairs.standing("k")).said == ()
    await desk.repairs.say_again("k", ["toy.Total.v1"], ME, ask=True, flow=False)
    assert (desk.world.outbox(), desk.world.intents()) == ([], {})


async def test_a_question_that_got_lost_is_open_again_and_one_that_is_open_stays_one() -> None:
    desk = Desk()
    await desk.world.admit(Begun(name="k"))
    for _ in range(2):
        done = await desk.repairs.say_again("k", (), ME, ask=True, flow=False)
        assert (done.asks, list(desk.world.intents())) == (("ask:k",), ["ask:k"])
        desk.world.database.state.intents.clear()


async def test_each_consumer_says_again_how_it_stands_to_the_key() -> None:
    desk = Desk()
    await desk.bury("dead")
    await desk.repairs.say_again("dead", (), ME, ask=False, flow=True)
    await desk.repairs.say_again("free", (), ME, ask=False, flow=True)
    desk.world.moods.broken.add("ill")
    desk.world.policy = replace(desk.world.policy, retry=RetryPolicy(Backoff(60_000, 60_000), 3))
    await desk.processor().admit("counter", [desk.world.read(Counted(name="ill", amount=1))])
    await desk.repairs.say_again("ill", (), ME, ask=False, flow=True)
    assert desk.world.flow() == ["Dead dead", "Dead dead", "Reopened free", "Parked ill", "Parked ill"]


async def test_nothing_is_done_without_a_reason_and_while_live_traffic_has_the_key() -> None:
    desk = Desk()
    await desk.world.admit(Begun(name="k"))
    desk.lose_the_tally("k")
    before = desk.checksum()
    for act in (
        Act(caller=person("ada"), reason="why", confirmed=False),
        Act(caller=person("ada"), reason=" ", confirmed=True),
    ):
        with pytest.raises(ConfirmationNeededError, match="give a reason"):
            await desk.repairs.take_again("k", BEGUN, act)
        with pytest.raises(ConfirmationNeededError):
            await desk.repairs.say_again("k", ["toy.Total.v1"], act, ask=True, flow=True)
        with pytest.raises(ConfirmationNeededError):
            await desk.repairs.carry_out(Put(name="k", total=3), act)
    done = asyncio.Event()
    traffic = asyncio.ensure_future(held_lock(desk, [lock_id("k")], done))
    await eventually(lambda: desk.world.database.locks.is_held(lock_id("k")))
    with pytest.raises(KeyBusyError):
        await desk.repairs.take_again("k", BEGUN, ME)
    done.set()
    await traffic
    assert desk.checksum() == before


async def test_two_operators_at_once_have_a_lost_effect_once() -> None:
    desk = Desk()
    await desk.world.admit(Begun(name="k"))
    desk.lose_the_tally("k")
    desk.world.database.state.intents.clear()
    both = await asyncio.gather(*(desk.repairs.take_again("k", BEGUN, ME) for _ in range(2)))
    assert sorted(each.regard for found in both for each in found) == [Regard.KNOWN, Regard.LOST]
    assert len(await desk.recovery.store.actions(10)) == 1


async def test_a_command_is_carried_out_with_its_row_in_the_log_or_not_at_all() -> None:
    desk = Desk()
    assert await desk.repairs.carry_out(Put(name="k", total=3), ME) == Tally(name="k", total=3)
    [action] = await desk.recovery.store.actions(10)
    assert (action.action, action.target, action.result) == ("put", "k", str(Tally(name="k", total=3)))
    with pytest.raises(RefusedError, match="below zero"):
        await desk.repairs.carry_out(Put(name="k", total=-1), ME)
    with pytest.raises(RecoveryError, match="nothing was stored"):
        await desk.repairs.carry_out(Put(name="k", total=13), ME)
    assert (desk.world.total("k"), len(await desk.recovery.store.actions(10))) == (3, 1)


async def test_a_retaken_event_that_comes_again_is_known() -> None:
    desk = Desk()
    event = desk.world.read(Begun(name="k"))
    await desk.world.admit(event)
    desk.lose_the_tally("k")
    desk.world.database.state.intents.clear()
    await desk.repairs.take_again("k", BEGUN, ME)
    assert outcomes(await desk.world.admit(event)) == ["duplicate"]
