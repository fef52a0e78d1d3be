"""One order and the messages about it."""

from __future__ import annotations

from orderflow.events.base import OrderEvent
from orderflow.events.inventory import MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.events.order import Item
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded, PaymentVoided, RefundFailed
from orderflow.services.order.api import with_response
from orderflow.services.order.messages import PlaceOrder
from orderflow.services.order.model import Order, OrderStatus, Refund
from tests.support.decisions import id_of

ORDER_ID = id_of("order")
ITEMS = (Item(sku="SKU-A", quantity=2, unit_price=1250), Item(sku="SKU-B", quantity=1, unit_price=0))

SUCCEEDED = PaymentSucceeded(order_id=ORDER_ID, customer_id="c", currency="EUR", items=ITEMS, total=2500)
FAILED = PaymentFailed(order_id=ORDER_ID, customer_id="c", currency="EUR", total=2500, reason="card_declined")
REFUNDED = PaymentRefunded(order_id=ORDER_ID, customer_id="c", currency="EUR", amount=2500)
REFUSED = RefundFailed(order_id=ORDER_ID, customer_id="c", currency="EUR", amount=2500, reason="charge_missing")
VOIDED = PaymentVoided(order_id=ORDER_ID, customer_id="c", currency="EUR", amount=2500)
RESERVED = StockReserved(
    order_id=ORDER_ID,
    customer_id="c",
    lines=(ReservedLine(sku="SKU-A", quantity=2), ReservedLine(sku="SKU-B", quantity=1)),
)
REJECTED = StockRejected(
    order_id=ORDER_ID, customer_id="c", missing=(MissingLine(sku="SKU-A", requested=2, available=0),)
)
EVENTS: tuple[OrderEvent, ...] = (SUCCEEDED, FAILED, REFUNDED, REFUSED, VOIDED, RESERVED, REJECTED)


def place(key: str | None = None, fingerprint: str = "", name: str = "order") -> PlaceOrder:
    command = PlaceOrder(
        order_id=id_of(name),
        customer_id="c",
        currency="EUR",
        items=ITEMS,
        payment_method="pm_card_visa",
        idempotency_key=key,
        fingerprint=fingerprint,
    )
    return with_response(command)


def order(status: OrderStatus = OrderStatus.PENDING, refund: Refund = Refund.NONE) -> Order:
    """An order that came to `status` on the shortest way."""
    version, event = {
        OrderStatus.PENDING: (1, "OrderPlaced"),
        OrderStatus.PAID: (2, "PaymentSucceeded"),
        OrderStatus.COMPLETED: (3, "StockReserved"),
        OrderStatus.FAILED: (3, "StockRejected"),
    }[status]
    return Order(
        order_id=ORDER_ID,
        customer_id="c",
        currency="EUR",
        items=ITEMS,
        total=2500,
        payment_method="pm_card_visa",
        status=status,
        version=version,
        event=event,
        reason="out_of_stock" if status is OrderStatus.FAILED else None,
        refund=Refund.DUE if status is OrderStatus.FAILED and refund is Refund.NONE else refund,
    )
