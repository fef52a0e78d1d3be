"""The one way in: what a batch writes, what it recognises, and what a crash leaves."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from orderflow.core.decisions import LOOK_WHEN_FULL_S
from orderflow.core.envelopes import Incoming, from_answer, from_record
from orderflow.core.failures import InfrastructureError
from orderflow.core.identity import event_id, lock_id, slot_of
from orderflow.core.messages import Envelope, UndecodableError
from orderflow.core.processor import Failures, Processor, Work
from orderflow.core.retries import Retrier
from orderflow.core.retry import Backoff
from orderflow.core.service import Decision, Ref, RefusedError, Row, Rows
from orderflow.core.store import DataRefusedError, End, ParkedQuery, Plan, StoreUnavailableError
from orderflow.core.telemetry import BatchCommitted, BatchSplit, Outcome
from orderflow.core.testing.state import Rules
from tests.support.rng import Drawn
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Asked, Counted, Movement, Noticed, Opened, Said, Tally, Total
from tests.unit.core.world import TRACE, World, command, header, outcomes, record_of

OURS = "/orderflow/counter"


async def test_a_batch_is_one_transaction_whatever_its_size() -> None:
    world = World()

    await world.admit(*(Counted(name=f"k{n % 50}", amount=1) for n in range(500)))

    assert world.steps == ["begin", "open", "opened", "commit", "committed"]
    assert world.total("k7") == 10


async def test_later_messages_of_a_batch_see_what_earlier_ones_decided() -> None:
    world = World()

    await world.admit(*(Counted(name="k", amount=n) for n in (1, 2, 3)))

    assert world.total("k") == 6
    assert [fact.id for fact in world.database.state.facts.values()] == [("k", 1), ("k", 3), ("k", 6)]
    assert {type(fact) for fact in world.database.state.facts.values()} == {Movement}


async def test_events_are_numbered_without_a_gap_and_named_for_ever() -> None:
    world = World()

    await world.admit(*(Counted(name=name, amount=1) for name in ("a", "b", "a")))
    await world.admit(Counted(name="a", amount=1))

    rows = [row for row in world.outbox("totals") if row.key == b"a"]
    assert [header(row.headers, "ce_sequence") for row in rows] == ["1", "2", "3"]
    assert [row.event_id for row in rows] == [event_id(OURS, "toy.Total", "a", n) for n in (1, 2, 3)]
    assert [header(row.headers, "ce_id") for row in rows] == [str(row.event_id) for row in rows]
    assert {row.slot for row in rows} == {slot_of(b"a", 16)}


async def test_an_event_names_its_cause_and_carries_its_trace() -> None:
    world = World()
    cause = world.read(Counted(name="k", amount=1), trace=TRACE)

    await world.admit(cause)

    row = world.outbox("totals")[0]
    assert header(row.headers, "ce_causationid") == str(cause.event_id)
    assert header(row.headers, "traceparent") == TRACE
    assert header(row.headers, "ce_subject") == "k"


async def test_an_event_that_comes_again_does_nothing() -> None:
    world = World()
    event = world.read(Counted(name="k", amount=1))

    first = await world.admit(event)
    again = await world.admit(event)

    assert outcomes(first + again) == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert world.total("k") == 1
    assert len(world.outbox()) == 1


async def test_an_event_that_comes_twice_in_one_batch_is_done_once() -> None:
    world = World()
    event = world.read(Counted(name="k", amount=1))

    results = await world.admit(event, event)

    assert outcomes(results) == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert world.total("k") == 1


async def test_what_can_happen_once_a_key_is_done_once_whatever_its_id() -> None:
    world = World()

    in_one_batch = await world.admit(Opened(name="k"), Opened(name="k"))
    later = await world.admit(Opened(name="k"), Opened(name="other"))

    assert outcomes(in_one_batch + later) == [
        Outcome.HANDLED,
        Outcome.DUPLICATE,
        Outcome.DUPLICATE,
        Outcome.HANDLED,
    ]
    assert world.moods.handled == ["opened", "opened"]


async def test_a_known_type_that_is_not_read_is_passed_over_without_a_transaction() -> None:
    world = World()

    results = await world.admit(Noticed(name="k"), Noticed(name="k"))

    assert outcomes(results) == [Outcome.IGNORED, Outcome.IGNORED]
    assert world.steps == []
    assert world.states() == {}
    assert world.committed == []
    [told] = world.signals_of(BatchCommitted)
    assert ([each.outcome for each in told.handled], told.duration_s) == ([Outcome.IGNORED] * 2, 0.0)


async def test_a_known_type_that_is_not_read_is_passed_over_behind_a_parked_key_too() -> None:
    world = World()

    results = await world.admit(Counted(name="k", amount=-1), Noticed(name="k"), Counted(name="other", amount=1))

    assert outcomes(results) == [Outcome.PARKED, Outcome.IGNORED, Outcome.HANDLED]
    assert len(world.parked()) == 1


async def test_a_command_is_answered_and_leaves_no_inbox_row() -> None:
    world = World()

    result = (await world.processor.admit("counter", [command(total=5)]))[0]

    assert result.answer == Tally(name="k", total=5)
    assert world.total("k") == 5
    assert world.states() == {}


@pytest.mark.parametrize("total", [-1, 13, 666])
async def test_a_command_that_is_refused_or_fails_stores_nothing_and_its_neighbours_go_on(total: int) -> None:
    world = World()
    batch = [command(name, n) for name, n in (("a", 1), ("b", total), ("c", 3))]

    results = await world.processor.admit("counter", batch)

    assert outcomes(results) == [Outcome.HANDLED, Outcome.REFUSED, Outcome.HANDLED]
    assert results[1].refusal is not None
    assert (world.total("a"), world.total("b"), world.total("c")) == (1, None, 3)
    assert [row.key for row in world.outbox()] == [b"a", b"c"]
    assert world.parked() == []


async def test_the_database_refusing_one_event_of_500_parks_that_one_only() -> None:
    world = World()
    events = [world.read(Counted(name=f"k{n}", amount=1)) for n in range(499)]
    culprit = world.read(Counted(name="beast", amount=666))
    batch = [*events[:300], culprit, *events[300:]]

    results = await world.processor.admit("counter", batch)

    assert [result.incoming for result in results] == batch
    assert outcomes(results).count(Outcome.HANDLED) == 499
    assert results[300].outcome is Outcome.PARKED
    assert [(event.key, event.attempts) for event in world.parked()] == [("beast", 1)]
    failure = world.parked()[0].failure
    assert failure is not None
    assert failure.error == "DataRefusedError"
    assert world.steps.count("commit") == 2
    assert world.flow() == ["Parked beast"]


async def test_several_that_the_database_names_one_by_one_are_parked_beside_the_rest() -> None:
    world = World()

    results = await world.admit(*(Counted(name=f"k{n}", amount=666 if n % 40 == 9 else 1) for n in range(160)))

    assert [result.incoming.key for result in results if result.outcome is Outcome.PARKED] == [
        "k9",
        "k49",
        "k89",
        "k129",
    ]
    assert outcomes(results).count(Outcome.HANDLED) == 156
    assert world.steps.count("commit") == 5
    assert world.signals_of(BatchSplit) == []


async def test_when_many_are_refused_the_batch_is_divided_so_that_what_is_tried_in_vain_stays_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    tried: list[int] = []
    plan = world.processor.plan

    def counted(consumer: str, batch: Sequence[Incoming], *others: Any) -> tuple[Plan, Failures]:
        tried.append(len(batch))
        return plan(consumer, batch, *others)

    monkeypatch.setattr(world.processor, "plan", counted)

    results = await world.admit(*(Counted(name=f"k{n}", amount=666 if n % 5 == 0 else 1) for n in range(500)))

    assert outcomes(results).count(Outcome.PARKED) == 100
    assert outcomes(results).count(Outcome.HANDLED) == 400
    assert len(tried) <= 3 * 100
    assert sum(tried) < 30 * 500


async def test_behind_one_that_finds_no_room_the_rest_of_its_key_waits_also_when_the_batch_is_divided() -> None:
    """What is divided between two parts of one key must not be tried in another order."""
    world = World(parked_keys_max=1)
    world.database.rules = Rules((nameless_666,), frozenset((Tally,)))
    await world.admit(Counted(name="other", amount=-1))
    world.steps.clear()

    results = await world.admit(*(Counted(name="k", amount=amount) for amount in (666, 1, 2, 3)))

    assert outcomes(results) == [Outcome.DEFERRED] * 4
    assert [result.no_room for result in results] == [True, False, False, False]
    assert world.total("k") is None
    assert world.steps.count("begin") == 4, "all, the first half, its first alone, and that as one that failed"


async def test_a_refusal_that_names_nobody_is_found_by_halving() -> None:
    world = World()
    world.database.rules = Rules((nameless_666,))

    results = await world.admit(*(Counted(name=f"k{n}", amount=666 if n == 70 else 1) for n in range(100)))

    assert [result.incoming.key for result in results if result.outcome is Outcome.PARKED] == ["k70"]
    assert outcomes(results).count(Outcome.HANDLED) == 99
    assert len(world.signals_of(BatchSplit)) <= 7


async def test_one_that_is_named_for_what_another_did_is_not_parked() -> None:
    world = World()
    world.database.rules = Rules((lambda before, row: nameless_666(before, row, frozenset({"k3"})),))

    results = await world.admit(*(Counted(name=f"k{n}", amount=666 if n == 5 else 1) for n in range(8)))

    assert [result.incoming.key for result in results if result.outcome is Outcome.PARKED] == ["k5"]
    assert world.total("k3") == 1


async def test_the_database_refusing_the_last_of_500_events_of_one_key_keeps_their_order() -> None:
    world = World()
    amounts = [1] * 499 + [666 - 499]

    results = await world.admit(*(Counted(name="k", amount=amount) for amount in amounts))

    assert outcomes(results) == [Outcome.HANDLED] * 499 + [Outcome.PARKED]
    assert world.total("k") == 499


async def test_events_behind_one_that_the_database_refuses_are_held() -> None:
    world = World()

    results = await world.admit(*(Counted(name="k", amount=amount) for amount in (1, 665, 1)))

    assert outcomes(results) == [Outcome.HANDLED, Outcome.PARKED, Outcome.HELD]
    assert world.total("k") == 1


@pytest.mark.parametrize("step", ["begin", "open", "opened", "commit"])
async def test_a_database_that_goes_away_at_any_step_leaves_nothing_and_burns_no_attempt(step: str) -> None:
    world = World()
    event = world.read(Counted(name="k", amount=1))
    bad = world.read(Counted(name="bad", amount=-1))
    world.lose(step)

    with pytest.raises(StoreUnavailableError):
        await world.admit(event, bad)

    assert world.states() == {}
    assert world.parked() == []
    assert world.committed == []
    assert outcomes(await world.admit(event, bad)) == [Outcome.HANDLED, Outcome.PARKED]
    assert world.parked()[0].attempts == 1


async def test_a_commit_whose_answer_was_lost_is_recognised_when_the_batch_comes_again() -> None:
    world = World()
    batch = [world.read(Counted(name="k", amount=1)), world.read(Counted(name="bad", amount=-1))]
    world.lose("committed")

    with pytest.raises(StoreUnavailableError):
        await world.admit(*batch)
    again = await world.admit(*batch)

    assert outcomes(again) == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert world.total("k") == 1
    assert [event.attempts for event in world.parked()] == [1]


async def test_many_batches_of_the_same_keys_side_by_side_lose_no_update() -> None:
    world = World()

    batches = [[world.read(Counted(name=f"k{n % 3}", amount=1)) for n in range(9)] for _ in range(20)]
    await asyncio.gather(*(world.admit(*batch) for batch in batches))

    assert [world.total(f"k{n}") for n in range(3)] == [60, 60, 60]


async def test_a_row_is_kept_from_a_command_whose_key_is_the_rows_id() -> None:
    """A stock row is touched by orders' events and set by a command whose key is the SKU: one lock."""
    world = World()
    event = replace(world.read(Counted(name="sku", amount=1)), key="order")

    by_key, _ = world.processor.plan("counter", [command("sku")])
    by_row, _ = world.processor.plan("counter", [event])

    assert by_key.locks == [lock_id("sku")]
    assert by_row.locks == sorted([lock_id("sku"), lock_id("order")])


