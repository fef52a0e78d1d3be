"""What callers of the payment service see of a payment."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from orderflow.payment.rows import Status
from orderflow.runtime.definition import Record


class PaymentView(msgspec.Struct, frozen=True, kw_only=True):
    """The payment of one order; amounts in minor units of `currency`. The references are the bank's.

    `refund_refusal` is why the bank will not give the money back, as long as that waits for an operator.
    """

    order_id: UUID
    customer_id: str
    currency: str
    amount: int
    payment_method: str
    status: Status
    captured: int
    refunded: int
    reason: str | None
    charge_reference: str | None
    refund_reference: str | None
    refund_refusal: str | None
    created_at: datetime
    changed_at: datetime

    @classmethod
    def from_record(cls, record: Record) -> PaymentView:
        """From a row of the queries that show payments."""
        values = {field.name: record[field.name] for field in msgspec.structs.fields(cls)}
        return cls(**{**values, "status": Status(record["status"])})


class PaymentPage(msgspec.Struct, frozen=True, kw_only=True):
    """Payments, newest order first. `next` is the cursor of the page after this one, if there is one."""

    payments: tuple[PaymentView, ...]
    next: str | None
