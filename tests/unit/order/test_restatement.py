"""What an order's row stands for is what was published of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.failures import FinalError
from orderflow.core.messages import Event, Message
from orderflow.core.service import RefusedError, Rows, Statement
from orderflow.services.order.service import SERVICE
from tests.support.decisions import World, id_of
from tests.unit.order.examples import EVENTS, ORDER_ID, place


@given(st.lists(st.sampled_from(EVENTS), max_size=8))
def test_what_the_row_stands_for_is_what_was_published(walk: list[Message]) -> None:
    world = World(SERVICE)
    said: list[Event] = []
    for number, message in enumerate([place(), *walk]):
        try:
            said += world.take(message, id_of(str(number))).events
        except (FinalError, RefusedError):
            continue
    restatement = SERVICE.restatement
    assert restatement is not None
    rows = Rows({ref: world.rows[ref] for ref in restatement.touches(str(ORDER_ID))})
    statement = restatement.state(rows, str(ORDER_ID))
    assert [tuple(each) for each in statement.events] == [(event, n) for n, event in enumerate(said, start=1)]


def test_nothing_is_said_of_an_order_that_nobody_placed_or_a_key_that_names_none() -> None:
    restatement = SERVICE.restatement
    assert restatement is not None
    for key in (str(ORDER_ID), "stock/TEA"):
        assert restatement.state(Rows({}), key) == Statement()
