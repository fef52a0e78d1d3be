"""The bank's answers to the intents `charge:{order_id}` and `refund:{order_id}`, and settlement by operators."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow import APPROVE, Answer, Command, Permission, uuid_text


class BankAnswer(Answer, frozen=True, kw_only=True):
    """An answer about the payment of one order."""

    order_id: UUID

    @property
    def key(self) -> str:
        return uuid_text(self.order_id)


class ChargeApproved(BankAnswer, frozen=True, kw_only=True):
    """The money is captured. `reference` is the bank's name for the charge."""

    TYPE: ClassVar[str] = "orderflow.ChargeApproved"

    reference: str


class ChargeRefused(BankAnswer, frozen=True, kw_only=True):
    """The bank will not charge, now or later. `reason` is its decline code."""

    TYPE: ClassVar[str] = "orderflow.ChargeRefused"

    reason: str


class ChargeUnknown(BankAnswer, frozen=True, kw_only=True):
    """The bank did not answer in time: it may have charged or not, and has to be asked again with the same key."""

    TYPE: ClassVar[str] = "orderflow.ChargeUnknown"


class RefundApproved(BankAnswer, frozen=True, kw_only=True):
    """The money is refunded. `reference` is the bank's name for the refund."""

    TYPE: ClassVar[str] = "orderflow.RefundApproved"

    reference: str


class RefundRefused(BankAnswer, frozen=True, kw_only=True):
    """The bank will not refund, now or later. `reason` is its code (`charge_missing`)."""

    TYPE: ClassVar[str] = "orderflow.RefundRefused"

    reason: str


class RefundUnknown(BankAnswer, frozen=True, kw_only=True):
    """The bank did not answer in time: it may have refunded or not, and has to be asked again with the same key."""

    TYPE: ClassVar[str] = "orderflow.RefundUnknown"


BANK_ANSWERS: tuple[type[BankAnswer], ...] = (
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    RefundApproved,
    RefundRefused,
    RefundUnknown,
)


class SettlementOutcome(StrEnum):
    """What an operator can say of a payment.

    REFUNDED: the customer has the money back, from the bank or in another way. ASK_AGAIN: what the bank refused to
    give back for good it would give back now.
    """

    CHARGED = "charged"
    NOT_CHARGED = "not-charged"
    REFUNDED = "refunded"
    ASK_AGAIN = "ask-again"


class SettlePayment(Command, frozen=True, kw_only=True):
    """An operator says what became of a charge or a refund: he has asked the bank in another way."""

    TYPE: ClassVar[str] = "orderflow.SettlePayment"
    ACTION: ClassVar[str] = "settle"
    PERMISSION: ClassVar[Permission] = APPROVE

    order_id: UUID
    outcome: SettlementOutcome

    @property
    def key(self) -> str:
        return uuid_text(self.order_id)

    @property
    def target(self) -> str:
        return f"payment {self.order_id}"


class PaymentSettled(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the payment as it stands, amounts in minor units. Not `changed`: it was settled that way before."""

    order_id: UUID
    status: str
    captured: int
    refunded: int
    currency: str
    changed: bool
