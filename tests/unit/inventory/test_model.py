"""The inventory's decisions, each and all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.service import Decision, Fact, Ref, RefusedError
from orderflow.events.inventory import MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.events.order import Item
from orderflow.events.payment import PaymentSucceeded
from orderflow.services.inventory.messages import SetStock, StockChangedError, StockLowered, StockSet, Versions
from orderflow.services.inventory.model import Movement, MovementKind, Reservation, ReservationStatus, Stock
from orderflow.services.inventory.service import SERVICE
from tests.support.decisions import World, id_of


def paid(name: str, *lines: tuple[str, int]) -> PaymentSucceeded:
    items = tuple(Item(sku=sku, quantity=quantity, unit_price=1) for sku, quantity in lines)
    total = sum(quantity for _, quantity in lines)
    return PaymentSucceeded(order_id=id_of(name), customer_id="c", currency="EUR", items=items, total=total)


def stock(sku: str, on_hand: int, reserved: int = 0, version: int = 1) -> Stock:
    return Stock(sku=sku, on_hand=on_hand, reserved=reserved, version=version)


def of(world: World, sku: str) -> Stock:
    row = world.rows[Ref(Stock, sku)]
    assert isinstance(row, Stock)
    return row


def test_every_line_is_set_aside() -> None:
    world = World(SERVICE, stock("A", 5), stock("B", 1))
    decision = world.take(paid("order", ("A", 2), ("B", 1)))
    assert (of(world, "A"), of(world, "B")) == (stock("A", 3, 2, 2), stock("B", 0, 1, 2))
    lines = (ReservedLine(sku="A", quantity=2), ReservedLine(sku="B", quantity=1))
    assert decision.events == (StockReserved(order_id=id_of("order"), customer_id="c", lines=lines),)
    assert list(decision.facts) == [
        Reservation(
            order_id=id_of("order"), status=ReservationStatus.RESERVED, lines=lines, missing=(), customer_id="c"
        ),
        movement("A", 2, -2, 2),
        movement("B", 2, -1, 1),
    ]


def test_an_order_has_one_reservation_and_a_version_of_a_stock_one_movement() -> None:
    decision = World(SERVICE, stock("A", 5), stock("B", 1)).take(paid("order", ("A", 2), ("B", 1)))
    assert [fact.id for fact in decision.facts] == [id_of("order"), ("A", 2), ("B", 2)]


def movement(sku: str, version: int, on_hand: int, reserved: int) -> Movement:
    return Movement(
        sku=sku,
        version=version,
        kind=MovementKind.RESERVE,
        cause=id_of("order"),
        on_hand_change=on_hand,
        reserved_change=reserved,
    )


def test_when_one_line_lacks_nothing_is_set_aside_and_every_missing_line_is_told() -> None:
    world = World(SERVICE, stock("A", 5), stock("B", 1))
    decision = world.take(paid("order", ("A", 2), ("B", 2), ("C", 1)))
    missing = (
        MissingLine(sku="B", requested=2, available=1),
        MissingLine(sku="C", requested=1, available=0),
    )
    assert decision.events == (StockRejected(order_id=id_of("order"), customer_id="c", missing=missing),)
    assert (of(world, "A"), of(world, "B")) == (stock("A", 5), stock("B", 1))
    assert list(decision.facts) == [
        Reservation(
            order_id=id_of("order"), status=ReservationStatus.REJECTED, lines=(), missing=missing, customer_id="c"
        )
    ]


def test_the_last_unit_goes_to_one_order() -> None:
    world = World(SERVICE, stock("A", 1))
    events = [world.take(paid(name, ("A", 1))).events[0] for name in ("first", "second")]
    assert [type(event) for event in events] == [StockReserved, StockRejected]


def test_setting_stock_makes_a_sku_and_says_so() -> None:
    world = World(SERVICE)
    decision = world.take(SetStock(sku="A", on_hand=7, may_lower=True), id_of("command"))
    assert decision.answer == StockSet(sku="A", on_hand=7, reserved=0, version=1, created=True)
    assert of(world, "A") == stock("A", 7)
    assert decision.facts == (
        Movement(
            sku="A", version=1, kind=MovementKind.SET, cause=id_of("command"), on_hand_change=7, reserved_change=0
        ),
    )


def test_setting_stock_leaves_what_is_reserved() -> None:
    world = World(SERVICE, stock("A", 5, reserved=3))
    decision = world.take(SetStock(sku="A", on_hand=1, may_lower=True))
    assert decision.answer == StockSet(sku="A", on_hand=1, reserved=3, version=2, created=False)
    assert of(world, "A") == stock("A", 1, 3, 2)
    assert [fact.on_hand_change for fact in decision.facts if isinstance(fact, Movement)] == [-4]


def test_setting_stock_to_what_it_is_moves_nothing() -> None:
    decision = World(SERVICE, stock("A", 5)).take(SetStock(sku="A", on_hand=5, may_lower=True))
    assert decision == Decision(answer=StockSet(sku="A", on_hand=5, reserved=0, version=1, created=False))


def test_a_sku_that_is_known_keeps_its_stock_when_only_new_ones_are_wanted() -> None:
    decision = World(SERVICE, stock("A", 5)).take(SetStock(sku="A", on_hand=9, only_if_new=True))
    assert decision == Decision(answer=StockSet(sku="A", on_hand=5, reserved=0, version=1, created=False))


def test_what_becomes_of_the_units_is_said_for_the_operators_log() -> None:
    decision = World(SERVICE, stock("A", 5)).take(SetStock(sku="A", on_hand=9))
    assert decision.result == "5 \u2192 9 free units, version 2"


def test_fewer_units_are_refused_unless_they_may_be_lowered() -> None:
    world = World(SERVICE, stock("A", 5))
    with pytest.raises(RefusedError) as refused:
        world.take(SetStock(sku="A", on_hand=4))
    assert refused.value.answer == StockLowered("A", 5)
    world.take(SetStock(sku="A", on_hand=6))
    world.take(SetStock(sku="A", on_hand=5, may_lower=True))
    assert of(world, "A") == stock("A", 5, version=3)


ANY = Versions(any=True)
SEEN = Versions((2,))
UNSEEN = "A is not as you last saw it: "


@pytest.mark.parametrize(
    ("rows", "command", "why"),
    [
        (
            [stock("A", 5, version=3)],
            SetStock(sku="A", on_hand=9, if_match=Versions((2,))),
            f"{UNSEEN}its version is 3",
        ),
        ([], SetStock(sku="A", on_hand=9, if_match=ANY), f"{UNSEEN}it is not there"),
        ([stock("A", 5)], SetStock(sku="A", on_hand=9, if_none_match=ANY), "A already exists: its version is 1"),
    ],
)
def test_what_was_changed_behind_ones_back_is_not_overwritten(rows: list[Stock], command: SetStock, why: str) -> None:
    with pytest.raises(StockChangedError) as refused:
        World(SERVICE, *rows).take(command)
    assert refused.value.answer == why


@pytest.mark.parametrize(
    ("rows", "condition"),
    [
        ([stock("A", 5, version=3)], SetStock(sku="A", on_hand=9, if_match=Versions((2, 3)))),
        ([stock("A", 5, version=3)], SetStock(sku="A", on_hand=9, if_none_match=SEEN)),
        ([], SetStock(sku="A", on_hand=9, if_none_match=ANY)),
    ],
)
def test_what_is_as_it_was_seen_is_set(rows: list[Stock], condition: SetStock) -> None:
    world = World(SERVICE, *rows)
    world.take(condition)
    assert of(world, "A").on_hand == 9


SKUS = st.sampled_from(["A", "B", "C"])
LINES = st.lists(st.tuples(SKUS, st.integers(1, 6)), min_size=1, max_size=3, unique_by=lambda line: line[0])
ACTIONS = st.lists(st.one_of(LINES, st.tuples(SKUS, st.integers(0, 20))), max_size=30)


@given(ACTIONS)
def test_movements_add_up_to_the_stock_and_nothing_goes_below_zero(actions: list[object]) -> None:
    world = World(SERVICE)
    facts: list[Fact] = []
    for number, action in enumerate(actions):
        if isinstance(action, list):
            facts += world.take(paid(f"order-{number}", *action)).facts
        else:
            assert isinstance(action, tuple)
            facts += world.take(
                SetStock(sku=action[0], on_hand=action[1], may_lower=True), id_of(f"set-{number}")
            ).facts
    moved = [fact for fact in facts if isinstance(fact, Movement)]
    for row in world.rows.values():
        assert isinstance(row, Stock)
        own = [each for each in moved if each.sku == row.sku]
        assert row.on_hand == sum(each.on_hand_change for each in own) >= 0
        assert row.reserved == sum(each.reserved_change for each in own) >= 0
        assert [each.version for each in own] == list(range(1, row.version + 1))
        set_by_hand = sum(each.on_hand_change for each in own if each.kind is MovementKind.SET)
        assert row.on_hand + row.reserved == set_by_hand


def test_a_movement_is_named_by_its_sku_and_the_version_that_it_made() -> None:
    assert movement("A", 2, -2, 2).id == ("A", 2)
