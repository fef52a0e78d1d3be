"""Orders, and the decisions of the order service: pure functions of the working set and one message."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow import (
    Dead,
    Decision,
    Envelope,
    Event,
    Fact,
    FinalError,
    FlowEvent,
    IllegalTransitionError,
    Parked,
    Ref,
    RefusedError,
    Reopened,
    Row,
    Rows,
    Stated,
    StateMachine,
    Statement,
    handles,
)
from orderflow.events import (
    Item,
    OrderCompleted,
    OrderEvent,
    OrderFailed,
    OrderPlaced,
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    PaymentVoided,
    RefundFailed,
    StockRejected,
    StockReserved,
    order_id_of,
    require_ordered,
    require_same,
)
from orderflow.services.order.messages import KeyReused, Placed, PlaceOrder


class OrderStatus(StrEnum):
    """The state of an order. COMPLETED and FAILED are final."""

    PENDING = "PENDING"
    PAID = "PAID"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Refund(StrEnum):
    """Whether money has to be refunded, or was.

    REFUSED: the bank refuses the refund, and an operator has to settle it. VOID: no money was taken, so there is
    nothing to refund.
    """

    NONE = "none"
    DUE = "due"
    REFUSED = "refused"
    DONE = "done"
    VOID = "void"


class EarlyFact(msgspec.Struct, frozen=True, kw_only=True):
    """An inventory event that arrived before the payment's; it is kept on the order until its turn comes."""

    event: str
    event_id: UUID


class Order(Row, frozen=True, kw_only=True):
    """An order. `version` counts its transitions from 1; `event` has led to `status`; `shop` has placed the order.

    `total` is in minor units of `currency`.
    """

    TABLE: ClassVar[str] = "orders"
    KEY: ClassVar[str] = "order_id"
    CHANGES: ClassVar[tuple[str, ...]] = ("status", "version", "event", "reason", "refund", "early")
    STEPWISE: ClassVar[bool] = True

    order_id: UUID
    customer_id: str
    currency: str
    items: tuple[Item, ...]
    total: int
    payment_method: str
    status: OrderStatus
    version: int
    event: str
    reason: str | None = None
    refund: Refund = Refund.NONE
    early: EarlyFact | None = None
    shop: str | None = None


class Transition(Fact, frozen=True, kw_only=True):
    """One step of an order's history: `event` (with the id `cause`) led to `to_status` and to this version."""

    TABLE: ClassVar[str] = "order_history"

    order_id: UUID
    version: int
    from_status: OrderStatus
    event: str
    to_status: OrderStatus
    cause: UUID

    @property
    def id(self) -> tuple[UUID, int]:
        return (self.order_id, self.version)


class RefundStep(Fact, frozen=True, kw_only=True):
    """One step of an order's refund: `event` (with the id `cause`) led to `refund`.

    `version` is the order's at that time. `reason` is the bank's code if it refuses.
    """

    TABLE: ClassVar[str] = "order_refunds"

    order_id: UUID
    version: int
    refund: Refund
    event: str
    cause: UUID
    reason: str | None = None

    @property
    def id(self) -> tuple[UUID, UUID]:
        return (self.order_id, self.cause)


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """Why an order is stuck at a consumer: `parked` (it will be tried again) or `dead` (it was given up)."""

    state: str
    event_type: str
    event_id: str
    error: str
    attempts: int | None = None


class OrderFlow(Row, frozen=True, kw_only=True):
    """Where an order is stuck at present, by consumer. An order that was never stuck has no such row."""

    TABLE: ClassVar[str] = "order_flow"
    KEY: ClassVar[str] = "order_id"
    CHANGED_AT: ClassVar[str] = "changed_at"

    order_id: UUID
    stuck: dict[str, Obstacle]


class IdempotencyKey(Row, frozen=True, kw_only=True):
    """A client's Idempotency-Key, with the fingerprint of its request and the response."""

    TABLE: ClassVar[str] = "idempotency_keys"
    KEY: ClassVar[str] = "idempotency_key"

    idempotency_key: str
    fingerprint: str
    order_id: UUID
    response: str


