"""One payment and the messages about it."""

from __future__ import annotations

from orderflow.core.messages import Message
from orderflow.events.inventory import MissingLine, StockRejected
from orderflow.events.order import Item, OrderPlaced
from orderflow.services.payment.messages import (
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    Outcome,
    RefundApproved,
    RefundRefused,
    RefundUnknown,
    SettlePayment,
)
from orderflow.services.payment.model import Payment, Status
from tests.support.decisions import id_of

ORDER_ID = id_of("order")
ITEMS = (Item(sku="SKU-A", quantity=2, unit_price=1250),)

PLACED = OrderPlaced(
    order_id=ORDER_ID,
    customer_id="c",
    currency="EUR",
    items=ITEMS,
    total=2500,
    payment_method="pm_card_visa",
)
REJECTED = StockRejected(
    order_id=ORDER_ID, customer_id="c", missing=(MissingLine(sku="SKU-A", requested=2, available=0),)
)
APPROVED = ChargeApproved(order_id=ORDER_ID, reference="ch_1")
REFUSED = ChargeRefused(order_id=ORDER_ID, reason="card_declined")
UNKNOWN = ChargeUnknown(order_id=ORDER_ID)
GIVEN_BACK = RefundApproved(order_id=ORDER_ID, reference="re_1")
REFUND_UNKNOWN = RefundUnknown(order_id=ORDER_ID)
NOT_GIVEN_BACK = RefundRefused(order_id=ORDER_ID, reason="charge_missing")
AS_CHARGED = SettlePayment(order_id=ORDER_ID, outcome=Outcome.CHARGED)
AS_NOT_CHARGED = SettlePayment(order_id=ORDER_ID, outcome=Outcome.NOT_CHARGED)
AS_REFUNDED = SettlePayment(order_id=ORDER_ID, outcome=Outcome.REFUNDED)
ASK_AGAIN = SettlePayment(order_id=ORDER_ID, outcome=Outcome.ASK_AGAIN)
MESSAGES: tuple[Message, ...] = (
    PLACED,
    REJECTED,
    APPROVED,
    REFUSED,
    UNKNOWN,
    GIVEN_BACK,
    NOT_GIVEN_BACK,
    REFUND_UNKNOWN,
)

WAYS: dict[Status, tuple[Message, ...]] = {
    Status.CHARGING: (PLACED,),
    Status.UNKNOWN: (PLACED, UNKNOWN),
    Status.CAPTURED: (PLACED, APPROVED),
    Status.DECLINED: (PLACED, REFUSED),
    Status.REFUND_DUE: (PLACED, APPROVED, REJECTED),
    Status.REFUND_REFUSED: (PLACED, APPROVED, REJECTED, NOT_GIVEN_BACK),
    Status.REFUNDED: (PLACED, APPROVED, REJECTED, GIVEN_BACK),
}
"""How a payment comes to each state."""


def charging() -> Payment:
    return Payment(
        order_id=ORDER_ID,
        customer_id="c",
        currency="EUR",
        items=ITEMS,
        amount=2500,
        payment_method="pm_card_visa",
        status=Status.CHARGING,
        version=1,
        event="OrderPlaced",
    )
