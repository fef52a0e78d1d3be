"""Orders whose books were damaged: what a lost event or a lost row leaves behind, in SQL by database.

Each damage is what stands after part of an order's way was undone, as by a restore of a single table or a row changed
by hand. `lost` says that the inbox still knows the event whose effect is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from orderflow.audit.findings import Kind

LOG = ("log", "records")
Statements = Sequence[tuple[str, str]]
"""Pairs of a database and a statement with `{id}`, `{sku}` and `{customer}` in it."""


GUARDED = {"order": "orders", "payment": "payments"}
"""Tables whose triggers let through only what a service may do."""


async def unguarded(url: str, *statements: str) -> None:
    """Change the books as no service could: triggers and foreign keys are out of force."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def damage(urls: Mapping[str, str], done: Damage, order: Mapping[str, str]) -> None:
    """Change the books as no service could. What there is no database of is left as it is (a log that is Kafka's)."""
    for database, statement in done.statements:
        if database not in urls:
            continue
        connection = await asyncpg.connect(urls[database])
        try:
            async with connection.transaction():
                if database in GUARDED:
                    await connection.execute(f"ALTER TABLE {GUARDED[database]} DISABLE TRIGGER USER")
                await connection.execute(statement.format(**order))
                if database in GUARDED:
                    await connection.execute(f"ALTER TABLE {GUARDED[database]} ENABLE TRIGGER USER")
        finally:
            await connection.close()


def _sql(database: str, *parts: str) -> tuple[str, str]:
    return database, " ".join(parts)


@dataclass(frozen=True)
class Damage:
    """`order`: to which orders it can be done (`completed`, `declined`, `refunded`). `kinds`: what an audit has to
    find of it, among others.
    """

    order: str
    kinds: frozenset[Kind]
    statements: Statements


def forget(service: str, *events: str) -> Statements:
    """The inbox does not know these events of the order; without any, none at all."""
    names = ", ".join(f"'orderflow.{event}'" for event in events)
    among = f" AND identity IN ({names})" if events else ""
    return [(service, f"DELETE FROM processed_events WHERE key = '{{id}}' AND consumer = '{service}'{among}")]


def unsay(service: str, *events: str, emitted: int) -> Statements:
    """Neither the outbox nor the topic has these events of the order, and only so many were counted."""
    stream = f"key = '{{id}}' AND source = '/orderflow/{service}'"
    count = (
        f"UPDATE streams SET emitted = {emitted} WHERE {stream}" if emitted else f"DELETE FROM streams WHERE {stream}"
    )
    gone = [(database, _unsay(table, event)) for event in events for database, table in ((service, "outbox"), LOG)]
    return [(service, count), *gone]


def _unsay(table: str, event: str) -> str:
    return (
        f"DELETE FROM {table} WHERE key = convert_to('{{id}}', 'UTF8') "
        f"AND position(convert_to('orderflow.{event}.v1', 'UTF8') IN headers) > 0"
    )


ORDER_IS_PENDING: Statements = [
    _sql(
        "order",
        "UPDATE orders SET status = 'PENDING', version = 1, event = 'OrderPlaced', reason = NULL, refund = 'none',",
        "early = NULL WHERE order_id = '{id}'",
    ),
    ("order", "DELETE FROM order_history WHERE order_id = '{id}'"),
    ("order", "DELETE FROM order_refunds WHERE order_id = '{id}'"),
    *unsay("order", "OrderCompleted", "OrderFailed", emitted=1),
]
ORDER_IS_PAID: Statements = [
    _sql(
        "order",
        "UPDATE orders SET status = 'PAID', version = 2, event = 'PaymentSucceeded', reason = NULL, refund = 'none'",
        "WHERE order_id = '{id}'",
    ),
    ("order", "DELETE FROM order_history WHERE order_id = '{id}' AND version > 2"),
    *unsay("order", "OrderCompleted", "OrderFailed", emitted=1),
]
REFUND_IS_DUE: Statements = [
    ("order", "UPDATE orders SET refund = 'due' WHERE order_id = '{id}'"),
    ("order", "DELETE FROM order_refunds WHERE order_id = '{id}' AND refund = 'done'"),
    *forget("order", "PaymentRefunded"),
    ("notification", "DELETE FROM notifications WHERE order_id = '{id}' AND outcome = 'refunded'"),
    *forget("notification", "PaymentRefunded"),
    *unsay("payment", "PaymentRefunded", emitted=1),
]
NO_ANSWERS = _sql(
    "payment",
    "DELETE FROM processed_events",
    "WHERE key = '{id}' AND consumer = 'payment' AND identity NOT LIKE 'orderflow.%'",
)
"""The bank was not heard of."""

