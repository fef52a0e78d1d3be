"""A message that the database will not even park ends all the same: dead without its content, at the last without its
name; a command is answered. The database here is one whose encoding lacks characters, as LATIN1 does.
"""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from msgspec.structs import replace

from orderflow.core.envelopes import from_answer, from_record
from orderflow.core.failures import describe
from orderflow.core.identity import record_id, uuid_text
from orderflow.core.inbox import ParkedEvent
from orderflow.core.processor import Share, Work
from orderflow.core.retries import Retrier
from orderflow.core.store import Act, DataRefusedError
from orderflow.core.telemetry import BatchCommitted, Outcome
from tests.support.callers import person
from tests.unit.core.toy import Asked, Counted, Said
from tests.unit.core.world import World, command, header, outcomes, poisoned, record_of

JAPANESE = "日本"


def latin() -> World:
    return World(encoding="latin-1")


async def retry(world: World) -> None:
    retrier = Retrier("counter", world.processor, world.store, world.signals, world.clock)
    retrier.schedule(0)
    await retrier.step()


async def test_a_failure_that_cannot_be_told_in_its_own_words_parks_its_event_as_any_other() -> None:
    world = latin()
    world.moods.broken.add("k")
    world.moods.words = JAPANESE

    results = await world.admit(Counted(name="k", amount=1), Counted(name="healthy", amount=1))

    assert outcomes(results) == [Outcome.PARKED, Outcome.HANDLED]
    [parked] = world.parked()
    assert parked.failure is not None
    assert (parked.failure.error, parked.record.value) == ("DataRefusedError", b'{"name":"k","amount":1}')


async def test_a_record_whose_type_is_refused_costs_it_its_content_and_not_its_place() -> None:
    world = latin()
    plain = record_of(Counted(name="k", amount=1), offset=7)
    record = replace(plain, headers=(*plain.headers, ("ce_type", JAPANESE.encode())))

    results = await world.admit(from_record(record, world.service.catalogue), Counted(name="healthy", amount=1))
    again = await world.admit(from_record(record, world.service.catalogue))
    later = await world.admit(Counted(name="k", amount=2))

    assert outcomes(results) == [Outcome.DEAD, Outcome.HANDLED]
    assert outcomes([*again, *later]) == [Outcome.DUPLICATE, Outcome.HELD]
    dead, _ = world.parked()
    assert (dead.key, dead.event_type) == ("k", "\\u65e5\\u672c")
    assert (dead.record.topic, dead.record.offset, dead.record.value) == ("counts", 7, None)
    assert dead.failure is not None
    assert dead.failure.error == "UnstorableError"
    assert dead.failure.message.isascii()
    digest = hashlib.sha256(record.value or b"").hexdigest()
    assert f"counts/0@7 ({header(dead.record.headers, 'dlt_omitted')} bytes, SHA-256 of the value {digest})" in (
        dead.failure.message
    )
    [letter] = world.outbox("counts.DLT")
    assert header(letter.headers, "dlt_whole") == "only at counts/0@7, for as long as the log keeps it"
    assert header(letter.headers, "dlt_value_sha256") == digest
    assert header(letter.headers, "dlt_omitted_parts") == "value, headers, key"


@pytest.mark.parametrize("value", [b"?", b'{"name":"' + JAPANESE.encode() + b'","amount":1}'])
async def test_a_record_whose_very_name_is_refused_is_dead_under_the_name_of_its_place(value: bytes) -> None:
    world = latin()
    record = replace(record_of(Counted(name=JAPANESE, amount=1), offset=7), value=value)
    poison = from_record(record, world.service.catalogue)

    results = await world.admit(poison, Counted(name="healthy", amount=1))
    again = await world.admit(poison)

    assert outcomes(results) == [Outcome.DEAD, Outcome.HANDLED]
    assert outcomes(again) == [Outcome.DUPLICATE]
    assert results[0].incoming is poison
    [dead] = world.parked()
    assert (dead.key, dead.identity) == ("counts/0/7", uuid_text(record_id("counts", 0, 7)))
    assert len(world.outbox("counts.DLT")) == 1


