"""What customers are told, of which event."""

from __future__ import annotations

import pytest

from orderflow.events.base import OrderEvent
from orderflow.events.inventory import MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded, PaymentVoided
from orderflow.services.notification.model import Notification, NotifiedOutcome
from orderflow.services.notification.service import SERVICE
from tests.support.decisions import World, id_of

ORDER_ID = id_of("order")
YOUR_ORDER = f"Your order {ORDER_ID}"
RESERVED = StockReserved(order_id=ORDER_ID, customer_id="c", lines=(ReservedLine(sku="A", quantity=1),))
REJECTED = StockRejected(
    order_id=ORDER_ID,
    customer_id="c",
    missing=(MissingLine(sku="A", requested=1, available=0), MissingLine(sku="B", requested=3, available=2)),
)
FAILED = PaymentFailed(order_id=ORDER_ID, customer_id="c", currency="EUR", total=2500, reason="lost_card")
REFUNDED = PaymentRefunded(order_id=ORDER_ID, customer_id="c", currency="JPY", amount=2500)
OLD = PaymentRefunded(order_id=ORDER_ID, customer_id="c", currency="BGN", amount=2500)
VOIDED = PaymentVoided(order_id=ORDER_ID, customer_id="c", currency="EUR", amount=2500)


@pytest.mark.parametrize(
    ("event", "outcome", "reason", "text"),
    [
        (RESERVED, NotifiedOutcome.COMPLETED, None, f"{YOUR_ORDER} is complete and will be sent to you."),
        (
            REJECTED,
            NotifiedOutcome.FAILED,
            "out_of_stock",
            f"{YOUR_ORDER} failed: out of stock (A, B). Your money will be returned.",
        ),
        (
            FAILED,
            NotifiedOutcome.FAILED,
            "lost_card",
            f"{YOUR_ORDER} failed: 25.00 EUR could not be charged (lost_card).",
        ),
        (REFUNDED, NotifiedOutcome.REFUNDED, None, f"2500 JPY for your order {ORDER_ID} were returned to you."),
        (OLD, NotifiedOutcome.REFUNDED, None, f"25.00 BGN for your order {ORDER_ID} were returned to you."),
        (
            VOIDED,
            NotifiedOutcome.NOT_CHARGED,
            None,
            f"Nothing was charged for your order {ORDER_ID}, so nothing has to be returned to you.",
        ),
    ],
)
def test_each_outcome_is_told_in_one_notification(
    event: OrderEvent, outcome: NotifiedOutcome, reason: str | None, text: str
) -> None:
    decision = World(SERVICE).take(event, id_of("cause"))
    [fact] = decision.facts
    assert isinstance(fact, Notification)
    assert fact.outcome is outcome
    assert (fact.customer_id, fact.reason, fact.cause) == ("c", reason, id_of("cause"))
    assert (fact.order_id, fact.text) == (ORDER_ID, text)
    assert not decision.events


def test_a_payment_that_succeeds_is_not_told_by_itself() -> None:
    assert PaymentSucceeded not in SERVICE.handlers
    assert PaymentSucceeded in SERVICE.catalogue.types


def test_an_order_has_one_end_and_each_other_outcome_beside_it() -> None:
    told = [World(SERVICE).take(event).facts[0] for event in (RESERVED, REJECTED, FAILED, REFUNDED, VOIDED)]
    completed, rejected, failed, refunded, voided = (each.id for each in told)
    assert completed == rejected == failed
    assert len({completed, refunded, voided}) == 3


def test_an_order_has_one_end_and_one_notification_of_each_other_outcome() -> None:
    named = {
        event: World(SERVICE).decide(event).facts[0].id for event in (RESERVED, REJECTED, FAILED, REFUNDED, VOIDED)
    }
    ends = {named[event] for event in (RESERVED, REJECTED, FAILED)}
    assert ends == {(ORDER_ID, "end")}
    assert (named[REFUNDED], named[VOIDED]) == ((ORDER_ID, "refunded"), (ORDER_ID, "not_charged"))
