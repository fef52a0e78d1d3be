"""The bank's book in memory, behind a network that fails before and after the booking."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from orderflow.bank.bank import BankFailedError, BankUnavailableError, Charge, MemoryBook, Refund
from orderflow.simulation.model import Model


class TroubledBook(MemoryBook):
    """`hop` is awaited before and after each booking; it may raise the bank's errors. `away`: nobody answers.
    `mute` is the share of answers that are lost after the booking; half as many calls fail before it. `told` hears of
    each booking.
    """

    def __init__(self, hop: Callable[[str], Awaitable[None]], chance: random.Random, told: Model) -> None:
        super().__init__()
        self._told = told
        self.away = False
        self.mute = 0.0
        self._chance = chance
        self._hop = hop

    async def charge(self, charge: Charge) -> Charge:
        await self._reach("charge")
        known = charge.key in self.charges
        booked = await super().charge(charge)
        if not known:
            self._told.charge(
                booked.key, booked.order_id, booked.amount, booked.currency, booked.decline_code is not None
            )
        await self._answer("charged")
        return booked

    async def refund(self, refund: Refund) -> Refund | None:
        await self._reach("refund")
        known = refund.key in self.refunds
        booked = await super().refund(refund)
        if booked is not None and not known:
            self._told.refund(booked.key, booked.order_id, booked.amount, booked.currency)
        await self._answer("refunded")
        return booked

    async def count_call(self, key: str) -> int:
        await self._reach("count_call")
        return await super().count_call(key)

    async def _reach(self, step: str) -> None:
        await self._hop(step)
        if self.away:
            raise BankUnavailableError("the bank does not answer")
        if self._chance.random() < self.mute / 2:
            raise BankFailedError("the bank has a fault of its own, and has booked nothing")

    async def _answer(self, step: str) -> None:
        await self._hop(step)
        if self._chance.random() < self.mute:
            raise bank_error(step)


def bank_error(step: str) -> Exception:
    """What a broken call looks like: before the booking nothing was asked, after it nothing is known."""
    if step in ("charged", "refunded"):
        return BankFailedError("the bank's answer was lost")
    return BankUnavailableError("the bank was not reached")
