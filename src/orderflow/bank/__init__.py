"""The bank: the port by which the payment service asks one, and a simulated one with a book of its own.

It answers to Stripe's test payment methods, and to some that misbehave as networks do.

Names: docs.stripe.com/testing, "PaymentMethods". With or without the brand (`pm_card_visa_chargeDeclined`,
`pm_card_chargeDeclined`) they mean the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import msgspec

from orderflow.core.timing import Clock

APPROVED = frozenset(
    {
        "pm_card_visa",
        "pm_card_visa_debit",
        "pm_card_mastercard",
        "pm_card_mastercard_debit",
        "pm_card_mastercard_prepaid",
        "pm_card_amex",
        "pm_card_discover",
        "pm_card_diners",
        "pm_card_jcb",
        "pm_card_unionpay",
    }
)
DECLINED: Mapping[str, str] = MappingProxyType(
    {
        "pm_card_chargeDeclined": "card_declined",
        "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
        "pm_card_chargeDeclinedLostCard": "lost_card",
        "pm_card_chargeDeclinedStolenCard": "stolen_card",
        "pm_card_chargeDeclinedExpiredCard": "expired_card",
        "pm_card_chargeDeclinedIncorrectCvc": "incorrect_cvc",
        "pm_card_chargeDeclinedProcessingError": "processing_error",
        "pm_card_chargeDeclinedFraudulent": "fraudulent",
        "pm_card_chargeDeclinedVelocityLimitExceeded": "card_velocity_exceeded",
    }
)
SLOW = "pm_slow"
TIMEOUT_CHARGED = "pm_timeout_charged"
TIMEOUT_NOT_CHARGED = "pm_timeout_not_charged"
FAILS_TWICE = "pm_fails_twice"
REFUND_FAILS = "pm_card_refundFail"
MISBEHAVING = frozenset({SLOW, TIMEOUT_CHARGED, TIMEOUT_NOT_CHARGED, FAILS_TWICE})

UNKNOWN_METHOD = "unknown_payment_method"
KEY_IN_USE = "idempotency_key_in_use"
CHARGE_MISSING = "charge_missing"
CARD_GONE = "expired_or_canceled_card"

NEVER_S = 3600.0


class BankUnavailableError(Exception):
    """The bank was not reached: nothing was asked of it."""


class BankFailedError(Exception):
    """The bank was asked and had a fault of its own (HTTP 5xx): whether money moved is unknown."""


class DeclinedError(Exception):
    """The bank refuses for good. `code` is its decline code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Bank(Protocol):
    """A bank's API. `key` is the idempotency key: the same key is the same charge, whenever it is asked.

    Both return the bank's own reference. Raise DeclinedError, BankFailedError, BankUnavailableError.
    """

    async def charge(self, key: str, *, order_id: str, amount: int, currency: str, payment_method: str) -> str: ...

    async def refund(self, key: str, *, order_id: str, amount: int, currency: str, charge: str) -> str: ...

    async def statement(self, keys: Sequence[str]) -> Statement:
        """What stands in the book under these keys."""
        ...

    async def close(self) -> None: ...


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as the bank has decided it. `decline_code` is None when the money was taken."""

    key: str
    order_id: str
    amount: int
    currency: str
    payment_method: str
    decline_code: str | None
    reference: str


class BankRefund(msgspec.Struct, frozen=True, kw_only=True):
    """Money that the bank gave back. `charge` is the key of the charge."""

    key: str
    charge: str
    order_id: str
    amount: int
    currency: str
    reference: str


Statement = tuple[Sequence[Charge], Sequence[BankRefund]]


class BankBook(Protocol):
    """What a bank remembers, by idempotency key. Durable when a call returns.

    All methods raise BankUnavailableError (nothing was written) or BankFailedError (it may have been).
    """

    async def charge(self, charge: Charge) -> Charge:
        """The charge that stands under this key: this one, or the one that was there before."""
        ...

    async def refund(self, refund: BankRefund) -> BankRefund | None:
        """The refund that stands under this key; None: there is no approved charge of that much."""
        ...

    async def method_of(self, charge: str) -> str | None:
        """The payment method of the charge under this key, if there is one."""
        ...

    async def statement(self, keys: Sequence[str]) -> Statement:
        """Charges and refunds that stand under these keys."""
        ...

    async def count_call(self, key: str) -> int:
        """How often this was called with `key`, this time included."""
        ...

    async def close(self) -> None: ...


class MemoryBook:
    """The book in memory; `charges`, `refunds` and `calls` can be read by who checks the books."""

    def __init__(self) -> None:
        self.charges: dict[str, Charge] = {}
        self.refunds: dict[str, BankRefund] = {}
        self.calls: dict[str, int] = {}

    async def charge(self, charge: Charge) -> Charge:
        return self.charges.setdefault(charge.key, charge)

    async def refund(self, refund: BankRefund) -> BankRefund | None:
        known = self.refunds.get(refund.key)
        if known is not None:
            return known
        charge = self.charges.get(refund.charge)
        if charge is None or charge.decline_code is not None or charge.amount < refund.amount:
            return None
        return self.refunds.setdefault(refund.key, refund)

    async def method_of(self, charge: str) -> str | None:
        known = self.charges.get(charge)
        return None if known is None else known.payment_method

    async def statement(self, keys: Sequence[str]) -> Statement:
        charges = [self.charges[key] for key in keys if key in self.charges]
        return charges, [self.refunds[key] for key in keys if key in self.refunds]

    async def count_call(self, key: str) -> int:
        self.calls[key] = self.calls.get(key, 0) + 1
        return self.calls[key]

    async def close(self) -> None:
        """Nothing is held."""


class SimulatedBank:
    """Answers at once, `slow_s` late (`pm_slow`), or never within reason; always the same to the same key."""

    def __init__(self, book: BankBook, clock: Clock, slow_s: float = 0.8) -> None:
        self._book = book
        self._clock = clock
        self._slow_s = slow_s

    async def charge(self, key: str, *, order_id: str, amount: int, currency: str, payment_method: str) -> str:
        """Raises DeclinedError, BankFailedError, BankUnavailableError."""
        calls = await self._book.count_call(key) if payment_method in MISBEHAVING else 0
        if calls == 1 and payment_method == TIMEOUT_NOT_CHARGED:
            await self._clock.sleep(NEVER_S)
        if calls in (1, 2) and payment_method == FAILS_TWICE:
            raise BankFailedError("the bank answers 500")
        wanted = Charge(
            key=key,
            order_id=order_id,
            amount=amount,
            currency=currency,
            payment_method=payment_method,
            decline_code=_decline_code(payment_method),
            reference=_reference("ch", key),
        )
        charge = await self._book.charge(wanted)
        if calls == 1 and payment_method == TIMEOUT_CHARGED:
            await self._clock.sleep(NEVER_S)
        if payment_method == SLOW:
            await self._clock.sleep(self._slow_s)
        if (charge.order_id, charge.amount, charge.currency) != (order_id, amount, currency):
            raise DeclinedError(KEY_IN_USE)
        if charge.decline_code is not None:
            raise DeclinedError(charge.decline_code)
        return charge.reference

    async def refund(self, key: str, *, order_id: str, amount: int, currency: str, charge: str) -> str:
        """Raises DeclinedError, BankFailedError, BankUnavailableError."""
        wanted = BankRefund(
            key=key,
            charge=charge,
            order_id=order_id,
            amount=amount,
            currency=currency,
            reference=_reference("re", key),
        )
        if await self._book.method_of(charge) == REFUND_FAILS:
            raise DeclinedError(CARD_GONE)
        refund = await self._book.refund(wanted)
        if refund is None:
            raise DeclinedError(CHARGE_MISSING)
        if (refund.charge, refund.amount, refund.currency) != (charge, amount, currency):
            raise DeclinedError(KEY_IN_USE)
        return refund.reference

    async def statement(self, keys: Sequence[str]) -> Statement:
        return await self._book.statement(keys)

    async def close(self) -> None:
        await self._book.close()


def _decline_code(payment_method: str) -> str | None:
    if payment_method in APPROVED or payment_method in MISBEHAVING or payment_method == REFUND_FAILS:
        return None
    return DECLINED.get(payment_method.replace("pm_card_visa_charge", "pm_card_charge", 1), UNKNOWN_METHOD)


def _reference(prefix: str, key: str) -> str:
    return f"{prefix}_{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}"
