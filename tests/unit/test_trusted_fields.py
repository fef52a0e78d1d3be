"""What a service has nothing to compare with is taken on trust, so that an edit of a dead event cannot change it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from orderflow.core.failures import FinalError, describe
from orderflow.core.inbox import InboxState, ParkedEvent
from orderflow.core.messages import encode, wire_name
from orderflow.core.operations.editing import replacement
from orderflow.core.operations.model import DeadLetter, EditRefusedError, StoredLetter
from orderflow.core.service import Service
from orderflow.events.order import Item, OrderPlaced
from orderflow.events.payment import PaymentSucceeded
from orderflow.services.inventory.service import SERVICE as INVENTORY
from orderflow.services.payment.service import SERVICE as PAYMENT
from tests.support.decisions import id_of
from tests.unit.core.world import record_of

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ITEMS = (Item(sku="TEA", quantity=2, unit_price=450),)
PLACED = OrderPlaced(
    order_id=id_of("order"), customer_id="c", currency="EUR", items=ITEMS, total=900, payment_method="pm_card_visa"
)
SUCCEEDED = PaymentSucceeded(order_id=id_of("order"), customer_id="c", currency="EUR", items=ITEMS, total=900)


def dead(event: OrderPlaced | PaymentSucceeded) -> StoredLetter:
    parked = ParkedEvent(
        key=event.key,
        identity="i",
        event_id=id_of("event"),
        event_type=wire_name(type(event)),
        record=record_of(event, offset=1),
        state=InboxState.DEAD,
        attempts=1,
        failure=describe(FinalError("it was ordered otherwise")),
    )
    letter = DeadLetter.of(
        parked,
        consumer="c",
        behind=0,
        edited=False,
        parked_at=NOW,
        first_failed_at=NOW,
        last_failed_at=NOW,
        next_attempt_at=NOW,
    )
    return StoredLetter(letter=letter, event=parked)


@pytest.mark.parametrize(("service", "event"), [(PAYMENT, PLACED), (INVENTORY, SUCCEEDED)])
def test_what_was_ordered_by_whom_and_for_how_much_is_not_edited(
    service: Service, event: OrderPlaced | PaymentSucceeded
) -> None:
    items = (Item(sku="COFFEE", quantity=1, unit_price=5),)
    other = replace(event, customer_id="another", currency="USD", items=items, total=5)

    with pytest.raises(EditRefusedError) as refused:
        replacement(dead(event), encode(other), 0, "ada", service)

    assert str(refused.value).startswith(
        f"An edit cannot change customer_id, currency, items, total: {service.name} takes it on trust"
    )
