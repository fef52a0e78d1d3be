"""How a service's decisions become its table."""

from __future__ import annotations

from types import ModuleType
from uuid import UUID

import pytest

from orderflow import Decision, Envelope, Message, Ref, Row, Rows, handlers, handles
from tests.unit.core.toy import Counted, Opened, Put

ID = UUID(int=7)


@handles(Counted, touches=lambda event: [Ref(Row, event.name)], trusts=("amount",))
def counted(rows: Rows, event: Counted) -> Decision:
    return Decision(answer=(rows, event))


@handles(Opened, Put)
def either(_: Rows, message: Opened | Put, envelope: Envelope) -> Decision:
    return Decision(answer=(message, envelope.id))


def stray(_: Rows, message: Message) -> Decision:
    return Decision(answer=message)


def envelope(message: Message) -> Envelope:
    return Envelope(id=ID, message=message, source="/test", key=message.key)


def test_a_decision_gets_the_rows_and_its_message_and_the_envelope_where_it_asks_for_it() -> None:
    table = handlers(counted, either)
    event, put, rows = Counted(name="a", amount=1), Put(name="a", total=2), Rows({})
    assert table[Counted].decide(rows, envelope(event)).answer == (rows, event)
    assert table[Put].decide(rows, envelope(put)).answer == (put, ID)
    assert table[Put] is table[Opened]


def test_what_is_touched_and_trusted_is_as_it_was_said_and_nothing_if_nothing_was() -> None:
    table = handlers(counted, either)
    event = Counted(name="a", amount=1)
    assert (list(table[Counted].touches(event)), table[Counted].trusts) == ([Ref(Row, "a")], ("amount",))
    assert (list(table[Put].touches(event)), table[Put].trusts) == ([], ())


def test_a_decision_stays_the_function_that_it_was() -> None:
    event = Counted(name="a", amount=1)
    assert counted(Rows({}), event).answer[1] is event  # type: ignore[index]
    assert counted.__name__ == "counted"


def test_of_a_module_its_own_decisions_are_taken_and_not_those_that_it_imports() -> None:
    module = ModuleType("of_ones_own")

    @handles(Put)
    def own(_: Rows, message: Put) -> Decision:
        return Decision()

    own.__module__ = module.__name__
    vars(module).update(own=own, counted=counted, stray=stray, number=3)
    assert list(handlers(module)) == [Put]


def test_a_function_that_handles_nothing_is_no_decision() -> None:
    with pytest.raises(TypeError, match=r"stray decides no message: put @handles\(\.\.\.\) before it"):
        handlers(stray)


def test_a_message_is_decided_by_one_function() -> None:
    with pytest.raises(TypeError, match="two functions decide Put"):
        handlers(either, handles(Put)(lambda _, message: Decision()))
