"""The kit of a service's author: the toy service on it, message by message."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from orderflow import Caller, Fact, ForbiddenError, Surroundings
from orderflow.testing import Bench, Outcome
from tests.unit.core.toy import (
    Asked,
    Counted,
    Moods,
    Movement,
    Noticed,
    Opened,
    Put,
    Said,
    Tally,
    Total,
    intent_of,
    toy_service,
)


class Reading(Fact, frozen=True, kw_only=True):
    """Stored by nobody."""

    TABLE: ClassVar[str] = "readings"


async def _gateway(_: Surroundings) -> None:
    """Nobody is asked on a bench."""


def bench(moods: Moods | None = None) -> Bench:
    return Bench(replace(toy_service(moods or Moods()), tables=(Tally, Movement), gateway=_gateway))


def test_an_event_shows_what_was_decided_and_what_is_stored() -> None:
    made = bench()

    first, second = (made.send(Counted(name="k", amount=amount)) for amount in (2, 3))

    assert first.outcome is second.outcome is Outcome.HANDLED
    assert (first.events, second.events) == ((Total(name="k", total=2),), (Total(name="k", total=5),))
    assert second.rows == (Tally(name="k", total=5),)
    assert second.facts == (Movement(name="k", number=5),)
    assert made.row(Tally, "k") == Tally(name="k", total=5)
    assert made.row(Tally, "other") is None
    assert [each.number for each in made.facts(Movement)] == [2, 5]
    assert made.facts(Reading) == []


def test_an_event_that_comes_again_does_nothing() -> None:
    made = bench()
    made.send(Counted(name="k", amount=2))

    again = made.redeliver()

    assert (again.outcome, again.events, again.rows, again.facts) == (Outcome.DUPLICATE, (), (), ())
    assert made.row(Tally, "k") == Tally(name="k", total=2)


async def test_a_test_with_an_event_loop_of_its_own_can_use_it() -> None:
    assert bench().send(Opened(name="k")).outcome is Outcome.HANDLED


def test_what_happens_once_a_key_is_recognised_whoever_sends_it() -> None:
    made = bench()
    assert [made.send(Opened(name="k")).outcome for _ in range(2)] == [Outcome.HANDLED, Outcome.DUPLICATE]


def test_a_failing_event_is_parked_with_its_error_and_holds_the_next_of_its_key() -> None:
    made = bench()

    failed = made.send(Counted(name="k", amount=-1))
    held = made.send(Counted(name="k", amount=1))
    final = made.send(Counted(name="other", amount=-13))

    assert (failed.outcome, failed.error) == (Outcome.PARKED, "ArithmeticError: -1 is below zero")
    assert (held.outcome, held.events) == (Outcome.HELD, ())
    assert (final.outcome, final.error) == (Outcome.DEAD, "FinalError: minus thirteen can never be counted")
    assert made.row(Tally, "k") is None


def test_a_command_is_answered_or_refused() -> None:
    made = bench()

    put = made.send(Put(name="k", total=4))
    refused = made.send(Put(name="k", total=-4))
    broken = made.send(Put(name="k", total=13))

    assert (put.outcome, put.answer) == (Outcome.HANDLED, Tally(name="k", total=4))
    assert (refused.outcome, refused.answer, refused.error) == (
        Outcome.REFUSED,
        "below zero",
        "RefusedError: below zero",
    )
    assert (broken.outcome, broken.error) == (Outcome.REFUSED, "ArithmeticError: thirteen")
    assert made.row(Tally, "k") == Tally(name="k", total=4)


def test_a_command_needs_its_permission() -> None:
    with pytest.raises(ForbiddenError, match="nobody \\(no role\\) may not do this"):
        bench().send(Put(name="k", total=4), Caller("nobody"))


def test_an_answer_is_the_one_to_the_open_intent() -> None:
    made = bench()
    made.send(Asked(name="other"))
    asked = made.send(Asked(name="k"))

    answered = made.send(Said(name="k", words="yes"))

    assert asked.intents == (intent_of("k"),)
    assert answered.events == (Total(name="k", total=1),)
    with pytest.raises(ValueError, match="Said answers one open intent of k; open: 0"):
        made.send(Said(name="k", words="yes"))


def test_an_event_without_a_decision_is_passed_over() -> None:
    assert bench().send(Noticed(name="k")).outcome is Outcome.IGNORED


def test_what_the_declaration_leaves_out_is_an_error() -> None:
    mute = Bench(replace(toy_service(Moods()), publishes=("flow-status",)))

    with pytest.raises(ValueError, match="counter does not read totals; its subscriptions: counts"):
        bench().send(Total(name="k", total=1))
    parked = mute.send(Counted(name="k", amount=1))
    assert (parked.outcome, parked.events, mute.row(Tally, "k")) == (Outcome.PARKED, (), None)
    assert parked.error.endswith(" goes to totals, which the service's `publishes` lacks: add it there")
    with pytest.raises(IndexError):
        bench().redeliver()


def test_what_the_declaration_leaves_out_is_told_before_a_database_tells_it() -> None:
    without_table = Bench(replace(toy_service(Moods()), tables=(Movement,), gateway=_gateway))
    with pytest.raises(ValueError, match=r"^Tally is not in `tables` of counter: add it there$"):
        without_table.send(Counted(name="k", amount=2))
    without_gateway = Bench(replace(toy_service(Moods()), tables=(Tally, Movement)))
    with pytest.raises(ValueError, match=r"^counter returned an intent, but has no `gateway`"):
        without_gateway.send(Asked(name="k"))
    with pytest.raises(TypeError, match=r"^send takes an event, a command or an answer, not a str$"):
        bench().send("Counted")  # type: ignore[arg-type]  # the mistake
