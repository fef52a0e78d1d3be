"""An event that could not be decoded is named by its place in the log; when it can be, it has its own name too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as with_fields

from orderflow.core.envelopes import from_parked, from_record
from orderflow.core.inbox import InboxState
from orderflow.core.messages import Catalogue, Event
from orderflow.core.retries import Retrier
from orderflow.core.telemetry import Outcome
from orderflow.core.transport import ConsumerRecord
from tests.unit.core.toy import Counted, Opened
from tests.unit.core.world import World, outcomes, record_of

EVENTS: list[Event] = [Counted(name="k", amount=1), Opened(name="k")]


class Release:
    """A world whose release cannot read any event, until it is `mended`."""

    def __init__(self) -> None:
        self.world = World()
        self._newer = self.world.service
        self._older = replace(self._newer, catalogue=Catalogue(()))
        self.world.processor.service = self._older

    def mended(self) -> None:
        self.world.processor.service = self._newer

    def reverted(self) -> None:
        self.world.processor.service = self._older

    async def admit(self, *records: ConsumerRecord) -> list[Outcome]:
        catalogue = self.world.processor.service.catalogue
        return outcomes(await self.world.admit(*(from_record(record, catalogue) for record in records)))

    async def sent(self) -> None:
        """An operator replays what is dead, and the retrier takes it."""
        parked = self.world.database.state.parked
        for position, waiting in list(parked.items()):
            parked[position] = with_fields(waiting, event=with_fields(waiting.event, state=InboxState.PARKED))
        retrier = Retrier("counter", self.world.processor, self.world.store, self.world.signals, self.world.clock)
        retrier.schedule(0)
        await retrier.step()


@pytest.mark.parametrize("event", EVENTS)
async def test_it_is_handled_once_and_its_redelivery_is_a_duplicate(event: Event) -> None:
    release = Release()
    record = record_of(event, offset=7)
    assert await release.admit(record) == [Outcome.DEAD]
    release.mended()

    await release.sent()

    assert len(release.world.moods.handled) == 1
    assert release.world.parked() == []
    assert list(release.world.states().values()) == ["DONE", "DONE"]
    assert await release.admit(record) == [Outcome.DUPLICATE]


@pytest.mark.parametrize("event", EVENTS)
async def test_it_has_no_effect_if_a_process_of_the_new_release_had_handled_it_before(event: Event) -> None:
    release = Release()
    record = record_of(event, offset=7)
    release.mended()
    assert await release.admit(record) == [Outcome.HANDLED]
    release.reverted()
    assert await release.admit(record) == [Outcome.DEAD]
    release.world.moods.handled.clear()
    release.mended()

    await release.sent()

    assert release.world.moods.handled == []
    assert release.world.parked() == []
    assert set(release.world.states().values()) == {"DONE"}


async def test_a_copy_that_was_held_behind_it_has_no_effect() -> None:
    release = Release()
    record, later = record_of(EVENTS[0], offset=7), record_of(Counted(name="k", amount=2), offset=8)
    await release.admit(record)
    release.mended()
    assert await release.admit(record, later) == [Outcome.HELD, Outcome.HELD]

    await release.sent()

    assert release.world.moods.handled == ["k+1", "k+2"]
    assert release.world.parked() == []
    assert set(release.world.states().values()) == {"DONE"}


async def test_a_failure_keeps_the_name_that_it_was_parked_under() -> None:
    release = Release()
    await release.admit(record_of(Counted(name="k", amount=-1), offset=7))
    name = next(iter(release.world.states()))
    release.mended()

    await release.sent()

    assert release.world.states() == {name: "PARKED"}
    assert [(event.key, event.identity) for event in release.world.parked()] == [name]


async def test_an_event_that_could_be_decoded_has_one_name() -> None:
    world = World()
    await world.admit(Counted(name="k", amount=-1), Opened(name="k"))

    assert [from_parked(event, world.service.catalogue).also for event in world.parked()] == [None, None]


async def test_it_has_no_effect_if_it_was_given_up_under_its_own_name() -> None:
    release = Release()
    record = record_of(Counted(name="k", amount=1), offset=7)
    release.mended()
    await release.admit(record)
    inbox = release.world.database.state.inbox
    for name, entry in list(inbox.items()):
        inbox[name] = with_fields(entry, state=InboxState.DISCARDED)
    release.reverted()
    assert await release.admit(record) == [Outcome.DEAD]
    release.world.moods.handled.clear()
    release.mended()

    await release.sent()

    assert release.world.moods.handled == []
    assert sorted(release.world.states().values()) == ["DISCARDED", "DONE"]
