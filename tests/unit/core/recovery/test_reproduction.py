"""What a test needs to make a dead event fail again, and what this release cannot read."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from orderflow.cli.dlt.check import Unreadable, unreadable
from orderflow.core.envelopes import from_record
from orderflow.core.messages import Catalogue
from orderflow.core.operations.model import StoredRow
from tests.unit.core.recovery.bench import ME, Bench
from tests.unit.core.toy import Counted
from tests.unit.core.world import poisoned, record_of


async def test_it_has_the_event_and_the_rows_that_it_touches_as_they_stand() -> None:
    bench = Bench()
    await bench.world.admit(Counted(name="k", amount=7))
    (head,) = await bench.bury("k", amount=2)
    before = bench.checksum()

    reproduction = await bench.recovery.reproduce(head.event_id)

    assert (reproduction.service, reproduction.consumer) == ("counter", "counter")
    assert (reproduction.event_id, reproduction.identity) == (str(head.event_id), head.identity)
    assert (reproduction.value.to_bytes(), reproduction.topic) == (head.record.value, head.record.topic)
    assert [(name, value.to_bytes()) for name, value in reproduction.headers] == list(head.record.headers)
    assert reproduction.rows == [StoredRow(type="tests.unit.core.toy:Tally", values={"name": "k", "total": 7})]
    assert bench.checksum() == before


async def test_an_event_that_cannot_be_read_touches_nothing() -> None:
    bench = Bench()
    await bench.world.admit(from_record(poisoned(1, key=b"k", value=b"?"), bench.world.service.catalogue))

    reproduction = await bench.recovery.reproduce(bench.world.parked()[0].position)

    assert reproduction.rows == []


async def test_what_this_release_cannot_read_is_told_the_new_from_the_known() -> None:
    bench = Bench()
    await bench.bury("k")
    unknown = replace(record_of(Counted(name="bad", amount=1), offset=4), value=b"?")
    await bench.world.admit(Counted(name="k", amount=2), from_record(unknown, bench.world.service.catalogue))
    without = Catalogue(each for each in bench.world.service.catalogue.types if each is not Counted)

    today = unread(bench, bench.world.service.catalogue)
    other = unread(bench, without)

    assert [(each.key, each.known) for each in today] == [("bad", True)]
    assert today[0].reason.startswith("toy.Counted.v1: JSON is malformed")
    assert [(each.key, each.known) for each in other] == [("k", False), ("k", False), ("bad", True)]
    assert other[0].reason == "no reader for 'toy.Counted.v1'"


async def test_an_edited_event_is_not_excused_by_what_it_was_before() -> None:
    bench = Bench()
    unknown = replace(record_of(Counted(name="bad", amount=1), offset=4), value=b"?")
    await bench.world.admit(from_record(unknown, bench.world.service.catalogue))
    await bench.recovery.edit(bench.world.parked()[0].position, b'{"name": "bad", "amount": 1}', ME)
    without = Catalogue(each for each in bench.world.service.catalogue.types if each is not Counted)

    assert [(each.key, each.known) for each in unread(bench, without)] == [("bad", False)]


def unread(bench: Bench, catalogue: Catalogue) -> Sequence[Unreadable]:
    return unreadable([("counter", event) for event in bench.world.parked()], catalogue)