async def test_it_can_be_discarded() -> None:
    world = latin()
    record = poisoned(3, key=JAPANESE.encode(), value=b"?")
    await world.admit(from_record(record, world.service.catalogue))
    [dead] = world.parked()

    bare = replace(from_record(dead.record, world.service.catalogue, dead), key=dead.key)
    share = Share([bare], {bare.key}, discarding=Act(caller=person("ada")))
    await world.processor.process(Work(consumer="counter", batch=[bare], select=lambda _: share))

    assert world.parked() == []
    assert world.states()[dead.key, dead.identity] == "DISCARDED"


async def test_what_is_held_without_a_try_ends_too() -> None:
    world = latin()
    batch = [
        from_record(record_of(Counted(name=name, amount=1), offset=at), world.service.catalogue)
        for at, name in enumerate(("a", JAPANESE, "b"))
    ]

    assert outcomes(await world.processor.hold("counter", batch)) == [Outcome.HELD, Outcome.DEAD, Outcome.HELD]


async def test_a_retry_whose_failure_cannot_be_written_down_is_dead_and_kept_whole() -> None:
    world = World()
    names = ["k1", "k2", "k3"]
    world.moods.broken.update(names)
    await world.admit(*(Counted(name=name, amount=1) for name in names))
    world.moods.broken.discard("k3")
    world.store.refuses = lambda changes: any(not is_unstorable(each) for each in changes.reparked)

    await retry(world)

    assert [(each.key, each.state.name, each.record.value) for each in world.parked()] == [
        (name, "DEAD", record_of(Counted(name=name, amount=1), offset=0).value) for name in ("k1", "k2")
    ]
    assert world.total("k3") == 1
    whole = {header(each.headers, "dlt_whole") for each in world.outbox("counts.DLT")}
    assert whole == {"in the database of the consumer, parked as this event"}


async def test_a_key_whose_retry_is_refused_for_good_keeps_no_other_from_its_turn() -> None:
    world = World()
    names = ["k1", "k2", "k3"]
    world.moods.broken.update(names)
    await world.admit(*(Counted(name=name, amount=1) for name in names))
    world.moods.broken.clear()
    world.store.refuses = lambda changes: any(entry.key == "k1" for entry in changes.inbox)

    with pytest.raises(DataRefusedError):
        await retry(world)

    assert [each.key for each in world.parked()] == ["k1"]
    assert (world.total("k2"), world.total("k3")) == (1, 1)


async def test_an_answer_that_is_refused_is_dead_and_its_intent_is_not_asked_for_ever() -> None:
    world = World()
    await world.admit(Asked(name="k"))
    [asked] = world.intents().values()
    world.moods.broken.add("k")
    world.store.refuses = lambda changes: any(not is_unstorable(each) for each in changes.parked)
    answer = from_answer(Said(name="k", words="yes"), asked, "/toy/counter")

    results = await world.admit(answer)

    assert outcomes(results) == [Outcome.DEAD]
    assert world.intents() == {}
    assert [each.intent for each in world.parked()] == ["ask:k"]


@pytest.mark.parametrize("name", ["\x00", JAPANESE])
async def test_a_command_that_the_database_refuses_is_answered_and_harms_no_other(name: str) -> None:
    world = latin()

    results = await world.admit(command(name), command("fine"))

    assert outcomes(results) == [Outcome.REFUSED, Outcome.HANDLED]
    assert isinstance(results[0].refusal, DataRefusedError)
    assert results[0].failure == describe(results[0].refusal)


async def test_a_command_that_the_database_refuses_is_told_to_those_who_watch_and_nothing_is_handed_on() -> None:
    world = latin()

    [result] = await world.admit(command(JAPANESE))

    [told] = world.signals_of(BatchCommitted)
    assert [(each.outcome, each.key, each.failure) for each in told.handled] == [
        (Outcome.REFUSED, JAPANESE, result.failure)
    ]
    assert (told.service, told.duration_s, world.committed) == ("counter", 0.0, [])


async def test_what_no_record_is_to_blame_for_is_raised() -> None:
    world = World()
    world.store.refuses = lambda changes: bool(changes.parked)

    with pytest.raises(DataRefusedError):
        await asyncio.wait_for(world.admit(Counted(name="k", amount=-1)), 60)


def is_unstorable(event: ParkedEvent) -> bool:
    return event.failure is not None and event.failure.error == "UnstorableError"
