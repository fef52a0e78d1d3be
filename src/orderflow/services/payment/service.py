"""The declaration of the payment service, and its gateway to the bank."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orderflow import (
    FLOW_STATUS,
    Answer,
    Catalogue,
    Gateway,
    GatewayUnavailableError,
    Intent,
    Restatement,
    Service,
    Subscription,
    Surroundings,
    handlers,
    uuid_of,
)
from orderflow.bank import Bank, BankFailedError, BankUnavailableError, DeclinedError, SimulatedBank
from orderflow.bank.postgres import PostgresBook
from orderflow.events import INVENTORY_EVENT_TYPES, INVENTORY_STATUS, ORDER_EVENT_TYPES, ORDER_EVENTS, PAYMENT_STATUS
from orderflow.services.payment import model
from orderflow.services.payment.api import operations
from orderflow.services.payment.messages import (
    BANK_ANSWERS,
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    RefundApproved,
    RefundRefused,
    RefundUnknown,
)
from orderflow.services.payment.storage import alarms


class BankGateway:
    """Asks the bank, waiting for each call no longer than `timeout_s`. What is not known by then is *unknown*."""

    def __init__(self, bank: Bank, timeout_s: float) -> None:
        self._bank = bank
        self._timeout_s = timeout_s

    async def ask(self, intent: Intent) -> Answer:
        """Raises GatewayUnavailableError when the bank was not reached."""
        order_id = uuid_of(intent.request["order_id"])
        is_charge = intent.kind == model.CHARGE
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

    async def statement(self, order_id: UUID) -> Mapping[str, Any]:
        """What stands in the bank's book of an order. Raises BankUnavailableError."""
        charges, refunds = await self._bank.statement([f"{kind}:{order_id}" for kind in (model.CHARGE, model.REFUND)])
        return {"bank_charges": charges, "bank_refunds": refunds}

    async def close(self) -> None:
        await self._bank.close()

    async def _call(self, intent: Intent) -> str:
        if intent.kind == model.CHARGE:
            return await self._bank.charge(intent.key, **intent.request)
        return await self._bank.refund(intent.key, **intent.request)


async def _gateway(surroundings: Surroundings) -> Gateway:
    """Raises ValueError without the address of the bank's own database, TransactionPoolingError."""
    url = surroundings.config.bank_database_url
    if url is None:
        raise ValueError("the simulated bank needs a database of its own: bank_database_url is not set")
    book = PostgresBook(url)
    await book.look()
    bank = SimulatedBank(book, surroundings.clock)
    return BankGateway(bank, surroundings.config.gateway_timeout_s)


SERVICE = Service(
    name="payment",
    title="Orderflow: payments",
    catalogue=Catalogue((*ORDER_EVENT_TYPES, *INVENTORY_EVENT_TYPES, *BANK_ANSWERS)),
    subscriptions=(Subscription("payment", (ORDER_EVENTS, INVENTORY_STATUS)),),
    publishes=(PAYMENT_STATUS, FLOW_STATUS),
    handlers=handlers(model),
    confirm="it moves money",
    restatement=Restatement(model.payment_of_key, model.state_payment),
    tables=(model.Payment,),
    machines=(model.MACHINE,),
    sql="orderflow.services.payment",
    api=operations,
    gateway=_gateway,
    alarms=alarms,
)
