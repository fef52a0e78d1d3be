"""How a failure is described: what kind it is of, what is shown of it, and which others it is grouped with."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from uuid import uuid4

import pytest
from msgspec.structs import replace

from orderflow.core.decisions import FREE, Terms
from orderflow.core.failures import MESSAGE_MAX, FinalError, InfrastructureError, Trial, Verdict, describe, shown
from orderflow.core.inbox import Failure, InboxState, ParkedEvent, Waits, waits
from orderflow.core.messages import UndecodableError
from orderflow.core.processor import Processor
from orderflow.core.service import Decision, Handler, RefusedError, Row, StateMachine, Subscription
from orderflow.core.transport import ConsumerRecord
from tests.unit.core.toy import Counted, Moods, Said, touches, toy_service
from tests.unit.core.world import World


class NoSuchOrderError(FinalError):
    """As a service would make it."""


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


def caught(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is to be described
        return error
    raise AssertionError("nothing was raised")


def raising(error: Exception) -> Callable[[], object]:
    def decides() -> None:
        raise error

    return decides


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (InfrastructureError("the tax office is closed"), "infrastructure", "the tax office is closed"),
        (FinalError("never"), "permanent", "never"),
        (NoSuchOrderError("no order 7"), "permanent", "no order 7"),
        (ValueError("minus one"), "unknown", "minus one"),
        (SpeechlessError(), "unknown", "(its text cannot be had: LookupError)"),
    ],
)
def test_a_failure_is_of_one_of_three_kinds_and_named_by_its_class_and_place(
    error: Exception, kind: str, message: str
) -> None:
    name = type(error).__name__
    assert describe(caught(raising(error))) == Failure(
        kind, name, message, digest(f"{name}:test_failures.py:decides")
    )


def test_what_cannot_be_decoded_is_permanent_and_grouped_by_what_is_wrong_with_it() -> None:
    problem = UndecodableError("bad value", "expected `int`", about="amount")
    assert describe(problem) == Failure(
        "permanent", "UndecodableError", problem.detail, digest("UndecodableError:bad value:amount")
    )


def test_the_place_is_the_services_own_innermost_and_not_the_cores() -> None:
    machine = StateMachine(name="m", initial="a", created_by="b", transitions={})
    failure = describe(caught(lambda: machine.after("a", "b")))
    assert failure.fingerprint == digest("IllegalTransitionError:test_failures.py:<lambda>")


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert describe(KeyError("k")).fingerprint == digest("KeyError:")


def test_what_is_shown_is_short_and_can_be_printed() -> None:
    assert shown("a\x1b[31m\nb") == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b"
    assert shown("x" * 499 + "yz") == "x" * 499 + "y"
    assert len(shown("x" * 10_000)) == MESSAGE_MAX == 500


def test_a_secret_across_the_end_of_what_is_shown_is_not_shown() -> None:
    text = "x" * 480 + " password=" + "s" * 300
    assert "sss" not in shown(text)


@pytest.mark.parametrize(
    ("state", "attempts", "how"),
    [
        (InboxState.PARKED, 0, Waits.HELD),
        (InboxState.PARKED, 1, Waits.RETRYING),
        (InboxState.DEAD, 0, Waits.DEAD),
        (InboxState.DEAD, 6, Waits.DEAD),
    ],
)
def test_an_event_waits_in_one_of_three_ways(state: InboxState, attempts: int, how: Waits) -> None:
    assert waits(state, attempts) is how
    record = ConsumerRecord("t", 0, 1, b"k", b"?")
    event = ParkedEvent(
        key="k", identity="i", event_id=uuid4(), event_type="t", record=record, state=state, attempts=attempts
    )
    assert event.waits is how


def test_an_event_is_parked_as_new_unless_more_is_known() -> None:
    record = ConsumerRecord("t", 0, 1, b"k", b"?")
    event = ParkedEvent(key="k", identity="i", event_id=uuid4(), event_type="t", record=record)
    assert (event.state, event.attempts, event.delay_ms, event.position, event.replays) == (
        InboxState.PARKED,
        0,
        0,
        0,
        0,
    )


def test_what_is_stored_and_said_is_named_as_it_always_was() -> None:
    assert {each.name: each.value for each in InboxState} == {"DONE": 1, "PARKED": 2, "DEAD": 3, "DISCARDED": 4}
    assert [each.word for each in InboxState] == ["done", "parked", "dead", "discarded"]
    assert [each.value for each in Waits] == ["dead", "retrying", "held"]
    assert [each.value for each in Verdict] == ["outage", "poison"]


def test_what_is_not_said_otherwise() -> None:
    assert Terms(frozenset(), frozenset(), False, sys.maxsize, sys.maxsize) == FREE
    assert Subscription("consumer", ("topic",)).pace_ms == 0.0
    service = toy_service(Moods())
    assert (service.confirm, service.title, service.sql, service.personal) == ("", "", "", False)
    assert Trial("k", None, 0.0).first is True
    assert str(RefusedError("below zero")) == "below zero"


def test_a_service_tells_the_events_that_it_knows_and_does_not_read() -> None:
    assert toy_service(Moods()).unread() == {
        b"toy.Noticed.v1",
        b"toy.Total.v1",
        b"orderflow.Parked.v1",
        b"orderflow.Dead.v1",
        b"orderflow.Reopened.v1",
    }


def test_an_answer_is_no_event_that_could_be_passed_over() -> None:
    service = toy_service(Moods())
    handlers = {kind: handler for kind, handler in service.handlers.items() if kind is not Said}
    assert dataclasses.replace(service, handlers=handlers).unread() == service.unread()


class Unnamed(Row, frozen=True, kw_only=True):
    """Its author has forgotten to say what its id is."""


async def test_an_error_deep_in_the_core_is_named_by_the_innermost_place() -> None:
    world = World()
    handler = Handler(touches, lambda _, __: Decision(rows=(Unnamed(),)))
    service = dataclasses.replace(world.service, handlers={Counted: handler})
    processor = Processor(service, world.store, world.policy, world.signals, world.clock)

    [result] = await processor.admit("counter", [world.read(Counted(name="k", amount=1))])

    assert result.failure is not None
    assert result.failure.fingerprint == digest("NotImplementedError:service.py:id")


async def test_an_error_of_the_core_alone_is_named_by_where_it_was_raised() -> None:
    world = World()
    stray = replace(world.read(Said(name="k", words="fine")), key="other")

    [result] = await world.processor.admit("counter", [stray])

    assert result.failure is not None
    assert result.failure.fingerprint == digest("KeyMismatchError:decisions.py:encoded")
