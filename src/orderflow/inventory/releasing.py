"""What the inventory says again of an order, and the decision to give back what a failed one holds."""

from __future__ import annotations

from msgspec.structs import replace

from orderflow.events.base import order_id_of
from orderflow.events.inventory import StockRejected, StockReserved
from orderflow.inventory.messages import ReleaseStock, StockReleased
from orderflow.inventory.rows import Held, Movement, MovementKind, ReservationStatus, Stock
from orderflow.messaging.decision import Decision, RefusedError, Stated, Statement
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.rows import Rows


def state_reservation(rows: Rows, key: str) -> Statement:
    """The one answer that the order got; nothing once it was released, or if the customer is not known."""
    order_id = order_id_of(key)
    held = None if order_id is None else rows.get(Held, order_id)
    if held is None or held.customer_id is None:
        return Statement()
    match held.status:
        case ReservationStatus.RESERVED:
            reserved = StockReserved(order_id=held.order_id, customer_id=held.customer_id, lines=held.lines)
            return Statement(events=(Stated(reserved, 1),))
        case ReservationStatus.REJECTED:
            rejected = StockRejected(order_id=held.order_id, customer_id=held.customer_id, missing=held.missing)
            return Statement(events=(Stated(rejected, 1),))
        case ReservationStatus.RELEASED:
            return Statement()


def release_stock(rows: Rows, envelope: Envelope) -> Decision:
    """Every line goes back to the shelf, once. Said twice, it is done once.

    Raises RefusedError: nothing is reserved, or not what is said, or not for the customer whose order failed.
    """
    command = envelope.message
    assert isinstance(command, ReleaseStock)
    held = rows.get(Held, command.order_id)
    if held is None or held.status is ReservationStatus.REJECTED:
        raise RefusedError(f"nothing is reserved for order {command.order_id}")
    units = sum(line.quantity for line in held.lines)
    if held.status is ReservationStatus.RELEASED:
        return Decision(answer=StockReleased(order_id=held.order_id, units=units, changed=False))
    failed, customer = command.because, held.customer_id
    if failed.order_id != held.order_id or customer not in (None, failed.customer_id) or command.lines != held.lines:
        raise RefusedError(f"what is reserved for order {held.order_id} is not what is to be released")
    stock: list[Stock] = []
    movements: list[Movement] = []
    for line in held.lines:
        before = rows.get(Stock, line.sku)
        if before is None or before.reserved < line.quantity:
            raise RefusedError(f"of {line.sku} fewer than {line.quantity} are reserved in all: look at it first")
        after = replace(
            before,
            on_hand=before.on_hand + line.quantity,
            reserved=before.reserved - line.quantity,
            version=before.version + 1,
        )
        stock.append(after)
        movements.append(_given_back(after, line.quantity, envelope))
    released = replace(held, status=ReservationStatus.RELEASED, released_by=envelope.id)
    answer = StockReleased(order_id=held.order_id, units=units, changed=True)
    return Decision(rows=(*stock, released), facts=movements, answer=answer)


def _given_back(stock: Stock, quantity: int, envelope: Envelope) -> Movement:
    return Movement(
        sku=stock.sku,
        version=stock.version,
        kind=MovementKind.RELEASE,
        cause=envelope.id,
        on_hand_change=quantity,
        reserved_change=-quantity,
    )