ORDER_PLACED = "OrderPlaced"
PAYMENT_SUCCEEDED = "PaymentSucceeded"
PAYMENT_FAILED = "PaymentFailed"
PAYMENT_REFUNDED = "PaymentRefunded"
REFUND_FAILED = "RefundFailed"
PAYMENT_VOIDED = "PaymentVoided"
STOCK_RESERVED = "StockReserved"
STOCK_REJECTED = "StockRejected"

OUT_OF_STOCK = "out_of_stock"

MACHINE = StateMachine(
    name="orders",
    initial=OrderStatus.PENDING,
    created_by=ORDER_PLACED,
    transitions=MappingProxyType(
        {
            (OrderStatus.PENDING, PAYMENT_SUCCEEDED): OrderStatus.PAID,
            (OrderStatus.PENDING, PAYMENT_FAILED): OrderStatus.FAILED,
            (OrderStatus.PAID, STOCK_RESERVED): OrderStatus.COMPLETED,
            (OrderStatus.PAID, STOCK_REJECTED): OrderStatus.FAILED,
        }
    ),
)


class UnknownOrderError(FinalError):
    """The event is about an order that does not exist here: every order is stored before it is published."""


def _placing(command: PlaceOrder) -> tuple[Ref, ...]:
    """The order is new: the command's key locks it, and there is no row to load."""
    return () if command.idempotency_key is None else (Ref(IdempotencyKey, command.idempotency_key),)


def _its_order(event: OrderEvent) -> tuple[Ref, ...]:
    return (Ref(Order, event.order_id),)


def _stuck_order(event: FlowEvent) -> tuple[Ref, ...]:
    order_id = order_id_of(event.subject_key)
    return () if order_id is None else (Ref(Order, order_id), Ref(OrderFlow, order_id))


@handles(PlaceOrder, touches=_placing)
def place_order(rows: Rows, command: PlaceOrder) -> Decision:
    """Make a new order; or return the stored answer if its Idempotency-Key is known."""
    if command.idempotency_key is not None:
        known = rows.get(IdempotencyKey, command.idempotency_key)
        if known is not None:
            return _replay(known, command)
    order = Order(
        order_id=command.order_id,
        customer_id=command.customer_id,
        currency=command.currency,
        items=command.items,
        total=command.total,
        payment_method=command.payment_method,
        status=OrderStatus.PENDING,
        version=1,
        event=ORDER_PLACED,
        shop=command.shop,
    )
    placed = _placed(order)
    answer = Placed(order.order_id, command.response, replayed=False)
    if command.idempotency_key is None:
        return Decision(rows=(order,), events=(placed,), answer=answer)
    kept = IdempotencyKey(
        idempotency_key=command.idempotency_key,
        fingerprint=command.fingerprint,
        order_id=order.order_id,
        response=command.response,
    )
    return Decision(rows=(order, kept), events=(placed,), answer=answer)


@handles(PaymentSucceeded, touches=_its_order)
def payment_succeeded(rows: Rows, event: PaymentSucceeded, envelope: Envelope) -> Decision:
    """PENDING → PAID, and on to the final state if inventory's event has arrived already.

    Raises DisagreementError if the payment differs from the order.
    """
    order = _order(rows, event.order_id)
    require_same(event, order, "customer_id", "currency", "total", "items")
    paid, step = _advance(order, PAYMENT_SUCCEEDED, envelope.id)
    early = paid.early
    if early is None:
        return Decision(rows=(paid,), facts=(step,))
    ended, last_steps = _end(paid, early.event, early.event_id)
    return Decision(rows=(paid, ended), facts=(step, *last_steps), events=(_final_event(ended),))


@handles(PaymentFailed, touches=_its_order)
def payment_failed(rows: Rows, event: PaymentFailed, envelope: Envelope) -> Decision:
    """PENDING → FAILED. Illegal after an event of inventory or of a refund: both follow a successful payment."""
    order = _order(rows, event.order_id)
    require_same(event, order, "customer_id", "currency", "total")
    if order.early is not None or order.refund is not Refund.NONE:
        raise IllegalTransitionError(MACHINE.name, f"{order.status} (after a payment)", PAYMENT_FAILED)
    failed, step = _advance(order, PAYMENT_FAILED, envelope.id, reason=event.reason)
    return Decision(rows=(failed,), facts=(step,), events=(_final_event(failed),))


