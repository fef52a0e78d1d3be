"""The mistakes of a service's author: each is told in one sentence, at the line that makes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from orderflow import Catalogue, Decision, Event, Row, Rows, Subscription, handlers, handles
from orderflow.testing import Bench
from tests.unit.core.toy import Counted, Moods, Movement, Tally, Total, toy_service


class Untyped(Event, frozen=True, kw_only=True):
    TOPIC: ClassVar[str] = "untyped"


class Namesake(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = Counted.TYPE


class Homeless(Row, frozen=True, kw_only=True):
    name: str


class Misnamed(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "misnamed"
    KEY: ClassVar[str] = "nome"
    name: str


class Mischanged(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "mischanged"
    KEY: ClassVar[str] = "name"
    CHANGES: ClassVar[tuple[str, ...]] = ("totl",)
    name: str


def declared(**changes: Any) -> Callable[[], object]:
    return lambda: replace(toy_service(Moods()), **changes)


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (declared(publishes="totals"), "counter: `publishes` must be a tuple, such as .* not 'totals'"),
        (declared(subscriptions=Subscription("a", ("b",))), "`subscriptions` must be a tuple"),
        (declared(tables=Tally), "`tables` must be a tuple"),
        (declared(machines=("orders",)), "`machines` must be a tuple, such as .* of StateMachine"),
        (lambda: Subscription("counter", "counts"), "the subscription counter: `topics` must be"),  # type: ignore[arg-type]
        (declared(tables=(int,)), "int in `tables` must derive from Row or Fact"),
        (declared(tables=(Homeless,)), "Homeless has no TABLE: name its table"),
        (declared(tables=(Misnamed,)), "Misnamed has no field nome, which its KEY or CHANGES names: name$"),
        (declared(tables=(Mischanged,)), "Mischanged has no field totl"),
        (lambda: Catalogue([Total(name="a", total=1)]), "a catalogue holds message types, not Total"),  # type: ignore[list-item]
        (lambda: Catalogue([Untyped]), "Untyped has no TYPE"),
        (lambda: Catalogue([Counted, Namesake]), "two message types are called .* change the TYPE or VERSION"),
        (handles, "@handles takes message types, .* not None"),
        (lambda: handles(Rows), "@handles takes message types, .* not <class"),  # type: ignore[type-var]
    ],
)
def test_a_declaration_that_cannot_run_is_refused(declare: Callable[[], object], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        declare()


async def waits(_: Rows, event: Counted) -> Decision:
    return Decision()


async def streams(_: Rows, event: Counted) -> AsyncIterator[Decision]:
    yield Decision()


def wants_little(_: Rows) -> Decision:
    return Decision()


@pytest.mark.parametrize(
    ("decide", "sentence"),
    [
        (waits, "waits is async or a generator: .* return an Intent"),
        (streams, "streams is async or a generator"),
        (wants_little, "wants_little must take two or three parameters"),
        (Decision, "is not a function"),
    ],
)
def test_what_cannot_decide_is_refused(decide: Any, sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        handles(Counted)(decide)


@pytest.mark.parametrize(("found", "what"), [(None, "None"), ((), "a tuple")])
def test_a_decision_that_returns_anything_else_is_told_by_its_name(found: Any, what: str) -> None:
    @handles(Counted)
    def forgot(_: Rows, event: Counted) -> Decision:
        return found  # type: ignore[no-any-return]

    service = replace(toy_service(Moods()), handlers=handlers(forgot), tables=(Tally, Movement))
    error = Bench(service).send(Counted(name="k", amount=1)).error
    assert error == f"TypeError: forgot must return a Decision, not {what}; Decision() changes nothing"


def test_a_message_without_a_key_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match="Untyped has no key: define the property `key`, a text"):
        _ = Untyped().key