async def test_a_message_that_cannot_say_what_it_touches_fails_alone() -> None:
    world = World()

    results = await world.admit(Counted(name="untouchable", amount=1), Counted(name="k", amount=1))

    assert outcomes(results) == [Outcome.PARKED, Outcome.HANDLED]


async def test_two_messages_with_one_id_and_different_keys_are_both_done() -> None:
    world = World()
    first = world.read(Counted(name="a", amount=1))
    await world.admit(Counted(name="a", amount=10), Counted(name="b", amount=20))

    results = await world.admit(first, world.read(Counted(name="b", amount=1), event_id=first.event_id))

    assert outcomes(results) == [Outcome.HANDLED, Outcome.HANDLED]
    assert (world.total("a"), world.total("b")) == (11, 21)


async def test_a_decision_that_publishes_for_another_key_is_refused_whole() -> None:
    world = World()
    said = Said(name="k", words="fine")
    stray = record_of(said, offset=0)
    incoming = from_record(stray, world.service.catalogue)
    results = await world.processor.admit("counter", [replace(incoming, key="other")])

    assert outcomes(results) == [Outcome.PARKED]
    assert results[0].failure is not None
    assert results[0].failure.error == "KeyMismatchError"
    assert world.outbox("totals") == []


async def test_what_was_committed_is_told_once_and_after_the_commit() -> None:
    world = World()

    await world.admit(Counted(name="k", amount=1), Counted(name="bad", amount=-1))

    told = world.signals_of(BatchCommitted)
    assert [[each.outcome for each in batch.handled] for batch in told] == [[Outcome.HANDLED, Outcome.PARKED]]
    assert told[0].handled[1].error == "ArithmeticError: -1 is below zero"
    assert told[0].handled[1].topic == "counts"
    assert told[0].handled[0].caused == (Total(name="k", total=1),)
    assert len(world.committed) == 1
    assert (world.committed[0].existing, world.committed[0].lease_ms) == (frozenset(), 60_000)
    assert [Ref(type(row), row.id) for row in world.committed[0].rows] == [Ref(Tally, "k")]


