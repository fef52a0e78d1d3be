"""Where an order is stuck, as its own row says."""

from __future__ import annotations

import pytest

from orderflow.core.dead_letters import Dead, Parked, Reopened
from orderflow.core.service import Decision
from orderflow.events.base import order_id_of
from orderflow.services.order.model import Obstacle, OrderFlow
from orderflow.services.order.service import SERVICE
from tests.support.decisions import World
from tests.unit.order.examples import ORDER_ID, order


def parked(consumer: str, key: str = str(ORDER_ID)) -> Parked:
    return Parked(subject_key=key, consumer=consumer, event_id="e1", event_type="orderflow.X.v1", error="KeyError")


def dead(consumer: str) -> Dead:
    return Dead(
        subject_key=str(ORDER_ID),
        consumer=consumer,
        event_id="e1",
        event_type="orderflow.X.v1",
        error="KeyError",
        attempts=6,
    )


def reopened(consumer: str) -> Reopened:
    return Reopened(subject_key=str(ORDER_ID), consumer=consumer, event_id="e1", event_type="orderflow.X.v1")


def stuck(world: World) -> dict[str, Obstacle]:
    [flow] = [row for row in world.rows.values() if isinstance(row, OrderFlow)]
    return flow.stuck


def test_each_consumer_at_which_an_order_is_stuck_is_kept_until_it_reopens() -> None:
    world = World(SERVICE, order())
    world.take(parked("payment"))
    world.take(parked("inventory"))
    here = Obstacle(state="parked", event_type="orderflow.X.v1", event_id="e1", error="KeyError", attempts=None)
    assert stuck(world) == {"payment": here, "inventory": here}
    world.take(dead("payment"))
    assert stuck(world)["payment"] == Obstacle(
        state="dead", event_type="orderflow.X.v1", event_id="e1", error="KeyError", attempts=6
    )
    world.take(reopened("payment"))
    assert list(stuck(world)) == ["inventory"]
    world.take(reopened("inventory"))
    assert stuck(world) == {}


def test_the_order_itself_is_not_written() -> None:
    world = World(SERVICE, order())
    assert [type(row) for row in world.take(parked("payment")).rows] == [OrderFlow]


def test_reopening_what_was_not_known_to_be_stuck_is_no_error() -> None:
    world = World(SERVICE, order())
    world.take(reopened("payment"))
    assert stuck(world) == {}


@pytest.mark.parametrize("key", ["", "stock/SKU-A", "payment-status/0/17", str(ORDER_ID).upper(), "ü" * 200])
def test_a_key_that_is_no_order_is_passed_over(key: str) -> None:
    assert order_id_of(key) is None
    assert World(SERVICE, order()).take(parked("payment", key)) == Decision()


def test_an_order_that_is_not_there_is_passed_over() -> None:
    assert World(SERVICE).take(parked("payment")) == Decision()
