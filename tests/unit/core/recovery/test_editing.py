"""A new payload takes the place of one that fails, if it is one that the service can read."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest
from msgspec.structs import replace

from orderflow.core.decisions import VALUE_MAX
from orderflow.core.envelopes import from_answer, from_record
from orderflow.core.identity import uuid5
from orderflow.core.inbox import InboxState, ParkedEvent
from orderflow.core.operations.editing import changes_of, replacement
from orderflow.core.operations.model import (
    ConfirmationNeededError,
    EditRefusedError,
    FieldChange,
    LetterMissingError,
    Moment,
    ReplayProgress,
)
from orderflow.core.service import Service
from orderflow.core.store import Act
from orderflow.core.transport import ConsumerRecord
from tests.support.callers import person
from tests.unit.core.recovery.bench import AS_FAST_AS_IT_GOES, DEAD, ME, Bench
from tests.unit.core.toy import Asked, Counted, Opened, Said
from tests.unit.core.world import header, outcomes, poisoned, record_of


def counted(name: str, amount: object) -> bytes:
    return json.dumps({"name": name, "amount": amount}).encode()


async def dead(bench: Bench, record: ConsumerRecord) -> ParkedEvent:
    await bench.processor().admit("counter", [from_record(record, bench.world.service.catalogue)])
    return bench.world.parked()[-1]


async def replayed(bench: Bench) -> ReplayProgress:
    async with bench.started():
        begun = await bench.recovery.replay(DEAD, AS_FAST_AS_IT_GOES, ME)
        return (await bench.ended(begun.number)).progress


async def test_the_new_payload_is_handled_in_the_place_of_the_old_one() -> None:
    bench = Bench()
    event = await dead(bench, record_of(Counted(name="k", amount=-5), offset=9))
    await bench.world.admit(Counted(name="k", amount=2))

    letter = await bench.recovery.edit(event.event_id, counted("k", 5), ME)
    progress = await replayed(bench)

    assert (letter.event.state, letter.event.position) == (InboxState.DEAD, event.position)
    assert progress == ReplayProgress(succeeded=1)
    assert bench.world.moods.handled == ["k+5", "k+2"]
    assert bench.world.parked() == []


async def test_it_has_an_id_of_its_own_and_the_original_is_kept() -> None:
    bench = Bench()
    record = record_of(Counted(name="k", amount=-5), offset=9)
    event = await dead(bench, record)

    first = await bench.recovery.edit(event.event_id, counted("k", -6), ME)
    letter = await bench.recovery.edit(event.event_id, counted("k", 6), ME)

    assert (letter.original, letter.original_id) == (record, event.event_id)
    assert first.event.event_id == uuid5(f"edited\n{event.event_id}\n1")
    assert letter.event.event_id == uuid5(f"edited\n{event.event_id}\n2")
    headers = letter.event.record.headers
    assert header(headers, "ce_id") == str(letter.event.event_id)
    assert {name: value for name, value in headers if name != "ce_id"} == {
        name: value for name, value in record.headers if name != "ce_id"
    }
    moments = [entry.moment for entry in await bench.recovery.store.history(event.position)]
    assert moments == [Moment.DEAD, Moment.EDITED, Moment.EDITED]


def trusting(bench: Bench) -> Service:
    """Has nothing to compare amounts with."""
    service = bench.world.service
    handler = dataclasses.replace(service.handlers[Counted], trusts=("amount",))
    return dataclasses.replace(service, handlers={**service.handlers, Counted: handler})


async def test_what_the_service_takes_on_trust_stays_as_it_came_in() -> None:
    bench = Bench()
    event = await dead(bench, record_of(Counted(name="k", amount=-5), offset=9))
    letter = await bench.recovery.store.letter(event.position)
    assert letter is not None

    with pytest.raises(EditRefusedError, match="An edit cannot change amount: counter takes it on trust"):
        replacement(letter, counted("k", 5), 0, "ada", trusting(bench))
    same = b'{"amount":-5,"name":"k"}'
    assert replacement(letter, same, 0, "ada", trusting(bench)).record.value == same


async def test_what_could_not_be_read_is_corrected_as_often_as_it_takes() -> None:
    bench = Bench()
    event = await dead(bench, replace(record_of(Counted(name="k", amount=1), offset=9), value=counted("k", "many")))

    letter = await bench.recovery.edit(event.event_id, counted("k", -5), ME)

    assert replacement(letter, counted("k", 5), 1, "ada", trusting(bench)).record.value == counted("k", 5)


async def test_the_original_that_comes_again_is_known_and_so_is_the_edited_one() -> None:
    bench = Bench()
    original = from_record(record_of(Counted(name="k", amount=-5), offset=9), bench.world.service.catalogue)
    await bench.world.admit(original)
    letter = await bench.recovery.edit(original.event_id, counted("k", 5), ME)
    await replayed(bench)
    edited = from_record(letter.event.record, bench.world.service.catalogue)

    assert outcomes(await bench.world.admit(original, edited)) == ["duplicate", "duplicate"]
    assert outcomes(await bench.world.admit(Counted(name="k", amount=5))) == ["handled"]
    assert bench.world.total("k") == 10


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (counted("k", "many"), "does not fit its type: toy.Counted.v1: Expected `int`, got `str`"),
        (b'{"name": "k", "amount": NaN}', "does not fit its type"),
        (b'{"name": "k"}', "does not fit its type"),
        (b"", "does not fit its type"),
        (b"\xff", "does not fit its type"),
        (counted("other", 1), "An edit cannot change the key: it is 'k', the new payload's 'other'."),
        (counted("k", 1) + b" " * VALUE_MAX, f"at most {VALUE_MAX} are allowed"),
        (b'{"name":"k","amount":-5}', "The new payload is the same as the old one"),
    ],
)
async def test_what_does_not_fit_is_refused_with_a_sentence(value: bytes, why: str) -> None:
    bench = Bench()
    event = await dead(bench, record_of(Counted(name="k", amount=-5), offset=9))
    before = bench.checksum()

    with pytest.raises(EditRefusedError) as refused:
        await bench.recovery.edit(event.event_id, value, ME)

    assert why in str(refused.value)
    assert bench.checksum() == before


@pytest.mark.parametrize("broken", [{}, {"ce_specversion": b"9"}, {"ce_source": b"\xff"}, {"ce_sequence": b"x"}])
async def test_what_could_not_be_read_is_mended(broken: dict[str, bytes]) -> None:
    bench = Bench()
    good = record_of(Counted(name="k", amount=1), offset=9)
    headers = tuple((name, broken.get(name, value)) for name, value in good.headers)
    event = await dead(bench, replace(good, headers=headers, value=b"\xff{"))

    letter = await bench.recovery.edit(event.event_id, counted("k", 4), ME)
    progress = await replayed(bench)

    assert letter.original_id == event.event_id
    assert progress == ReplayProgress(succeeded=1)
    assert bench.world.total("k") == 4


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (poisoned(3, key=b"k", value=b"?"), "does not say its type"),
        (
            poisoned(3, key=b"k", value=b"?", headers=(("ce_type", b"toy.New.v1"),)),
            "cannot read events of type 'toy.New.v1'",
        ),
        (poisoned(3, key=b"k", value=b"?", headers=(("ce_type", b"toy.Counted.v7"),)), "cannot read events of type"),
        (poisoned(3, key=None, value=b"?", headers=(("ce_type", b"toy.Counted.v1"),)), "without a usable key"),
        (poisoned(3, key=b"\xff", value=b"?", headers=(("ce_type", b"toy.Counted.v1"),)), "without a usable key"),
    ],
)
async def test_what_no_payload_can_mend_is_told(record: ConsumerRecord, why: str) -> None:
    bench = Bench()
    event = await dead(bench, record)

    with pytest.raises(EditRefusedError) as refused:
        await bench.recovery.edit(event.position, counted("k", 4), ME)

    assert why in str(refused.value)


async def test_of_two_edits_at_once_one_is_told_to_look_again() -> None:
    bench = Bench()
    event = await dead(bench, record_of(Counted(name="k", amount=-5), offset=9))

    done = await asyncio.gather(
        *(bench.recovery.edit(event.event_id, counted("k", amount), ME) for amount in (1, 2)), return_exceptions=True
    )

    refused = [each for each in done if isinstance(each, EditRefusedError)]
    assert [str(each) for each in refused] == ["The event has changed meanwhile: look at it again."]
    assert len([action.action for action in await bench.recovery.store.actions(10)]) == 1


async def test_only_a_dead_event_is_edited() -> None:
    bench = Bench()
    await bench.bury("k")
    held = bench.world.read(Counted(name="k", amount=3))
    await bench.world.admit(held)

    with pytest.raises(EditRefusedError, match="not dead"):
        await bench.recovery.edit(held.event_id, counted("k", 4), ME)
    with pytest.raises(LetterMissingError):
        await bench.recovery.edit(10**6, counted("k", 4), ME)


async def test_an_answer_of_the_outside_world_is_not_edited() -> None:
    bench = Bench()
    await bench.world.admit(Asked(name="k"))
    answer = from_answer(Said(name="k", words="bad"), bench.world.intents()["ask:k"], "/orderflow/counter")
    await bench.world.admit(answer)

    with pytest.raises(EditRefusedError, match="an answer is not edited"):
        await bench.recovery.edit(answer.event_id, b'{"name":"k","words":"good"}', ME)


async def test_an_event_that_happens_once_cannot_be_made_a_second_time() -> None:
    bench = Bench()
    await bench.world.admit(Opened(name="k"))
    unreadable = replace(record_of(Opened(name="k"), offset=9), value=b"?")
    event = await dead(bench, unreadable)

    with pytest.raises(EditRefusedError, match="can have only one"):
        await bench.recovery.edit(event.event_id, b'{"name":"k"}', ME)


async def test_an_event_that_happens_once_keeps_its_identity() -> None:
    bench = Bench()
    unreadable = replace(record_of(Opened(name="k"), offset=9), value=b"?")
    event = await dead(bench, unreadable)

    letter = await bench.recovery.edit(event.event_id, b'{"name":"k"}', ME)
    await replayed(bench)

    assert letter.event.identity == "toy.Opened"
    assert bench.world.states()["k", "toy.Opened"] == "DONE"
    assert bench.world.states()["k", event.identity] == "DISCARDED"


async def test_an_edit_is_confirmed_where_that_is_asked_for_and_logged() -> None:
    bench = Bench(confirm="it moves money")
    event = await dead(bench, record_of(Counted(name="k", amount=-5), offset=9))

    with pytest.raises(ConfirmationNeededError):
        await bench.recovery.edit(event.event_id, counted("k", 5), Act(caller=person("ada")))
    letter = await bench.recovery.edit(event.event_id, counted("k", 5), ME)

    (action,) = await bench.recovery.store.actions(10)
    assert (action.action, action.target) == ("edit", str(event.event_id))
    assert action.result == f"It is {letter.event.event_id} now. amount: -5 → 5"


async def test_a_preview_tells_what_an_edit_would_change_and_stores_nothing() -> None:
    bench = Bench()
    event = await dead(bench, record_of(Counted(name="k", amount=-5), offset=9))
    before = bench.checksum()

    letter, changes = await bench.recovery.preview(event.event_id, counted("k", 5))
    with pytest.raises(EditRefusedError, match="does not fit its type"):
        await bench.recovery.preview(event.event_id, counted("k", "many"))

    assert letter.event == event
    assert changes == [FieldChange("amount", "-5", "5")]
    assert bench.checksum() == before


async def test_an_edit_of_what_somebody_has_edited_meanwhile_is_refused() -> None:
    bench = Bench()
    event = await dead(bench, record_of(Counted(name="k", amount=-5), offset=9))
    await bench.recovery.edit(event.event_id, counted("k", 5), ME, event.event_id)

    with pytest.raises(EditRefusedError, match="was edited since you looked at it"):
        await bench.recovery.edit(event.event_id, counted("k", 6), ME, event.event_id)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (b'{"a":1}', b'{ "a" : 2 }', [FieldChange("a", "1", "2")]),
        (b'{"a":1}', b'{"b":"x"}', [FieldChange("a", "1", None), FieldChange("b", None, '"x"')]),
        (
            b'{"items":[{"sku":"A","q":1},{"sku":"B"}]}',
            b'{"items":[{"sku":"A","q":2}]}',
            [FieldChange("items.0.q", "1", "2"), FieldChange("items.1.sku", '"B"', None)],
        ),
        (b'{"a":[]}', b'{"a":[0]}', [FieldChange("a", "[]", None), FieldChange("a.0", None, "0")]),
        (b'{"a":1,"a":2}', b'{"a":2}', [FieldChange("", '{"a":1,"a":2}', '{"a":2}')]),
        (b"\xff{", b'{"a":2}', [FieldChange("", "\\xff{", '{"a":2}')]),
        (None, b'{"a":2}', [FieldChange("", None, '{"a":2}')]),
        (b'{"a":1}', b"5", [FieldChange("", '{"a":1}', "5")]),
        (b'{"password":"x","a":1}', b'{"password":"x","a":2}', [FieldChange("a", "1", "2")]),
        (b'{"a":"' + b"x" * 500 + b'"}', b'{"a":1}', [FieldChange("a", '"' + "x" * 199 + "…", "1")]),
    ],
)
def test_changes_are_told_field_by_field_where_both_are_objects(
    before: bytes | None, after: bytes, changes: list[FieldChange]
) -> None:
    assert changes_of(before, after) == changes


async def test_the_log_names_a_bounded_number_of_fields() -> None:
    bench = Bench()
    broken = replace(
        record_of(Counted(name="k", amount=-5), offset=9),
        value=json.dumps({"name": "k", "amount": "x", **{f"more{n:02}": n for n in range(60)}}).encode(),
    )
    event = await dead(bench, broken)
    await bench.recovery.edit(event.event_id, counted("k", 5), ME)

    (action,) = await bench.recovery.store.actions(10)
    assert 'amount: "x" → 5; more00: 0 → nothing;' in action.result
    assert action.result.endswith("; and 41 fields more")