async def test_of_a_type_of_which_nothing_was_there_nothing_is_looked_for_until_something_is() -> None:
    world = World()
    looks = []
    for name in ("a", "b", "b", "c"):
        world.steps.clear()
        await world.admit(Counted(name=name, amount=1))
        looks.append(world.steps.count("open"))

    assert looks == [1, 0, 0, 1]
    assert (world.total("a"), world.total("b"), world.total("c")) == (1, 2, 1)


async def test_at_another_consumer_and_of_another_type_what_is_there_is_looked_for() -> None:
    world = World()
    await world.admit(Counted(name="a", amount=1))

    for consumer, event in (("another", Counted(name="b", amount=1)), ("counter", Opened(name="c"))):
        world.steps.clear()
        await world.processor.admit(consumer, [world.read(event)])
        assert "open" in world.steps


@pytest.mark.parametrize(
    "asked",
    [
        {"parked": ParkedQuery(("b",), 1)},
        {"select": lambda _: None},
        {"finish": lambda _, __: End.COMMIT},
        {"wait_s": 30.0},
    ],
    ids=lambda asked: next(iter(asked)),
)
async def test_for_whoever_asks_for_more_than_what_becomes_of_a_batch_it_is_looked_for(asked: dict[str, Any]) -> None:
    world = World()
    await world.admit(Counted(name="a", amount=1))
    world.steps.clear()

    batch = [world.read(Counted(name="b", amount=1))]
    await world.processor.process(Work(consumer="counter", batch=batch, **asked))

    assert world.steps[:3] == ["begin", "open", "opened"]


