"""An event that could not be decoded is named by its place in the log; when it can be, it has its own name too."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.inbox import InboxState
from orderflow.messaging.incoming import Incoming, from_parked, from_record
from orderflow.messaging.message import Event
from orderflow.messaging.retrier import Retrier
from orderflow.messaging.signals import Outcome
from orderflow.messaging.transport import ConsumerRecord
from tests.unit.messaging.toy import Counted, Opened
from tests.unit.messaging.world import World, outcomes, record_of


class Release:
    """A world whose release cannot read an event yet, until `mended`."""

    def __init__(self) -> None:
        self.world = World()
        self._service = self.world.service
        self.world.inlet.service = replace(self._service, catalogue=Catalogue(()))

    def mended(self) -> None:
        self.world.inlet.service = self._service

    def read(self, record: ConsumerRecord) -> Incoming:
        return from_record(record, self.world.inlet.service.catalogue)

    async def sent(self) -> None:
        """An operator replays what is dead, and the retrier takes it."""
        world = self.world
        for position, waiting in list(world.database.state.parked.items()):
            event = waiting.event
            alive = event if event.state is InboxState.PARKED else _alive(event)
            world.database.state.parked[position] = replace(waiting, event=alive)
        retrier = Retrier("counter", world.inlet, world.store, world.signals, world.clock)
        retrier.poke(0)
        await retrier.step()


def _alive(event: object) -> object:
    from msgspec.structs import replace as with_fields

    return with_fields(event, state=InboxState.PARKED)  # type: ignore[type-var]


EVENTS: list[Event] = [Counted(name="k", amount=1), Opened(name="k")]


@pytest.mark.parametrize("event", EVENTS)
async def test_it_is_handled_once_and_its_redelivery_is_a_duplicate(event: Event) -> None:
    release = Release()
    record = record_of(event, offset=7)
    assert outcomes(await release.world.admit(release.read(record))) == [Outcome.DEAD]
    release.mended()

    await release.sent()

    assert len(release.world.moods.handled) == 1
    assert release.world.parked() == []
    assert set(release.world.states().values()) == {"DONE"}
    assert len(release.world.states()) == 2
    assert outcomes(await release.world.admit(release.read(record))) == [Outcome.DUPLICATE]


@pytest.mark.parametrize("event", EVENTS)
async def test_it_has_no_effect_if_the_event_was_handled_under_its_own_name(event: Event) -> None:
    release = Release()
    record = record_of(event, offset=7)
    await release.world.admit(release.read(record))
    release.mended()
    release.world.database.state.parked.clear()
    parked = from_record(record, release.world.service.catalogue)
    await release.world.admit(parked)
    release.world.moods.handled.clear()
    release = await _parked_again(release, record)

    await release.sent()

    assert release.world.moods.handled == []
    assert release.world.parked() == []
    assert set(release.world.states().values()) == {"DONE"}


async def _parked_again(release: Release, record: ConsumerRecord) -> Release:
    """The same record, undecodable to another process of the old release."""
    release.world.database.state.inbox = {
        name: entry for name, entry in release.world.database.state.inbox.items() if entry.state is InboxState.DONE
    }
    unreadable = from_record(record, Catalogue(()))
    release.world.inlet.service = replace(release.world.service, catalogue=Catalogue(()))
    assert outcomes(await release.world.admit(unreadable)) == [Outcome.DEAD]
    release.mended()
    return release


async def test_a_copy_that_was_held_behind_it_has_no_effect() -> None:
    release = Release()
    record = record_of(Counted(name="k", amount=1), offset=7)
    await release.world.admit(release.read(record))
    release.mended()
    copy = await release.world.admit(release.read(record), Counted(name="k", amount=2))
    assert outcomes(copy) == [Outcome.HELD, Outcome.HELD]

    await release.sent()

    assert release.world.moods.handled == ["k+1", "k+2"]
    assert release.world.parked() == []
    assert set(release.world.states().values()) == {"DONE"}


async def test_a_failure_keeps_the_name_that_it_was_parked_under() -> None:
    release = Release()
    record = record_of(Counted(name="k", amount=-1), offset=7)
    await release.world.admit(release.read(record))
    name = next(iter(release.world.states()))
    release.mended()

    await release.sent()

    assert release.world.states() == {name: "PARKED"}
    assert [(event.key, event.identity) for event in release.world.parked()] == [name]


async def test_an_event_that_could_be_decoded_has_one_name() -> None:
    world = World()
    await world.admit(
        Counted(name="k", amount=-1),
        from_record(record_of(Opened(name="k"), offset=9, event_id=uuid4()), world.service.catalogue),
    )

    assert [from_parked(event, world.service.catalogue).also for event in world.parked()] == [None, None]
