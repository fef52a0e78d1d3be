"""What one batch comes to: messages in, all that is to be written out, and nothing around them."""

from __future__ import annotations

import dataclasses

from orderflow.core.decisions import FREE, BatchHandler, Terms
from orderflow.core.envelopes import Incoming, Result, from_parked, from_record
from orderflow.core.inbox import InboxState, ParkedEvent
from orderflow.core.service import Decision, Handler, Service
from orderflow.core.store import Act, LogEntry, Snapshot
from orderflow.core.telemetry import Outcome
from orderflow.core.transport import ConsumerRecord
from tests.support.callers import person
from tests.unit.core.toy import Counted, Put, Tally, touches
from tests.unit.core.world import World, command, outcomes, record_of

ACT = Act(caller=person("ada"), reason="counted anew")


def handler(
    world: World, snapshot: Snapshot | None = None, terms: Terms = FREE, service: Service | None = None
) -> BatchHandler:
    return BatchHandler(service or world.service, "counter", snapshot or Snapshot(), world.policy, {}, terms)


def parked(world: World, record: ConsumerRecord, position: int, identity: str = "") -> Incoming:
    """The record as it waits at this position, under its own name or another one."""
    own = from_record(record, world.service.catalogue)
    event = ParkedEvent(
        key=own.key,
        identity=identity or own.identity,
        event_id=own.event_id,
        event_type=own.event_type,
        record=record,
        position=position,
    )
    return from_parked(event, world.service.catalogue)


def test_a_message_that_comes_twice_is_decided_once() -> None:
    world = World()
    event, batch = world.read(Counted(name="k", amount=1)), handler(world)

    assert outcomes([batch.take(event), batch.take(event)]) == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert batch.changes.rows == [Tally(name="k", total=1)]


def test_copies_of_an_event_that_wait_under_several_names_are_handled_once_and_each_name_is_noted_once() -> None:
    """What could not be decoded when it came was named by its place in the log: a copy has another place."""
    world = World()
    record = record_of(Counted(name="k", amount=1), offset=7)
    copies = [parked(world, record, 1, "counts/7"), parked(world, record, 2, "counts/8"), parked(world, record, 3)]
    batch = handler(world, Snapshot(depth={"k": 3}))

    results = [batch.take(copy) for copy in copies]

    assert outcomes(results) == [Outcome.HANDLED, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert (batch.changes.rows, batch.changes.released) == ([Tally(name="k", total=1)], [1, 2, 3])
    assert [entry.identity for entry in batch.changes.inbox] == ["counts/7", copies[2].identity, "counts/8"]
    assert {entry.state for entry in batch.changes.inbox} == {InboxState.DONE}


def test_what_is_discarded_waits_no_longer_and_is_not_decided() -> None:
    world = World()
    event = parked(world, record_of(Counted(name="k", amount=1), offset=7), 1)
    batch = handler(world, Snapshot(depth={"k": 1}))

    assert batch.discard(event, ACT) == Result(event, Outcome.IGNORED)

    changes = batch.changes
    assert (changes.discarding, changes.released, changes.rows) == (ACT, [1], [])
    assert [(entry.identity, entry.state) for entry in changes.inbox] == [(event.identity, InboxState.DISCARDED)]


def test_what_is_parked_keeps_its_place_when_it_fails_again_however_little_room_there_is() -> None:
    world = World()
    event = parked(world, record_of(Counted(name="k", amount=-1), offset=7), 1)
    batch = handler(world, Snapshot(depth={"k": 1}), Terms(keys_left=0, depth_max=1))

    assert batch.take(event).outcome is Outcome.PARKED
    assert [each.position for each in batch.changes.reparked] == [1]


def test_a_command_that_is_somebodys_act_is_logged_with_its_result() -> None:
    world = World()
    batch = handler(world)

    batch.take(command(total=5, act=ACT))
    batch.take(command(total=6))

    assert batch.changes.log == [LogEntry(ACT, "put", "k", str(Tally(name="k", total=5)))]


def test_an_act_that_changes_nothing_and_says_nothing_is_not_logged() -> None:
    world = World()
    as_before = Handler(touches, lambda _, __: Decision(answer="as before"))
    batch = handler(world, service=dataclasses.replace(world.service, handlers={Put: as_before}))

    assert batch.take(command(total=5, act=ACT)).answer == "as before"
    assert batch.changes.log == []