async def test_for_what_cannot_be_read_it_is_looked_for_since_it_will_be_parked() -> None:
    world = World()
    await world.admit(Counted(name="a", amount=1))
    world.steps.clear()

    broken = replace(record_of(Counted(name="b", amount=1), offset=99), value=b"{")
    results = await world.admit(from_record(broken, world.service.catalogue), Counted(name="c", amount=1))

    assert outcomes(results) == [Outcome.DEAD, Outcome.HANDLED]
    assert world.steps == ["begin", "open", "opened", "commit", "committed"]


async def test_what_is_tried_again_says_nothing_of_what_will_be_there_for_what_comes() -> None:
    world = World()
    await world.admit(Counted(name="a", amount=1))
    await world.admit(Counted(name="b", amount=-1))
    retrier = Retrier("counter", world.processor, world.store, world.signals, world.clock)
    retrier.schedule(0)
    await retrier.step()
    assert [event.attempts for event in world.parked()] == [2]
    world.steps.clear()

    await world.admit(Counted(name="c", amount=1))

    assert "open" not in world.steps


async def test_where_a_message_has_failed_before_it_is_decided_what_is_there_is_looked_for_first() -> None:
    world = World()
    await world.admit(Counted(name="a", amount=1))
    world.steps.clear()

    await world.admit(Counted(name="untouchable", amount=1))

    assert world.steps == ["begin", "open", "opened", "commit", "committed"]