PAYMENT_IS_CAPTURED: Statements = [
    _sql(
        "payment",
        "UPDATE payments SET status = 'CAPTURED', version = 2, event = 'ChargeApproved', refunded = 0,",
        "refund_reference = NULL WHERE order_id = '{id}'",
    ),
]
REFUND_IS_WAITED_FOR: Statements = [
    _sql(
        "payment",
        "UPDATE payments SET status = 'REFUND_DUE', version = 3, event = 'StockRejected', refunded = 0,",
        "refund_reference = NULL WHERE order_id = '{id}'",
    ),
]
CHARGE_IS_UNKNOWN: Statements = [
    _sql(
        "payment",
        "UPDATE payments SET status = 'UNKNOWN', version = 2, event = 'ChargeUnknown', captured = 0,",
        "charge_reference = NULL WHERE order_id = '{id}'",
    ),
    *unsay("payment", "PaymentSucceeded", emitted=0),
]
NO_PAYMENT: Statements = [
    ("payment", "DELETE FROM payments WHERE order_id = '{id}'"),
    *unsay("payment", "PaymentSucceeded", emitted=0),
]
NOTHING_RESERVED: Statements = [
    ("inventory", "DELETE FROM reservations WHERE order_id = '{id}'"),
    ("inventory", "DELETE FROM movements WHERE cause = '{id}'"),
    _sql(
        "inventory",
        "UPDATE stock SET on_hand = on_hand + 2, reserved = reserved - 2, version = version - 1 WHERE sku = '{sku}'",
    ),
    *unsay("inventory", "StockReserved", emitted=0),
]
RESERVED: Statements = [
    _sql(
        "inventory",
        "INSERT INTO reservations (order_id, status, lines, missing, customer_id) VALUES",
        """('{id}', 'RESERVED', '[{{"sku": "{sku}", "quantity": 2}}]', '[]', '{customer}')""",
    ),
    (
        "inventory",
        "UPDATE stock SET on_hand = on_hand - 2, reserved = reserved + 2, version = version + 1 WHERE sku = '{sku}'",
    ),
    _sql(
        "inventory",
        "INSERT INTO processed_events (key, consumer, identity, event_id, state)",
        "VALUES ('{id}', 'inventory', 'orderflow.PaymentSucceeded', gen_random_uuid(), 1)",
    ),
    _sql(
        "inventory",
        "INSERT INTO movements (sku, version, kind, cause, on_hand_change, reserved_change)",
        "SELECT sku, version, 'reserve', '{id}', -2, 2 FROM stock WHERE sku = '{sku}'",
    ),
]
NEVER_SENT: Statements = [("order", _unsay("outbox", "OrderCompleted")), ("log", _unsay("records", "OrderCompleted"))]
NOT_ON_THE_TOPIC: Statements = [("log", _unsay("records", "OrderFailed"))]
WAITS_NOWHERE = _sql(
    "notification",
    "UPDATE processed_events SET state = 2 WHERE key = '{id}' AND consumer = 'notification'",
)
NOT_TOLD: Statements = [("notification", "DELETE FROM notifications WHERE order_id = '{id}'")]
SHOWN_AS_STUCK: Statements = [
    _sql(
        "order",
        "INSERT INTO order_flow (order_id, stuck) VALUES ('{id}',",
        """'{{"payment": {{"state": "parked", "event_type": "t", "event_id": "e", "error": "E"}}}}')""",
    ),
]


def _kinds(*kinds: Kind) -> frozenset[Kind]:
    return frozenset(kinds)


