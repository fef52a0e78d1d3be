"""What the bank answers to the intents `charge:{order_id}` and `refund:{order_id}`."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from orderflow.messaging.message import Answer


class BankAnswer(Answer, frozen=True, kw_only=True):
    """An answer about the payment of one order."""

    order_id: UUID

    @property
    def key(self) -> str:
        return str(self.order_id)


class ChargeApproved(BankAnswer, frozen=True, kw_only=True):
    """The money is captured. `reference` is the bank's name for the charge."""

    TYPE: ClassVar[str] = "orderflow.ChargeApproved"

    reference: str


class ChargeRefused(BankAnswer, frozen=True, kw_only=True):
    """The bank will not charge, now or later. `reason` is its decline code."""

    TYPE: ClassVar[str] = "orderflow.ChargeRefused"

    reason: str


class ChargeUnknown(BankAnswer, frozen=True, kw_only=True):
    """The bank did not say: it may have charged or not. To be asked again under the same key."""

    TYPE: ClassVar[str] = "orderflow.ChargeUnknown"


class RefundApproved(BankAnswer, frozen=True, kw_only=True):
    """The money went back. `reference` is the bank's name for the refund."""

    TYPE: ClassVar[str] = "orderflow.RefundApproved"

    reference: str


class RefundUnknown(BankAnswer, frozen=True, kw_only=True):
    """The bank did not say whether the money went back. To be asked again under the same key."""

    TYPE: ClassVar[str] = "orderflow.RefundUnknown"


BANK_ANSWERS: tuple[type[BankAnswer], ...] = (
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    RefundApproved,
    RefundUnknown,
)