async def test_what_fails_where_nothing_is_there_is_decided_once() -> None:
    world = World()
    decide, decided = world.service.handlers[Counted].decide, list[str]()

    def counted(rows: Rows, envelope: Envelope) -> Decision:
        decided.append(envelope.key)
        return decide(rows, envelope)

    handlers = dict(world.service.handlers)
    handlers[Counted] = dataclasses.replace(handlers[Counted], decide=counted)
    service = dataclasses.replace(world.service, handlers=handlers)
    processor = Processor(service, world.store, world.policy, world.signals, world.clock)

    for event in (Counted(name="a", amount=1), Counted(name="b", amount=-1)):
        await processor.admit("counter", [world.read(event)])

    assert decided == ["a", "b"]
    assert [event.key for event in world.parked()] == ["b"]


def nameless_666(before: Row | None, row: Row, named: frozenset[str] = frozenset()) -> None:
    if isinstance(row, Tally) and row.total == 666:
        raise DataRefusedError("the number of the beast", "P0001", None, named)


def test_a_row_is_locked_by_its_id_as_text_whatever_it_is() -> None:
    world = World()
    one_id = UUID(int=7)
    handlers = dict(world.service.handlers)
    handlers[Counted] = dataclasses.replace(
        handlers[Counted], touches=lambda _: [Ref(Tally, 7), Ref(Tally, one_id), Ref(Tally, "seven")]
    )
    world.processor.service = dataclasses.replace(world.service, handlers=handlers)

    plan, _ = world.processor.plan("counter", [world.read(Counted(name="k", amount=1))])

    assert plan.locks == sorted(lock_id(name) for name in ("k", "7", str(one_id), "seven"))


def test_of_what_is_not_decided_nothing_is_loaded_and_nothing_is_missing() -> None:
    world = World()
    barred = replace(world.read(Counted(name="a", amount=1)), problem=UndecodableError("barred", "for a reason"))

    plan, failures = world.processor.plan("counter", [barred, world.read(Noticed(name="b"))])

    assert (list(plan.rows), failures) == ([], {})


async def test_what_has_failed_loads_nothing_and_a_former_name_of_a_message_is_locked_too() -> None:
    world = World()
    failed = world.read(Counted(name="failed", amount=1))
    renamed = replace(world.read(Counted(name="k", amount=1)), also=("former", "identity"))
    failures: Failures = {failed.name: ValueError("before")}

    plan, still = world.processor.plan("counter", [failed, renamed], failures)

    assert list(plan.rows) == [Ref(Tally, "k")]
    assert still == failures
    assert plan.locks == sorted(lock_id(name) for name in ("failed", "k", "former"))


@pytest.mark.parametrize("holding", [True, False])
async def test_whether_there_is_room_again_is_looked_for_before_each_batch(holding: bool) -> None:
    clock = StillClock()
    world = World(parked_keys_max=1, clock=clock)
    world.moods.broken = {"first", "second"}
    await world.admit(Counted(name="first", amount=1))
    second = world.read(Counted(name="second", amount=1))
    bring = world.processor.hold if holding else world.processor.admit
    assert outcomes(await bring("counter", [second])) == [Outcome.DEFERRED]
    world.database.state.parked.clear()
    clock.now += LOOK_WHEN_FULL_S

    assert outcomes(await bring("counter", [second])) == [Outcome.HELD if holding else Outcome.PARKED]