DAMAGES: Mapping[str, Damage] = {
    "the order heard of nothing": Damage(
        "completed", _kinds(Kind.ORDER_NOT_FINAL), [*ORDER_IS_PENDING, *forget("order")]
    ),
    "the order has lost what it heard": Damage("completed", _kinds(Kind.ORDER_NOT_FINAL), ORDER_IS_PENDING),
    "a refunded order heard of nothing": Damage(
        "refunded", _kinds(Kind.ORDER_NOT_FINAL), [*ORDER_IS_PENDING, *forget("order")]
    ),
    "a declined order has lost what it heard": Damage("declined", _kinds(Kind.ORDER_NOT_FINAL), ORDER_IS_PENDING),
    "the payment never heard that the stock was rejected": Damage(
        "refunded",
        _kinds(Kind.REFUND_MISSING),
        [*PAYMENT_IS_CAPTURED, *REFUND_IS_DUE, *forget("payment", "StockRejected"), NO_ANSWERS],
    ),
    "the payment has lost its refund": Damage(
        "refunded",
        _kinds(Kind.REFUND_MISSING),
        [*PAYMENT_IS_CAPTURED, *REFUND_IS_DUE, ("bank", "DELETE FROM bank_refunds WHERE order_id = '{id}'")],
    ),
    "nobody asks for the refund": Damage(
        "refunded", _kinds(Kind.INTENT_MISSING), [*REFUND_IS_WAITED_FOR, *REFUND_IS_DUE]
    ),
    "nobody asks what became of the charge": Damage(
        "completed",
        _kinds(Kind.INTENT_MISSING, Kind.CHARGE_NOT_BOOKED),
        [
            *ORDER_IS_PENDING,
            *forget("order"),
            *CHARGE_IS_UNKNOWN,
            *NOTHING_RESERVED,
            *forget("inventory"),
            *NOT_TOLD,
            *forget("notification"),
        ],
    ),
    "only the order service knows the order": Damage(
        "completed",
        _kinds(Kind.PAYMENT_MISSING),
        [
            *ORDER_IS_PENDING,
            *forget("order"),
            *NO_PAYMENT,
            *forget("payment"),
            *NOTHING_RESERVED,
            *forget("inventory"),
            *NOT_TOLD,
            *forget("notification"),
        ],
    ),
    "all have lost what they heard": Damage(
        "completed",
        _kinds(Kind.PAYMENT_MISSING),
        [*ORDER_IS_PENDING, *NO_PAYMENT, *NOTHING_RESERVED, *NOT_TOLD],
    ),
    "all have lost what they heard of a refunded order": Damage(
        "refunded",
        _kinds(Kind.PAYMENT_MISSING),
        [
            *ORDER_IS_PENDING,
            *NO_PAYMENT,
            *unsay("payment", "PaymentRefunded", emitted=0),
            ("inventory", "DELETE FROM reservations WHERE order_id = '{id}'"),
            *unsay("inventory", "StockRejected", emitted=0),
            *NOT_TOLD,
        ],
    ),
    "nothing was reserved": Damage(
        "completed",
        _kinds(Kind.ORDER_NOT_FINAL),
        [
            *ORDER_IS_PAID,
            *forget("order", "StockReserved"),
            *NOTHING_RESERVED,
            *forget("inventory"),
            *NOT_TOLD,
            *forget("notification"),
        ],
    ),
    "a declined order holds stock": Damage("declined", _kinds(Kind.RESERVATION_TO_RELEASE), RESERVED),
    "the customer was not told": Damage(
        "completed", _kinds(Kind.NOTIFICATION_MISSING), [*NOT_TOLD, *forget("notification")]
    ),
    "what the customer was told is lost": Damage("refunded", _kinds(Kind.NOTIFICATION_MISSING), NOT_TOLD),
    "the customer would be told by an event that waits nowhere": Damage(
        "completed", _kinds(Kind.PARKED_EVENT_MISSING), [*NOT_TOLD, WAITS_NOWHERE]
    ),
    "the end was never sent": Damage("completed", _kinds(Kind.EVENT_NEVER_SENT), NEVER_SENT),
    "the topic has lost the end": Damage("declined", _kinds(Kind.RECORD_MISSING), NOT_ON_THE_TOPIC),
    "the order shows what is not stuck": Damage("completed", _kinds(Kind.STUCK_NOT_SHOWN), SHOWN_AS_STUCK),
}
