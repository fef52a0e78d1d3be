"""What a failed order holds goes back to the shelf, once; and what inventory says of an order is what it said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orderflow.core.service import Ref, RefusedError, Rows, Statement
from orderflow.events.inventory import ReservedLine
from orderflow.events.order import Item, OrderFailed
from orderflow.events.payment import PaymentSucceeded
from orderflow.services.inventory.messages import ReleaseStock, StockReleased
from orderflow.services.inventory.model import Held, Movement, MovementKind, Reservation, ReservationStatus, Stock
from orderflow.services.inventory.service import SERVICE
from tests.support.decisions import World, id_of

ORDER = id_of("order")
LINES = (ReservedLine(sku="A", quantity=2), ReservedLine(sku="B", quantity=1))
FAILED = OrderFailed(order_id=ORDER, customer_id="c", reason="card_declined")
RELEASE = ReleaseStock(order_id=ORDER, lines=LINES, because=FAILED)
RESERVED = Held(order_id=ORDER, status=ReservationStatus.RESERVED, lines=LINES, missing=(), customer_id="c")
STOCK = (
    Stock(sku="A", on_hand=3, reserved=7, version=4),
    Stock(sku="B", on_hand=0, reserved=1, version=2),
)


def test_every_line_goes_back_and_a_movement_says_so() -> None:
    world = World(SERVICE, RESERVED, *STOCK)
    decision = world.take(RELEASE, id_of("act"))
    assert decision.answer == StockReleased(order_id=ORDER, units=3, changed=True)
    assert decision.result == "3 units of 2 SKUs were released."
    assert world.rows[Ref(Stock, "A")] == Stock(sku="A", on_hand=5, reserved=5, version=5)
    assert world.rows[Ref(Stock, "B")] == Stock(sku="B", on_hand=1, reserved=0, version=3)
    assert world.rows[Ref(Held, ORDER)] == replace(
        RESERVED, status=ReservationStatus.RELEASED, released_by=id_of("act")
    )
    assert [
        (fact.sku, fact.kind, fact.version, fact.on_hand_change, fact.reserved_change)
        for fact in moved(decision.facts)
    ] == [
        ("A", MovementKind.RELEASE, 5, 2, -2),
        ("B", MovementKind.RELEASE, 3, 1, -1),
    ]
    assert {fact.cause for fact in moved(decision.facts)} == {id_of("act")}


def test_what_was_given_back_is_not_given_back_again() -> None:
    world = World(SERVICE, RESERVED, *STOCK)
    world.take(RELEASE)
    rows = dict(world.rows)
    decision = world.take(RELEASE, id_of("another act"))
    assert decision.answer == StockReleased(order_id=ORDER, units=3, changed=False)
    assert (decision.rows, decision.facts, world.rows) == ((), (), rows)


@pytest.mark.parametrize(
    ("rows", "command", "why"),
    [
        (STOCK, RELEASE, "nothing is reserved"),
        ((replace(RESERVED, status=ReservationStatus.REJECTED, lines=()), *STOCK), RELEASE, "nothing is reserved"),
        ((RESERVED, *STOCK), replace(RELEASE, lines=LINES[:1]), "is not what is to be released"),
        (
            (RESERVED, *STOCK),
            replace(RELEASE, because=replace(FAILED, customer_id="another")),
            "is not what is to be released",
        ),
        (
            (RESERVED, *STOCK),
            replace(RELEASE, because=replace(FAILED, order_id=id_of("another"))),
            "is not what is to be released",
        ),
        ((RESERVED, STOCK[0], replace(STOCK[1], reserved=0)), RELEASE, "fewer than 1 of B are reserved"),
        ((RESERVED, STOCK[0]), RELEASE, "fewer than 1 of B are reserved"),
    ],
)
def test_what_does_not_agree_is_refused(rows: tuple[Held | Stock, ...], command: ReleaseStock, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        World(SERVICE, *rows).decide(command)


def test_a_reservation_of_an_earlier_release_can_be_given_back_but_not_said_again() -> None:
    old = replace(RESERVED, customer_id=None)
    assert World(SERVICE, old, *STOCK).take(RELEASE).answer == StockReleased(order_id=ORDER, units=3, changed=True)
    assert stated(old) == Statement()


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 4)), min_size=1, unique_by=lambda line: line[0]))
def test_what_the_row_stands_for_is_what_was_published(lines: list[tuple[str, int]]) -> None:
    items = tuple(Item(sku=sku, quantity=quantity, unit_price=1) for sku, quantity in lines)
    total = sum(quantity for _, quantity in lines)
    paid = PaymentSucceeded(order_id=ORDER, customer_id="c", currency="EUR", items=items, total=total)
    decision = World(SERVICE, *(Stock(sku=sku, on_hand=2, reserved=0, version=1) for sku in "AB")).take(paid)
    [row] = [fact for fact in decision.facts if isinstance(fact, Reservation)]
    held = Held(
        order_id=row.order_id,
        status=row.status,
        lines=row.lines,
        missing=row.missing,
        customer_id=row.customer_id,
    )
    assert [tuple(each) for each in stated(held).events] == [(event, 1) for event in decision.events]
    assert stated(replace(held, status=ReservationStatus.RELEASED)) == Statement()


def moved(facts: object) -> list[Movement]:
    assert isinstance(facts, list)
    return [fact for fact in facts if isinstance(fact, Movement)]


def stated(held: Held) -> Statement:
    restatement = SERVICE.restatement
    assert restatement is not None
    assert list(restatement.touches(str(ORDER))) == [held.ref]
    return restatement.state(Rows({held.ref: held}), str(ORDER))


def test_nothing_is_said_of_an_order_that_has_no_reservation() -> None:
    restatement = SERVICE.restatement
    assert restatement is not None
    for key in (str(ORDER), "stock/TEA"):
        assert restatement.state(Rows({}), key) == Statement()
    assert list(restatement.touches("stock/TEA")) == []
