"""What happens to a message that fails: it holds up its own key only, is tried again, and is given up at last."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from msgspec.structs import replace

from orderflow.core.dead_letters import FLOW_STATUS, Dead, Parked, Reopened
from orderflow.core.envelopes import from_record, rfc3339
from orderflow.core.inbox import InboxState
from orderflow.core.relay import to_record
from orderflow.core.retries import Retrier
from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import BatchSplit, KeyReopened, Outcome
from orderflow.core.transport import ConsumerRecord, fits, size_of
from tests.unit.core.toy import Counted, Opened
from tests.unit.core.world import TRACE, World, as_record, header, outcomes, poisoned, record_of


async def retry(world: World) -> None:
    retrier = Retrier("counter", world.processor, world.store, world.signals, world.clock)
    retrier.schedule(0)
    await retrier.step()


async def test_a_decision_that_raises_parks_its_own_key_only() -> None:
    world = World()

    results = await world.admit(
        Counted(name="a", amount=1),
        Counted(name="bad", amount=-1),
        Counted(name="a", amount=1),
        Counted(name="bad", amount=1),
        Counted(name="b", amount=1),
    )

    assert outcomes(results) == [Outcome.HANDLED, Outcome.PARKED, Outcome.HANDLED, Outcome.HELD, Outcome.HANDLED]
    assert (world.total("a"), world.total("b"), world.total("bad")) == (2, 1, None)
    assert [(e.key, e.attempts, e.state) for e in world.parked()] == [
        ("bad", 1, InboxState.PARKED),
        ("bad", 0, InboxState.PARKED),
    ]
    assert world.flow() == ["Parked bad"]


async def test_what_is_parked_is_the_record_byte_for_byte() -> None:
    world = World()
    record = record_of(Counted(name="bad", amount=-1), offset=77)

    await world.admit(from_record(record, world.service.catalogue))

    assert world.parked()[0].record == record


async def test_later_events_of_a_parked_key_are_held_also_in_later_batches_and_no_event_is_parked_twice() -> None:
    world = World()
    later = world.read(Counted(name="bad", amount=2))
    await world.admit(Counted(name="bad", amount=-1))

    first = await world.admit(later)
    again = await world.admit(later)

    assert outcomes(first + again) == [Outcome.HELD, Outcome.DUPLICATE]
    assert len(world.parked()) == 2


async def test_an_event_that_comes_twice_in_one_batch_is_held_once() -> None:
    world = World()
    later = world.read(Counted(name="bad", amount=2))
    await world.admit(Counted(name="bad", amount=-1))

    assert outcomes(await world.admit(later, later)) == [Outcome.HELD, Outcome.DUPLICATE]
    assert world.signals_of(BatchSplit) == []


async def test_a_retry_that_succeeds_drains_what_was_held_in_order_and_says_reopened() -> None:
    world = World()
    world.moods.broken.add("k")
    await world.admit(Counted(name="k", amount=1))
    await world.admit(*(Counted(name="k", amount=n) for n in (2, 3, 4)))
    world.moods.broken.clear()

    await retry(world)

    assert world.moods.handled == ["k+1", "k+2", "k+3", "k+4"]
    assert world.parked() == []
    assert set(world.states().values()) == {"DONE"}
    assert world.flow() == ["Parked k", "Reopened k"]
    assert [signal.drained for signal in world.signals_of(KeyReopened)] == [4]
    assert outcomes(await world.admit(Counted(name="k", amount=5))) == [Outcome.HANDLED]


async def test_what_is_said_on_flow_status_has_numbers_of_its_own() -> None:
    world = World(attempts_max=2)
    await world.admit(Counted(name="k", amount=1), Counted(name="k", amount=-1))
    await retry(world)

    rows = world.outbox("flow-status")

    assert [header(row.headers, "ce_sequence") for row in rows] == ["1", "2"]
    assert {header(row.headers, "ce_source") for row in rows} == {"/orderflow/counter/flow"}
    parked = from_record(as_record(rows[0]), world.service.catalogue).envelope
    dead = from_record(as_record(rows[1]), world.service.catalogue).envelope
    assert parked is not None
    assert isinstance(parked.message, Parked)
    assert (parked.message.consumer, parked.message.event_type) == ("counter", "toy.Counted.v1")
    assert dead is not None
    assert isinstance(dead.message, Dead)
    assert dead.message.attempts == 2


async def test_a_message_is_dead_after_its_last_attempt_and_its_key_stays_closed() -> None:
    world = World(attempts_max=3)
    await world.admit(Counted(name="k", amount=-1), Counted(name="k", amount=2))

    for _ in range(5):
        await retry(world)

    head, held = world.parked()
    assert (head.state, head.attempts) == (InboxState.DEAD, 3)
    assert (held.state, held.attempts) == (InboxState.PARKED, 0)
    assert world.flow() == ["Parked k", "Dead k"]
    assert outcomes(await world.admit(Counted(name="k", amount=3), Counted(name="other", amount=1))) == [
        Outcome.HELD,
        Outcome.HANDLED,
    ]
    [letter] = world.outbox("counts.DLT")
    assert head.first_failed_at is not None
    assert header(letter.headers, "dlt_first_failed_at") == rfc3339(head.first_failed_at).decode()


async def test_a_dead_letter_has_the_original_and_says_what_where_and_why() -> None:
    world = World(attempts_max=1)
    record = record_of(Counted(name="k", amount=-1), offset=41, trace=TRACE)

    await world.admit(from_record(record, world.service.catalogue))

    letter = world.outbox("counts.DLT")[0]
    assert (letter.key, letter.value) == (record.key, record.value)
    assert letter.headers[: len(record.headers)] == record.headers
    why = {name: (value or b"").decode() for name, value in letter.headers[len(record.headers) :]}
    assert why.pop("dlt_fingerprint")
    assert why == {
        "dlt_consumer": "counter",
        "dlt_topic": "counts",
        "dlt_partition": "0",
        "dlt_offset": "41",
        "dlt_event_id": header(record.headers, "ce_id"),
        "dlt_attempts": "1",
        "dlt_failure": "unknown",
        "dlt_error": "ArithmeticError",
        "dlt_message": "-1 is below zero",
        "dlt_service_version": "1.2.3",
        "dlt_trace_id": "0af7651916cd43dd8448eb211c80319c",
        "dlt_first_failed_at": "",
    }


@pytest.mark.parametrize(
    "record",
    [
        poisoned(3, key=b"k", value=b"\xff\x00{"),
        poisoned(3, key=None, value=None),
        poisoned(
            3, key=b"\xff\x00" * 300, value=b"", headers=(("ce_type", b"\x00\xff"), ("x", None), ("x", b"\xfe"))
        ),
        replace(record_of(Counted(name="k", amount=1), offset=3), value=b"{"),
    ],
)
async def test_what_cannot_be_decoded_is_dead_at_once_with_its_bytes_unchanged(record: ConsumerRecord) -> None:
    world = World()
    poison = from_record(record, world.service.catalogue)

    results = await world.admit(poison, Counted(name="healthy", amount=1))
    again = await world.admit(poison)

    assert outcomes(results + again) == [Outcome.DEAD, Outcome.HANDLED, Outcome.DUPLICATE]
    letters = world.outbox("counts.DLT")
    assert [(letter.key, letter.value) for letter in letters] == [(record.key, record.value)]
    assert letters[0].headers[: len(record.headers)] == record.headers
    assert header(letters[0].headers, "dlt_failure") == "permanent"
    assert world.parked()[0].record == record
    assert world.flow()[0].startswith("Dead")


async def test_a_record_without_a_key_holds_up_nobody() -> None:
    world = World()
    first = from_record(poisoned(1, key=None, value=b"?"), world.service.catalogue)
    second = from_record(poisoned(2, key=None, value=b"?"), world.service.catalogue)

    results = await world.admit(first, second, Counted(name="k", amount=1))

    assert outcomes(results) == [Outcome.DEAD, Outcome.DEAD, Outcome.HANDLED]


async def test_values_that_do_not_fit_are_grouped_by_the_type_that_they_do_not_fit() -> None:
    world = World()
    events = (Counted(name="a", amount=1), Counted(name="b", amount=1), Opened(name="c"))
    values = (b"{", b"[]", b"{")
    broken = [
        replace(record_of(event, offset=at), value=value)
        for at, (event, value) in enumerate(zip(events, values, strict=True))
    ]

    await world.admit(*(from_record(each, world.service.catalogue) for each in broken))

    first, second, other = [header(row.headers, "dlt_fingerprint") for row in world.outbox("counts.DLT")]
    assert first == second
    assert first != other


@pytest.mark.parametrize("key", [None, b"k" * 10_000, b"\xff" * 60, "\x1b[2J\x00…".encode() * 30])
async def test_what_is_said_of_a_record_without_a_usable_key_can_be_read(key: bytes | None) -> None:
    world = World()
    others = from_record(poisoned(1, key=b"k" * 10_001, value=b"?"), world.service.catalogue)
    poison = from_record(poisoned(2, key=key, value=b"?"), world.service.catalogue)

    await world.admit(others, poison)

    read = [from_record(as_record(row), world.service.catalogue) for row in world.outbox(FLOW_STATUS)]
    assert [(each.problem, each.event_type) for each in read] == [(None, "orderflow.Dead.v1")] * 2
    assert read[0].key != read[1].key


FULL = {
    "99,990 headers without a name": poisoned(1, key=b"k", value=b"x" * 1_850_000, headers=(("", None),) * 99_990),
    "90,000 headers and a value": poisoned(1, key=b"k", value=b"x" * 1_917_000, headers=(("", None),) * 90_000),
    "a value": poisoned(1, key=b"k", value=b"x" * 2_097_050),
    "a value of 40 MB, compressed in the log": poisoned(1, key=b"k", value=b"x" * 40_000_000),
    "a header": poisoned(1, key=b"k", value=b"x", headers=(("name", b"y" * 2_097_000), ("ce_type", b"t"))),
    "the name of a header": poisoned(1, key=b"k", value=None, headers=(("n" * 2_097_000, None),)),
    "a key": poisoned(1, key=b"k" * 2_097_000, value=b"x"),
}
CUT = {
    "99,990 headers without a name": "headers",
    "a header": "headers",
    "the name of a header": "headers",
    "a key": "value, headers, key",
}


async def test_a_record_of_many_headers_that_fits_the_log_fits_the_outbox() -> None:
    world = World()
    record = poisoned(1, key=b"k", value=b"x" * 1_850_000, headers=(("", None),) * 99_900)

    results = await world.admit(from_record(record, world.service.catalogue), Counted(name="healthy", amount=1))

    assert outcomes(results) == [Outcome.DEAD, Outcome.HANDLED]
    assert world.parked()[0].record == record
    [letter] = world.outbox("counts.DLT")
    assert fits(to_record(letter))
    assert (letter.value, letter.headers[:99_900]) == (record.value, record.headers)


@pytest.mark.parametrize("name", FULL)
async def test_a_record_that_fills_the_log_is_kept_whole_and_its_letter_says_what_was_cut(name: str) -> None:
    world = World()
    record = FULL[name]

    results = await world.admit(from_record(record, world.service.catalogue), Counted(name="healthy", amount=1))

    assert outcomes(results) == [Outcome.DEAD, Outcome.HANDLED]
    assert world.parked()[0].record == record
    [letter] = world.outbox("counts.DLT")
    assert fits(to_record(letter))
    cut = CUT.get(name, "value")
    assert header(letter.headers, "dlt_omitted") == str(size_of(record))
    assert header(letter.headers, "dlt_omitted_parts") == cut
    assert header(letter.headers, "dlt_value_sha256") == hashlib.sha256(record.value or b"").hexdigest()
    event_id = world.parked()[0].event_id
    assert header(letter.headers, "dlt_whole") == (
        f"in the database of counter, parked by consumer counter as event {event_id}"
    )
    assert letter.value == (None if "value" in cut else record.value)
    assert letter.headers[: len(letter.headers) - 16] == (() if "headers" in cut else record.headers)
    assert letter.key == (world.parked()[0].key.encode() if "key" in cut else record.key)


async def test_a_held_event_that_cannot_be_decoded_dies_when_its_turn_comes() -> None:
    world = World()
    world.moods.broken.add("k")
    await world.admit(Counted(name="k", amount=1))
    world.moods.broken.clear()
    await world.admit(from_record(poisoned(9, key=b"k", value=b"?"), world.service.catalogue))
    await world.admit(Counted(name="k", amount=2))

    await retry(world)

    assert world.moods.handled == ["k+1"]
    assert [(e.state.name, e.attempts) for e in world.parked()] == [("DEAD", 1), ("PARKED", 0)]
    assert world.flow() == ["Parked k", "Dead k"]


async def test_a_second_failing_event_of_a_key_is_said_when_it_becomes_the_head() -> None:
    world = World()
    world.moods.broken.add("k")
    await world.admit(Counted(name="k", amount=1), Counted(name="k", amount=-2))
    world.moods.broken.clear()

    await retry(world)

    assert [(e.attempts, e.state.name) for e in world.parked()] == [(1, "PARKED")]
    assert world.flow() == ["Parked k", "Parked k"]


async def test_each_failed_retry_counts_and_says_nothing_more() -> None:
    world = World(attempts_max=10)
    await world.admit(Counted(name="k", amount=-1))

    for _ in range(3):
        await retry(world)

    assert [event.attempts for event in world.parked()] == [4]
    assert world.flow() == ["Parked k"]


@pytest.mark.parametrize("step", ["begin", "open", "opened", "commit"])
async def test_a_database_that_is_away_during_a_retry_burns_no_attempt(step: str) -> None:
    world = World()
    await world.admit(Counted(name="k", amount=-1))
    world.lose(step)

    with pytest.raises(StoreUnavailableError):
        await retry(world)

    assert [event.attempts for event in world.parked()] == [1]
    await retry(world)
    assert [event.attempts for event in world.parked()] == [2]


async def test_a_retry_that_the_database_refuses_parks_the_culprit_and_lets_those_before_it_go() -> None:
    world = World()
    world.moods.broken.add("k")
    await world.admit(*(Counted(name="k", amount=amount) for amount in (1, 665, 3)))
    world.moods.broken.clear()

    await retry(world)

    assert world.moods.handled == ["k+1"]
    assert world.total("k") == 1
    assert [(e.attempts, e.failure.error if e.failure else "") for e in world.parked()] == [
        (1, "DataRefusedError"),
        (0, ""),
    ]


async def test_two_retriers_at_once_do_each_event_once() -> None:
    world = World()
    world.moods.broken.add("k")
    await world.admit(*(Counted(name="k", amount=n) for n in range(1, 8)))
    world.moods.broken.clear()

    await asyncio.gather(retry(world), retry(world), retry(world))

    assert world.moods.handled == [f"k{n:+}" for n in range(1, 8)]
    assert world.flow() == ["Parked k", "Reopened k"]


async def test_more_held_events_than_one_transaction_takes_are_drained_in_order() -> None:
    world = World()
    world.moods.broken.add("k")
    await world.admit(*(Counted(name="k", amount=n) for n in range(1_001, 1_451)))
    world.moods.broken.clear()

    await retry(world)

    assert world.moods.handled == [f"k{n:+}" for n in range(1_001, 1_451)]
    assert world.flow() == ["Parked k", "Reopened k"]


async def test_an_event_that_happens_once_is_held_once() -> None:
    world = World()
    await world.admit(Counted(name="k", amount=-1))
    held = await world.admit(Opened(name="k"))
    again = await world.admit(Opened(name="k"))

    assert outcomes(held + again) == [Outcome.HELD, Outcome.DUPLICATE]


async def test_a_reader_of_flow_status_gives_no_notice_of_itself() -> None:
    world = World(attempts_max=1)
    notice = Reopened(subject_key="k", consumer="other", event_id="x", event_type="y")
    record = replace(record_of(notice, offset=1), topic="flow-status", value=b"?")

    results = await world.admit(from_record(record, world.service.catalogue))

    assert outcomes(results) == [Outcome.DEAD]
    assert [row.topic for row in world.outbox()] == ["flow-status.DLT"]


async def test_a_failures_text_can_be_shown_anywhere() -> None:
    world = World()
    world.moods.broken.add("k\x1b[31m")

    await world.admit(Counted(name="k\x1b[31m", amount=10**9))

    failure = world.parked()[0].failure
    assert failure is not None
    assert failure.message.isprintable()
    assert len(failure.message) <= 500


async def test_the_heads_of_many_keys_are_tried_in_one_transaction_and_each_key_comes_to_its_own_end() -> None:
    world = World()
    names = [f"key-{number}" for number in range(7)]
    world.moods.broken = set(names)
    await world.admit(*(Counted(name=name, amount=1) for name in names))
    await world.admit(Counted(name="key-0", amount=5), Counted(name="key-1", amount=5))
    world.moods.broken = {"key-1", "key-2"}
    world.steps.clear()

    await retry(world)

    assert world.steps.count("commit") == 2, "one for all heads, and one for what waits behind the one that goes on"
    assert {name: world.total(name) for name in names if world.total(name)} == {
        "key-0": 6,
        **dict.fromkeys(names[3:], 1),
    }
    assert [(each.key, each.attempts) for each in world.parked()] == [("key-1", 2), ("key-2", 2), ("key-1", 0)]
    reopened = {signal.key: signal.drained for signal in world.signals_of(KeyReopened)}
    assert reopened == dict.fromkeys(["key-0", *names[3:]], 1)
    assert [line for line in world.flow() if line.startswith("Reopened")] == [f"Reopened {name}" for name in reopened]


async def test_when_the_database_refuses_one_of_many_heads_the_others_go_on() -> None:
    world = World()
    world.moods.broken = {"a", "b", "bad"}
    await world.admit(*(Counted(name=name, amount=amount) for name, amount in (("a", 1), ("bad", 666), ("b", 2))))
    world.moods.broken.clear()

    await retry(world)

    assert (world.total("a"), world.total("b"), world.total("bad")) == (1, 2, None)
    assert [(each.key, each.attempts) for each in world.parked()] == [("bad", 2)]


async def test_how_often_it_was_tried_comes_with_what_became_of_it() -> None:
    world = World(attempts_max=2)
    parked, dead = await world.admit(Counted(name="k", amount=-1), Counted(name="never", amount=-13))
    assert [(each.outcome, each.attempts) for each in (parked, dead)] == [(Outcome.PARKED, 1), (Outcome.DEAD, 1)]
    assert [(event.state, event.delay_ms) for event in world.committed[0].parked] == [
        (InboxState.PARKED, 0),
        (InboxState.DEAD, 0),
    ]


async def test_what_would_be_given_up_and_finds_no_room_waits_and_says_why() -> None:
    world = World(parked_keys_max=1)
    await world.admit(Counted(name="k", amount=-1))

    [result] = await world.admit(Counted(name="never", amount=-13))

    assert (result.outcome, result.no_room, result.incoming.key) == (Outcome.DEFERRED, True, "never")
    assert result.failure is not None
    assert result.failure.error == "FinalError"
    assert world.outbox("counts.DLT") == []


async def test_a_dead_letter_names_consumer_and_service() -> None:
    world = World()
    record = poisoned(1, key=b"k", value=b"x" * 2_097_050)

    await world.processor.admit("another", [from_record(record, world.service.catalogue)])

    [letter] = world.outbox("counts.DLT")
    assert header(letter.headers, "dlt_consumer") == "another"
    assert header(letter.headers, "dlt_whole").startswith(
        "in the database of counter, parked by consumer another as "
    )


async def test_no_more_keys_are_closed_in_one_batch_than_there_is_room_for_and_each_counts_once() -> None:
    world = World(parked_keys_max=2)

    results = await world.admit(*(Counted(name=name, amount=-1) for name in ("a", "a", "b", "c")))

    assert outcomes(results) == [Outcome.PARKED, Outcome.HELD, Outcome.PARKED, Outcome.DEFERRED]
    assert [event.delay_ms for event in world.committed[0].parked] == [0, 0, 0]


async def test_what_is_parked_keeps_its_place_when_it_fails_again_although_there_is_no_more_room() -> None:
    world = World(parked_depth_max=1, parked_keys_max=1, attempts_max=9)
    await world.admit(Counted(name="k", amount=-1))

    await retry(world)

    assert [event.attempts for event in world.parked()] == [2]
