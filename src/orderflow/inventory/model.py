"""The inventory's decisions: pure functions of the working set and one message."""

from __future__ import annotations

from collections.abc import Iterator

from orderflow.events.inventory import MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.events.payment import PaymentSucceeded
from orderflow.inventory.messages import SetStock, StockSet
from orderflow.inventory.rows import (
    Movement,
    MovementKind,
    Reservation,
    ReservationStatus,
    Stock,
)
from orderflow.messaging.decision import Decision
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.rows import Rows


def payment_succeeded(rows: Rows, envelope: Envelope) -> Decision:
    """Set every line aside, or none. That an order is answered once, its reservation's key holds as well.

    Nothing is known of the order before, so there is nothing to compare with: that the order is one that a shop could
    have placed, each SKU in one line, every PaymentSucceeded holds by itself.
    """
    event = envelope.message
    assert isinstance(event, PaymentSucceeded)
    lines = tuple(ReservedLine(sku=item.sku, quantity=item.quantity) for item in event.items)
    missing = tuple(_missing(rows, lines))
    if missing:
        return _reject(event, missing)
    stock = tuple(_reserve(rows.get(Stock, line.sku), line) for line in lines)
    movements = tuple(
        Movement(
            sku=line.sku,
            version=row.version,
            kind=MovementKind.RESERVE,
            cause=event.order_id,
            on_hand_change=-line.quantity,
            reserved_change=line.quantity,
        )
        for line, row in zip(lines, stock, strict=True)
    )
    reservation = Reservation(
        order_id=event.order_id,
        status=ReservationStatus.RESERVED,
        lines=lines,
        missing=(),
        customer_id=event.customer_id,
    )
    reserved = StockReserved(order_id=event.order_id, customer_id=event.customer_id, lines=lines)
    return Decision(rows=stock, facts=(reservation, *movements), events=(reserved,))


def set_stock(rows: Rows, envelope: Envelope) -> Decision:
    """Free units as stated; what is reserved stays reserved."""
    command = envelope.message
    assert isinstance(command, SetStock)
    known = rows.get(Stock, command.sku)
    if known is not None and (command.only_if_new or known.on_hand == command.on_hand):
        return Decision(answer=_answer(known, created=False))
    before = known or Stock(sku=command.sku, on_hand=0, reserved=0, version=0)
    after = Stock(
        sku=command.sku,
        on_hand=command.on_hand,
        reserved=before.reserved,
        version=before.version + 1,
    )
    movement = Movement(
        sku=command.sku,
        version=after.version,
        kind=MovementKind.SET,
        cause=envelope.id,
        on_hand_change=after.on_hand - before.on_hand,
        reserved_change=0,
    )
    return Decision(rows=(after,), facts=(movement,), answer=_answer(after, created=known is None))


def _missing(rows: Rows, lines: tuple[ReservedLine, ...]) -> Iterator[MissingLine]:
    for line in lines:
        stock = rows.get(Stock, line.sku)
        available = stock.on_hand if stock is not None else 0
        if available < line.quantity:
            yield MissingLine(sku=line.sku, requested=line.quantity, available=available)


def _reserve(stock: Stock | None, line: ReservedLine) -> Stock:
    assert stock is not None
    return Stock(
        sku=stock.sku,
        on_hand=stock.on_hand - line.quantity,
        reserved=stock.reserved + line.quantity,
        version=stock.version + 1,
    )


def _reject(event: PaymentSucceeded, missing: tuple[MissingLine, ...]) -> Decision:
    reservation = Reservation(
        order_id=event.order_id,
        status=ReservationStatus.REJECTED,
        lines=(),
        missing=missing,
        customer_id=event.customer_id,
    )
    rejected = StockRejected(order_id=event.order_id, customer_id=event.customer_id, missing=missing)
    return Decision(facts=(reservation,), events=(rejected,))


def _answer(stock: Stock, *, created: bool) -> StockSet:
    return StockSet(
        sku=stock.sku,
        on_hand=stock.on_hand,
        reserved=stock.reserved,
        version=stock.version,
        created=created,
    )