@handles(PaymentRefunded, touches=_its_order)
def payment_refunded(rows: Rows, event: PaymentRefunded, envelope: Envelope) -> Decision:
    """The money is refunded. The event can arrive before StockRejected, its cause; the refund is then recorded
    early.
    """
    return _move_refund(rows, envelope.id, event, PAYMENT_REFUNDED, Refund.DONE)


@handles(RefundFailed, touches=_its_order)
def refund_failed(rows: Rows, event: RefundFailed, envelope: Envelope) -> Decision:
    """The bank refuses the refund, for the first time or again. The event can arrive before StockRejected.

    It can also arrive late: after partitions were added, the later result of the refund can overtake it, and stands.
    """
    order = _order(rows, event.order_id)
    if order.refund in (Refund.DONE, Refund.VOID):
        require_same(event, order, "customer_id", "currency", amount="total")
        return Decision()
    return _move_refund(rows, envelope.id, event, REFUND_FAILED, Refund.REFUSED, event.reason)


@handles(PaymentVoided, touches=_its_order)
def payment_voided(rows: Rows, event: PaymentVoided, envelope: Envelope) -> Decision:
    """An operator states that no money was taken, so none is refunded. The event can arrive before StockRejected."""
    return _move_refund(rows, envelope.id, event, PAYMENT_VOIDED, Refund.VOID)


@handles(StockReserved, touches=_its_order)
def stock_reserved(rows: Rows, event: StockReserved, envelope: Envelope) -> Decision:
    """PAID → COMPLETED. Raises DisagreementError unless exactly the ordered items are reserved."""
    return _apply_inventory(rows, event, envelope.id, STOCK_RESERVED)


@handles(StockRejected, touches=_its_order)
def stock_rejected(rows: Rows, event: StockRejected, envelope: Envelope) -> Decision:
    """PAID → FAILED; the refund is due unless it has been recorded already.

    Raises DisagreementError if the missing items differ from the ordered ones.
    """
    return _apply_inventory(rows, event, envelope.id, STOCK_REJECTED)


@handles(Parked, Dead, Reopened, touches=_stuck_order)
def flow_changed(rows: Rows, event: FlowEvent) -> Decision:
    """Record on the order where it is stuck. Keys that are no order of ours are ignored."""
    order_id = order_id_of(event.subject_key)
    if order_id is None or rows.get(Order, order_id) is None:
        return Decision()
    flow = rows.get(OrderFlow, order_id) or OrderFlow(order_id=order_id, stuck={})
    stuck = dict(flow.stuck)
    match event:
        case Parked():
            stuck[event.consumer] = _obstacle(event, "parked", event.error, None)
        case Dead():
            stuck[event.consumer] = _obstacle(event, "dead", event.error, event.attempts)
        case Reopened():
            stuck.pop(event.consumer, None)
    return Decision(rows=(OrderFlow(order_id=order_id, stuck=stuck),))


def order_of(key: str) -> tuple[Ref, ...]:
    """The row of the order with this key."""
    order_id = order_id_of(key)
    return () if order_id is None else (Ref(Order, order_id),)


def state_order(rows: Rows, key: str) -> Statement:
    """The events that an order stands for: OrderPlaced, and its final event if it has ended."""
    order_id = order_id_of(key)
    order = None if order_id is None else rows.get(Order, order_id)
    if order is None:
        return Statement()
    placed = Stated(_placed(order), 1)
    if order.status not in (OrderStatus.COMPLETED, OrderStatus.FAILED):
        return Statement(events=(placed,))
    return Statement(events=(placed, Stated(_final_event(order), 2)))


def _replay(known: IdempotencyKey, command: PlaceOrder) -> Decision:
    if known.fingerprint not in (command.fingerprint, command.former_fingerprint):
        raise RefusedError(KeyReused(known.idempotency_key))
    return Decision(answer=Placed(known.order_id, known.response, replayed=True))


