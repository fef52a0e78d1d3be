"""The port to the bank: an intent becomes a call, and the call's end becomes an answer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from orderflow.messaging.decision import Intent
from orderflow.messaging.identity import uuid_of
from orderflow.messaging.message import Answer
from orderflow.messaging.side_effects import GatewayUnavailableError
from orderflow.payment.messages import (
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    RefundApproved,
    RefundRefused,
    RefundUnknown,
)
from orderflow.payment.model import CHARGE


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

    async def close(self) -> None: ...


class BankGateway:
    """Asks the bank, waiting for each call no longer than `timeout_s`. What is not known by then is *unknown*."""

    def __init__(self, bank: Bank, timeout_s: float) -> None:
        self._bank = bank
        self._timeout_s = timeout_s

    async def ask(self, intent: Intent) -> Answer:
        """Raises GatewayUnavailableError when the bank was not reached."""
        order_id = uuid_of(intent.request["order_id"])
        is_charge = intent.kind == CHARGE
        try:
            async with asyncio.timeout(self._timeout_s):
                reference = await self._call(intent)
        except DeclinedError as declined:
            refused = ChargeRefused if is_charge else RefundRefused
            return refused(order_id=order_id, reason=declined.code)
        except (TimeoutError, BankFailedError):
            return ChargeUnknown(order_id=order_id) if is_charge else RefundUnknown(order_id=order_id)
        except BankUnavailableError as error:
            raise GatewayUnavailableError(str(error)) from error
        if is_charge:
            return ChargeApproved(order_id=order_id, reference=reference)
        return RefundApproved(order_id=order_id, reference=reference)

    async def close(self) -> None:
        await self._bank.close()

    async def _call(self, intent: Intent) -> str:
        if intent.kind == CHARGE:
            return await self._bank.charge(intent.key, **intent.request)
        return await self._bank.refund(intent.key, **intent.request)
