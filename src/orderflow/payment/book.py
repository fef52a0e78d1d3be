"""The simulated bank's book: the port, and its memory twin."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as the bank has decided it. `decline_code` is None when the money was taken."""

    key: str
    order_id: str
    amount: int
    currency: str
    payment_method: str
    decline_code: str | None
    reference: str


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Money that the bank gave back. `charge` is the key of the charge."""

    key: str
    charge: str
    order_id: str
    amount: int
    currency: str
    reference: str


class BankBook(Protocol):
    """What a bank remembers, by idempotency key. Durable when a call returns.

    All methods raise BankUnavailableError (nothing was written) or BankFailedError (it may have been).
    """

    async def charge(self, charge: Charge) -> Charge:
        """The charge that stands under this key: this one, or the one that was there before."""
        ...

    async def refund(self, refund: Refund) -> Refund | None:
        """The refund that stands under this key; None: there is no approved charge of that much."""
        ...

    async def method_of(self, charge: str) -> str | None:
        """The payment method of the charge under this key, if there is one."""
        ...

    async def count_call(self, key: str) -> int:
        """How often this was called with `key`, this time included."""
        ...

    async def close(self) -> None: ...


class MemoryBook:
    """The book in memory; `charges`, `refunds` and `calls` can be read by who checks the books."""

    def __init__(self) -> None:
        self.charges: dict[str, Charge] = {}
        self.refunds: dict[str, Refund] = {}
        self.calls: dict[str, int] = {}

    async def charge(self, charge: Charge) -> Charge:
        return self.charges.setdefault(charge.key, charge)

    async def refund(self, refund: Refund) -> Refund | None:
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

    async def count_call(self, key: str) -> int:
        self.calls[key] = self.calls.get(key, 0) + 1
        return self.calls[key]

    async def close(self) -> None:
        """Nothing is held."""
