"""The payment service's table: which message touches which rows, and decides what."""

from __future__ import annotations

from typing import Any

from orderflow.events.base import OrderEvent, order_id_of
from orderflow.events.inventory import INVENTORY_EVENT_TYPES, StockRejected
from orderflow.events.order import ORDER_EVENT_TYPES, OrderPlaced
from orderflow.events.topics import INVENTORY_STATUS, ORDER_EVENTS, PAYMENT_STATUS
from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.decision import Handler, Restatement, Service, Subscription
from orderflow.messaging.flow import FLOW_STATUS
from orderflow.messaging.rows import Ref
from orderflow.messaging.side_effects import Gateway
from orderflow.messaging.stores.postgres.migrations import MigrationSequence
from orderflow.payment import model, refunds, restatement
from orderflow.payment.alarms import alarms
from orderflow.payment.api import operations
from orderflow.payment.bank import SimulatedBank
from orderflow.payment.bank_postgres import PostgresBook
from orderflow.payment.gateway import BankGateway
from orderflow.payment.messages import (
    BANK_ANSWERS,
    BankAnswer,
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    RefundApproved,
    RefundRefused,
    RefundUnknown,
    SettlePayment,
)
from orderflow.payment.rows import Payment
from orderflow.payment.settlement import settle_payment
from orderflow.payment.store import PACKAGE, tables
from orderflow.runtime.definition import ServiceDefinition, Surroundings

ORDERED = ("customer_id", "currency", "items", "total")


def _its_payment(message: OrderEvent | BankAnswer | SettlePayment) -> tuple[Ref, ...]:
    return (Ref(Payment, message.order_id),)


def _payment_of(key: str) -> tuple[Ref, ...]:
    order_id = order_id_of(key)
    return () if order_id is None else (Ref(Payment, order_id),)


def _handlers() -> dict[Any, Handler]:
    return {
        OrderPlaced: Handler(_its_payment, model.order_placed, trusts=ORDERED),
        ChargeApproved: Handler(_its_payment, model.charge_approved),
        ChargeRefused: Handler(_its_payment, model.charge_refused),
        ChargeUnknown: Handler(_its_payment, model.charge_unknown),
        StockRejected: Handler(_its_payment, refunds.stock_rejected),
        RefundApproved: Handler(_its_payment, refunds.refund_approved),
        RefundRefused: Handler(_its_payment, refunds.refund_refused),
        RefundUnknown: Handler(_its_payment, refunds.refund_unknown),
        SettlePayment: Handler(_its_payment, settle_payment),
    }


SERVICE = Service(
    name="payment",
    catalogue=Catalogue((*ORDER_EVENT_TYPES, *INVENTORY_EVENT_TYPES, *BANK_ANSWERS)),
    subscriptions=(Subscription("payment", (ORDER_EVENTS, INVENTORY_STATUS)),),
    publishes=(PAYMENT_STATUS, FLOW_STATUS),
    handlers=_handlers(),
    confirm="it moves money",
    restatement=Restatement(_payment_of, restatement.state_payment),
)


async def _gateway(surroundings: Surroundings) -> Gateway:
    """Raises ValueError without the address of the bank's own database, TransactionPoolingError."""
    url = surroundings.config.bank_database_url
    if url is None:
        raise ValueError("the simulated bank needs a database of its own: bank_database_url is not set")
    book = PostgresBook(url)
    await book.look()
    bank = SimulatedBank(book, surroundings.clock)
    return BankGateway(bank, surroundings.config.gateway_timeout_s)


def definition() -> ServiceDefinition:
    """Everything that makes the payment service run."""
    return ServiceDefinition(
        name="payment",
        title="Orderflow: payments",
        service=SERVICE,
        tables=tables(),
        migrations=MigrationSequence.from_package("payment", PACKAGE),
        api=operations,
        machines=(model.MACHINE,),
        gateway=_gateway,
        alarms=alarms,
    )
