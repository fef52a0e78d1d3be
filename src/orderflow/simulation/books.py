"""The books of a simulated world, for the audit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from orderflow.audit.books import (
    BankEntry,
    Books,
    OrderBooks,
    OrderDraft,
    OrderRow,
    OrderStepRow,
    ParkedRow,
    PaymentRow,
    ReservationRow,
    ServiceBooks,
    StockBooks,
)
from orderflow.bank import MemoryBook
from orderflow.core.identity import uuid_text
from orderflow.core.inbox import InboxState
from orderflow.core.testing.state import MemoryDatabase, MemoryTables
from orderflow.services.inventory.model import Movement, MovementKind, Reservation, Stock
from orderflow.services.notification.model import Notification
from orderflow.services.order.model import Order, OrderFlow, Transition
from orderflow.services.payment.model import BY_OPERATOR, Payment

Lag = Mapping[str, int]


def read_books(databases: Mapping[str, MemoryDatabase], bank: MemoryBook, lag: Mapping[str, Lag]) -> Books:
    """What is committed at this moment. `lag` is by service and group."""
    return books_of({name: database.state for name, database in databases.items()}, bank, lag)


def books_of(states: Mapping[str, MemoryTables], bank: MemoryBook, lag: Mapping[str, Lag]) -> Books:
    """The books of what each service has stored."""
    drafts: defaultdict[str, OrderDraft] = defaultdict(OrderDraft)
    stock: list[Stock] = []
    movements: list[Movement] = []
    for state in states.values():
        for row in state.rows.values():
            match row:
                case Order():
                    drafts[uuid_text(row.order_id)].order = _order_row(row)
                case OrderFlow():
                    drafts[uuid_text(row.order_id)].stuck = {at: each.state for at, each in row.stuck.items()}
                case Payment():
                    drafts[uuid_text(row.order_id)].payment = _payment_row(row)
                case Stock():
                    stock.append(row)
        _read_facts(state, drafts, movements)
    _read_bank(bank, drafts)
    for name, state in states.items():
        _read_core(name, state, drafts)
    orders = [draft.finish(order_id) for order_id, draft in drafts.items()]
    services = [_service(name, state, lag.get(name, {})) for name, state in states.items()]
    return Books(orders, [_stock(row, movements, orders) for row in stock], services)


def _read_facts(state: MemoryTables, drafts: defaultdict[str, OrderDraft], movements: list[Movement]) -> None:
    for fact in state.facts.values():
        match fact:
            case Transition():
                step = OrderStepRow(fact.version, fact.from_status, fact.event, fact.to_status)
                drafts[uuid_text(fact.order_id)].history.append(step)
            case Reservation():
                lines = tuple((line.sku, line.quantity) for line in fact.lines)
                drafts[uuid_text(fact.order_id)].reservations.append(ReservationRow(fact.status, lines))
            case Movement():
                movements.append(fact)
                if fact.kind is MovementKind.RESERVE:
                    drafts[str(fact.cause)].movements.append((fact.sku, fact.reserved_change))
            case Notification():
                drafts[uuid_text(fact.order_id)].notifications.append(fact.outcome)


def _read_bank(bank: MemoryBook, drafts: defaultdict[str, OrderDraft]) -> None:
    for charge in bank.charges.values():
        if charge.decline_code is None:
            entry = BankEntry("charge", charge.key, charge.currency, charge.amount)
            drafts[charge.order_id].bank.append(entry)
    for refund in bank.refunds.values():
        drafts[refund.order_id].bank.append(BankEntry("refund", refund.key, refund.currency, refund.amount))


def _read_core(name: str, state: MemoryTables, drafts: defaultdict[str, OrderDraft]) -> None:
    for waiting in state.parked.values():
        event = waiting.event
        if event.key in drafts:
            row = ParkedRow(name, waiting.consumer, event.event_type, event.state.name.lower(), event.attempts)
            drafts[event.key].parked.append(row)
    for key, asked in state.intents.items():
        drafts[asked.intent.key].intents.append(key)


def _service(name: str, state: MemoryTables, lag: Lag) -> ServiceBooks:
    retrying = sum(w.event.attempts > 0 and w.event.state is InboxState.PARKED for w in state.parked.values())
    return ServiceBooks(
        service=name,
        unsent=len(state.pending),
        open_intents=len(state.intents),
        retrying=retrying,
        lag=lag,
    )


def _stock(row: Stock, movements: list[Movement], orders: list[OrderBooks]) -> StockBooks:
    mine = [movement for movement in movements if movement.sku == row.sku]
    lines = [line for books in orders for each in books.reservations for line in each.lines]
    return StockBooks(
        sku=row.sku,
        on_hand=row.on_hand,
        reserved=row.reserved,
        adjusted=sum(m.on_hand_change + m.reserved_change for m in mine),
        moved=sum(m.reserved_change for m in mine),
        held=sum(quantity for sku, quantity in lines if sku == row.sku),
    )


def _order_row(order: Order) -> OrderRow:
    return OrderRow(
        status=order.status,
        version=order.version,
        event=order.event,
        currency=order.currency,
        total=order.total,
        lines=tuple((item.sku, item.quantity) for item in order.items),
        refund=order.refund,
    )


def _payment_row(payment: Payment) -> PaymentRow:
    return PaymentRow(
        status=payment.status,
        currency=payment.currency,
        amount=payment.amount,
        captured=payment.captured,
        by_operator=BY_OPERATOR in (payment.charge_reference, payment.reason),
        refund_by_operator=payment.refund_reference == BY_OPERATOR,
        refunded=payment.refunded,
    )
