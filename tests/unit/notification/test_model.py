"""What customers are told, of which event."""

from __future__ import annotations

import pytest

from orderflow.events.base import OrderEvent
from orderflow.events.inventory import MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded
from orderflow.notification.rows import Notification, NotifiedOutcome
from orderflow.notification.service import SERVICE
from tests.support.decisions import World, id_of

ORDER_ID = id_of("order")
RESERVED = StockReserved(order_id=ORDER_ID, customer_id="c", lines=(ReservedLine(sku="A", quantity=1),))
REJECTED = StockRejected(
    order_id=ORDER_ID, customer_id="c", missing=(MissingLine(sku="A", requested=1, available=0),)
)
FAILED = PaymentFailed(order_id=ORDER_ID, customer_id="c", currency="EUR", total=2500, reason="lost_card")
REFUNDED = PaymentRefunded(order_id=ORDER_ID, customer_id="c", currency="JPY", amount=2500)


@pytest.mark.parametrize(
    ("event", "outcome", "reason", "words"),
    [
        (RESERVED, NotifiedOutcome.COMPLETED, None, "is complete"),
        (REJECTED, NotifiedOutcome.FAILED, "out_of_stock", "out of stock (A)"),
        (FAILED, NotifiedOutcome.FAILED, "lost_card", "25.00 EUR could not be charged (lost_card)"),
        (REFUNDED, NotifiedOutcome.REFUNDED, None, "2500 JPY"),
    ],
)
def test_each_outcome_is_told_in_one_notification(
    event: OrderEvent, outcome: NotifiedOutcome, reason: str | None, words: str
) -> None:
    decision = World(SERVICE).take(event, id_of("cause"))
    [fact] = decision.facts
    assert isinstance(fact, Notification)
    assert fact.id == (ORDER_ID, outcome)
    assert (fact.customer_id, fact.reason, fact.cause) == ("c", reason, id_of("cause"))
    assert words in fact.text
    assert not decision.events


def test_a_payment_that_succeeds_is_not_told_by_itself() -> None:
    assert PaymentSucceeded not in SERVICE.handlers
    assert PaymentSucceeded in SERVICE.catalogue.types
