"""One payment and the messages about it."""

from __future__ import annotations

from orderflow.core.messages import Message
from orderflow.events.inventory import MissingLine, StockRejected
from orderflow.events.order import Item, OrderPlaced
from orderflow.services.payment.messages import (
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    RefundApproved,
    RefundRefused,
    RefundUnknown,
    SettlementOutcome,
    SettlePayment,
)
from orderflow.services.payment.model import Payment, PaymentStatus
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
AS_CHARGED = SettlePayment(order_id=ORDER_ID, outcome=SettlementOutcome.CHARGED)
AS_NOT_CHARGED = SettlePayment(order_id=ORDER_ID, outcome=SettlementOutcome.NOT_CHARGED)
AS_REFUNDED = SettlePayment(order_id=ORDER_ID, outcome=SettlementOutcome.REFUNDED)
ASK_AGAIN = SettlePayment(order_id=ORDER_ID, outcome=SettlementOutcome.ASK_AGAIN)
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

WAYS: dict[PaymentStatus, tuple[Message, ...]] = {
    PaymentStatus.CHARGING: (PLACED,),
    PaymentStatus.UNKNOWN: (PLACED, UNKNOWN),
    PaymentStatus.CAPTURED: (PLACED, APPROVED),
    PaymentStatus.DECLINED: (PLACED, REFUSED),
    PaymentStatus.REFUND_DUE: (PLACED, APPROVED, REJECTED),
    PaymentStatus.REFUND_REFUSED: (PLACED, APPROVED, REJECTED, NOT_GIVEN_BACK),
    PaymentStatus.REFUNDED: (PLACED, APPROVED, REJECTED, GIVEN_BACK),
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
        status=PaymentStatus.CHARGING,
        version=1,
        event="OrderPlaced",
    )
