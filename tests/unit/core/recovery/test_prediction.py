"""What a rehearsal predicts is what happens, over random dead letters."""

from __future__ import annotations

import random

import msgspec
import pytest
from msgspec.structs import replace

from orderflow.core.envelopes import Incoming, from_record
from orderflow.core.inbox import InboxState, ParkedEvent
from orderflow.core.messages import Catalogue, Message
from orderflow.core.operations.model import RehearsalVerdict
from tests.unit.core.recovery.bench import DEAD, Bench, Closed
from tests.unit.core.toy import Asked, Counted, Movement, Opened
from tests.unit.core.world import poisoned, record_of

KEYS = ("a", "b", "c", "d", "e", "f")
AMOUNTS = (1, 2, 3, 333, 666, 777, -1, 0)


def some_event(name: str, rng: random.Random, bench: Bench, seen: list[Incoming]) -> Incoming:
    """Good, failing, refused, illegal or unreadable; at times one that came before."""
    if seen and rng.random() < 0.1:
        return rng.choice(seen)
    if rng.random() < 0.05:
        record = poisoned(len(seen), key=name.encode(), value=b"{")
    else:
        events: tuple[Message, ...] = (
            *(Counted(name=name, amount=rng.choice(AMOUNTS)) for _ in range(5)),
            Closed(name=name),
            Opened(name=name),
            Asked(name=name),
        )
        record = record_of(rng.choice(events), offset=len(seen))
    return from_record(record, bench.world.service.catalogue)


async def a_bad_day(bench: Bench, rng: random.Random) -> None:
    """Events of all kinds, while some keys fail; then some of those are mended."""
    seen: list[Incoming] = []
    for _ in range(rng.randrange(5, 40)):
        bench.world.moods.broken = {name for name in KEYS if rng.random() < 0.3}
        name = rng.choice(KEYS)  # one a batch: what fails alike with another is in doubt, and would not be dead
        batch = [some_event(name, rng, bench, seen) for _ in range(rng.randrange(1, 4))]
        await bench.processor().admit("counter", batch)
        seen += batch
    bench.world.moods.broken = {name for name in KEYS if rng.random() < 0.15}


def outcome(bench: Bench, before: ParkedEvent) -> str:
    """What has become of the event, in the words of a rehearsal."""
    now = {event.position: event for event in bench.world.parked()}.get(before.position)
    if now is None:
        return "succeeds" if bench.state_of(before) is InboxState.DONE else "gone"
    if now.state is InboxState.PARKED:
        return "held"
    assert now.failure is not None
    illegal = now.failure.error == "IllegalTransitionError" or now.failure.message == "tallies: no such transition"
    return "illegal" if illegal else "fails"


@pytest.mark.parametrize("seed", range(60))
async def test_predicted_is_actual(seed: int) -> None:
    bench = Bench()
    await a_bad_day(bench, random.Random(seed))
    parked = bench.world.parked()
    before = bench.checksum()

    predicted = await bench.recovery.rehearse(DEAD)

    assert bench.checksum() == before
    assert [each.position for each in sorted(predicted, key=lambda each: each.position)] == [
        event.position for event in parked
    ]
    published = len(bench.world.outbox("totals"))
    await bench.replay_all()
    by_position = {event.position: event for event in parked}
    assert [outcome(bench, by_position[each.position]) for each in predicted] == [each.verdict for each in predicted]
    assert sorted(str(event.payload) for each in predicted for event in each.events) == sorted(
        str(msgspec.json.decode(row.value or b"")) for row in bench.world.outbox("totals")[published:]
    )
    for each in predicted:
        for change in each.rows:
            if change.table == "movements":
                assert (Movement, change.id) in bench.world.database.state.facts


async def test_the_corpus_has_every_verdict_that_it_can_have() -> None:
    seen: set[RehearsalVerdict] = set()
    for seed in range(20):
        bench = Bench()
        await a_bad_day(bench, random.Random(seed))
        seen |= {each.verdict for each in await bench.recovery.rehearse(DEAD)}

    assert seen == {*RehearsalVerdict} - {RehearsalVerdict.BUSY, RehearsalVerdict.DUPLICATE}


async def test_what_the_last_release_could_not_read_twice_is_done_once() -> None:
    old = Bench()
    event = record_of(Counted(name="k", amount=4), offset=1)
    known = Catalogue(each for each in old.world.service.catalogue.types if each is not Counted)
    batch = [from_record(record, known) for record in (event, replace(event, offset=2), replace(event, offset=3))]
    await old.processor().admit("counter", batch)

    predicted = await old.recovery.rehearse(DEAD)
    await old.replay_all()

    assert [each.verdict.value for each in predicted] == ["succeeds", "duplicate", "duplicate"]
    assert old.world.moods.handled == ["k+4"]
    assert (old.world.total("k"), old.world.parked()) == (4, [])
