"""The rows of the payment service."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from orderflow.events.order import Item
from orderflow.messaging.rows import Row


class Status(StrEnum):
    """Where a payment stands. UNKNOWN: the bank did not answer in time and is being asked again. REFUND_REFUSED: the
    bank will not give the money back, and an operator has to see to it.
    """

    CHARGING = "CHARGING"
    UNKNOWN = "UNKNOWN"
    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    REFUND_DUE = "REFUND_DUE"
    REFUND_REFUSED = "REFUND_REFUSED"
    REFUNDED = "REFUNDED"


class Payment(Row, frozen=True, kw_only=True):
    """The payment of one order; amounts in minor units of `currency`.

    `version` counts its transitions from 1; `event` is what brought it to `status`. `charge_reference` and
    `refund_reference` are the bank's; `refund_refusal` is why it will not give the money back.
    """

    TABLE: ClassVar[str] = "payments"

    order_id: UUID
    customer_id: str
    currency: str
    items: tuple[Item, ...]
    amount: int
    payment_method: str
    status: Status
    version: int
    event: str
    captured: int = 0
    refunded: int = 0
    reason: str | None = None
    charge_reference: str | None = None
    refund_reference: str | None = None
    refund_refusal: str | None = None

    @property
    def id(self) -> UUID:
        return self.order_id
