"""What a message means to a service, and what is noted of it."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from msgspec.structs import replace

from orderflow.core.decisions import attempts_of, finish, intent_of
from orderflow.core.envelopes import from_parked
from orderflow.core.identity import event_id
from orderflow.core.inbox import InboxEntry, InboxState, ParkedEvent
from orderflow.core.processor import Processor
from orderflow.core.store import Changes
from orderflow.core.telemetry import Outcome
from tests.unit.core.toy import Counted, Put, Total
from tests.unit.core.world import World, command, outcomes, poisoned


async def test_a_command_that_the_table_does_not_name_is_told_to_its_caller() -> None:
    world = World()
    handlers = {kind: handler for kind, handler in world.service.handlers.items() if kind is not Put}
    service = dataclasses.replace(world.service, handlers=handlers)
    processor = Processor(service, world.store, world.policy, world.signals, world.clock)

    [result] = await processor.admit("counter", [command()])

    assert result.outcome is Outcome.REFUSED
    assert str(result.refusal) == "counter has no handler for toy.Put"


@pytest.mark.parametrize(("less", "outcome"), [(0, Outcome.HANDLED), (1, Outcome.PARKED)])
async def test_an_event_that_the_log_would_not_take_is_not_published(
    less: int, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(msgspec.json.encode(Total(name="k", total=1)))
    monkeypatch.setattr("orderflow.core.decisions.VALUE_MAX", size - less)
    world = World()

    results = await world.admit(Counted(name="k", amount=1))

    assert outcomes(results) == [outcome]
    assert len(world.outbox("totals")) == 1 - less
    assert world.committed[0].closed_intents == []


def parked(value: bytes) -> ParkedEvent:
    record = poisoned(3, key=b"k", value=value)
    at = event_id("a", "b", "k", 1)
    return ParkedEvent(
        key="k", identity="i", event_id=at, event_type="toy.Said.v1", record=record, attempts=4, intent="ask:k"
    )


def test_of_what_is_parked_intent_and_attempts_are_known_also_while_it_cannot_be_read() -> None:
    world = World()
    incoming = from_parked(parked(b"?"), world.service.catalogue)
    assert incoming.envelope is None
    assert (intent_of(incoming), attempts_of(incoming)) == ("ask:k", 4)
    fresh = world.read(Counted(name="k", amount=1))
    assert (intent_of(fresh), attempts_of(fresh)) == (None, 0)


def test_what_is_done_is_noted_under_both_of_its_names_each_with_its_own_id() -> None:
    incoming = replace(World().read(Counted(name="k", amount=1)), also=("former", "place"))
    renamed = replace(incoming, event_id=event_id("a", "b", "c", 2))
    assert renamed.envelope is not None
    for message, second in ((renamed, renamed.envelope.id), (replace(renamed, envelope=None), renamed.event_id)):
        changes = Changes(consumer="c", existing=frozenset(), lease_ms=0)
        finish(changes, message, InboxState.DISCARDED)
        assert changes.inbox == [
            InboxEntry("k", renamed.identity, renamed.event_id, InboxState.DISCARDED),
            InboxEntry("former", "place", second, InboxState.DISCARDED),
        ]
        assert changes.released == []