async def test_a_command_does_not_wait_behind_what_is_parked_of_its_key() -> None:
    world = World()
    await world.admit(Counted(name="k", amount=-1))

    results = await world.admit(command(total=7))

    assert outcomes(results) == [Outcome.HANDLED]
    assert world.total("k") == 7


async def test_a_callers_refusal_is_answered_and_his_failure_described() -> None:
    world = World()

    refused, failed = await world.admit(*(command(total=total) for total in (-1, 13)))

    assert (refused.answer, type(refused.refusal), refused.failure) == ("below zero", RefusedError, None)
    assert (failed.answer, type(failed.refusal)) == (None, ArithmeticError)
    assert failed.failure is not None
    assert failed.failure.message == "thirteen"


async def test_what_is_parked_and_not_read_any_more_is_passed_over_and_its_key_flows_again() -> None:
    world = World()
    await world.processor.hold("counter", [world.read(Opened(name="k"))])
    handlers = {kind: handler for kind, handler in world.service.handlers.items() if kind is not Opened}
    service = dataclasses.replace(world.service, handlers=handlers)
    newer = Processor(service, world.store, world.policy, world.signals, world.clock)
    retrier = Retrier("counter", newer, world.store, world.signals, world.clock)

    retrier.schedule(0)
    await retrier.step()

    assert [each.outcome for each in world.signals_of(BatchCommitted)[-1].handled] == [Outcome.IGNORED]
    assert (world.parked(), set(world.states().values())) == ([], {"DONE"})
    assert world.flow() == ["Reopened k"]


async def test_no_more_is_held_behind_one_than_the_bound_allows() -> None:
    world = World(parked_depth_max=2)

    results = await world.admit(*(Counted(name="k", amount=amount) for amount in (-1, 2, 3)))

    assert outcomes(results) == [Outcome.PARKED, Outcome.HELD, Outcome.DEFERRED]


async def test_who_divides_a_batch_says_so() -> None:
    world = World(clock=StillClock())
    world.database.rules = Rules((nameless_666,), ())
    batch = [world.read(Counted(name=name, amount=amount)) for name, amount in (("a", 1), ("b", 666))]

    await world.processor.admit("another", batch)

    assert world.signals_of(BatchSplit) == [BatchSplit("counter", "another", 2, "the number of the beast")]
    assert {each.duration_s for each in world.signals_of(BatchCommitted)} == {0.0}


async def test_an_intent_is_asked_at_once_and_again_after_a_pause_and_stays_open_meanwhile() -> None:
    world = World()
    policy = dataclasses.replace(world.policy, ask_again=Backoff(8_000, 8_000), rng=Drawn(0.0))
    processor = Processor(world.service, world.store, policy, world.signals, world.clock, world.committed.append)

    await processor.admit("counter", [world.read(Asked(name="k"))])
    [asked] = world.intents().values()
    await processor.admit("counter", [from_answer(Said(name="k", words="again"), asked, OURS)])

    first, second = world.committed
    assert [(each.intent.key, each.attempts, each.delay_ms) for each in first.opened] == [("ask:k", 0, 0)]
    assert [(each.intent.key, each.attempts, each.delay_ms) for each in second.postponed] == [("ask:k", 1, 4_000)]
    assert (second.opened, second.closed_intents) == ([], [])


async def test_where_it_cannot_be_said_what_a_message_touches_since_something_is_away_nothing_is_parked() -> None:
    def touches(message: object) -> list[Ref]:
        raise InfrastructureError("the land register is closed")

    world = World()
    handlers = dict(world.service.handlers)
    handlers[Counted] = dataclasses.replace(handlers[Counted], touches=touches)
    service = dataclasses.replace(world.service, handlers=handlers)
    processor = Processor(service, world.store, world.policy, world.signals, world.clock)

    with pytest.raises(InfrastructureError):
        await processor.admit("counter", [world.read(Counted(name="k", amount=1))])

    assert world.parked() == []


def test_locks_are_taken_in_one_order_by_all() -> None:
    world = World()
    batch = [world.read(Counted(name=f"k{n}", amount=1)) for n in range(20)]

    locks = world.processor.plan("counter", batch)[0].locks

    assert locks == sorted(locks) == sorted({lock_id(f"k{n}") for n in range(20)})