def _apply_inventory(rows: Rows, event: StockReserved | StockRejected, event_id: UUID, name: str) -> Decision:
    """Inventory's event can overtake the payment's, which is on another topic: it then waits on the order's row."""
    order = _order(rows, event.order_id)
    require_same(event, order, "customer_id")
    require_ordered(event, order.items)
    if name == STOCK_RESERVED and order.refund is not Refund.NONE:
        raise _illegal_refund(order, name)
    if order.status is OrderStatus.PENDING and order.early is None:
        early = EarlyFact(event=name, event_id=event_id)
        return Decision(rows=(msgspec.structs.replace(order, early=early),))
    ended, steps = _end(order, name, event_id)
    return Decision(rows=(ended,), facts=steps, events=(_final_event(ended),))


def _end(order: Order, event: str, event_id: UUID) -> tuple[Order, Sequence[Fact]]:
    if event == STOCK_RESERVED:
        completed, step = _advance(order, event, event_id)
        return completed, (step,)
    failed, step = _advance(order, event, event_id, reason=OUT_OF_STOCK)
    if order.refund is not Refund.NONE:
        return failed, (step,)
    due, refund_step = _refund(failed, Refund.DUE, event, event_id)
    return due, (step, refund_step)


def _move_refund(
    rows: Rows, event_id: UUID, event: OrderEvent, name: str, refund: Refund, reason: str | None = None
) -> Decision:
    """A refund is always of the whole order. It follows StockRejected, but its events can arrive earlier."""
    order = _order(rows, event.order_id)
    require_same(event, order, "customer_id", "currency", amount="total")
    is_begun = order.refund in (Refund.DUE, Refund.REFUSED)
    is_early = order.status in (OrderStatus.PENDING, OrderStatus.PAID) and order.refund is Refund.NONE
    is_reserved = order.early is not None and order.early.event == STOCK_RESERVED
    if not is_begun and (not is_early or is_reserved):
        raise _illegal_refund(order, name)
    moved, step = _refund(order, refund, name, event_id, reason)
    return Decision(rows=(moved,), facts=(step,))


def _refund(
    order: Order, refund: Refund, event: str, event_id: UUID, reason: str | None = None
) -> tuple[Order, RefundStep]:
    """The order and the step. A refund changes neither the order's status nor its version."""
    step = RefundStep(
        order_id=order.order_id,
        version=order.version,
        refund=refund,
        event=event,
        cause=event_id,
        reason=reason,
    )
    return msgspec.structs.replace(order, refund=refund), step


def _illegal_refund(order: Order, event: str) -> IllegalTransitionError:
    return IllegalTransitionError(MACHINE.name, f"{order.status} (refund {order.refund})", event)


def _advance(order: Order, event: str, event_id: UUID, reason: str | None = None) -> tuple[Order, Transition]:
    after = OrderStatus(MACHINE.after(order.status, event))
    version = order.version + 1
    moved = msgspec.structs.replace(
        order,
        status=after,
        version=version,
        event=event,
        reason=reason,
        early=None if after in (OrderStatus.COMPLETED, OrderStatus.FAILED) else order.early,
    )
    step = Transition(
        order_id=order.order_id,
        version=version,
        from_status=order.status,
        event=event,
        to_status=after,
        cause=event_id,
    )
    return moved, step


def _placed(order: Order) -> Event:
    return OrderPlaced(
        order_id=order.order_id,
        customer_id=order.customer_id,
        currency=order.currency,
        items=order.items,
        total=order.total,
        payment_method=order.payment_method,
    )


def _final_event(order: Order) -> Event:
    if order.status is OrderStatus.COMPLETED:
        return OrderCompleted(
            order_id=order.order_id,
            customer_id=order.customer_id,
            currency=order.currency,
            total=order.total,
        )
    return OrderFailed(order_id=order.order_id, customer_id=order.customer_id, reason=order.reason or "")


def _obstacle(event: FlowEvent, state: str, error: str, attempts: int | None) -> Obstacle:
    return Obstacle(
        state=state,
        event_type=event.event_type,
        event_id=event.event_id,
        error=error,
        attempts=attempts,
    )


def _order(rows: Rows, order_id: UUID) -> Order:
    order = rows.get(Order, order_id)
    if order is None:
        raise UnknownOrderError(f"no order {order_id}")
    return order
