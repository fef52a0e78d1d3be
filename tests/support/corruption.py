"""What can be wrong with the books, as SQL that makes it so, and what an audit has to find of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orderflow.audit.findings import Kind

NOBODY = "ffffffff-0000-7000-8000-000000000000"
"""An order that was never placed."""


@dataclass(frozen=True)
class Plant:
    """`sql` by database; `{ids}` stands for two orders. `also` is what follows from it for the same orders, `of_all`
    for what else, by subject; `subjects` are in the place of the orders where it is of none.
    """

    kind: Kind
    sql: Mapping[str, Sequence[str]]
    of: str = "completed"
    also: tuple[Kind, ...] = ()
    of_all: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)
    subjects: tuple[str, ...] | None = None


def shows(consumer: str, state: str) -> str:
    """The order says where it is stuck."""
    obstacle = f'{{"state": "{state}", "event_type": "x", "event_id": "x", "error": "x", "attempts": 6}}'
    stuck = f'{{"{consumer}": {obstacle}}}'.replace("{", "{{").replace("}", "}}")
    return (
        f"INSERT INTO order_flow (order_id, stuck) SELECT order_id, '{stuck}' FROM orders WHERE order_id IN {{ids}}"
    )


def waits(
    consumer: str, state: int, attempts: int, topic: str, identity: str = "11111111-1111-1111-1111-111111111111"
) -> str:
    failed = "'x', 'x', 'x', 'x', now(), now()" if attempts else "NULL, NULL, NULL, NULL, NULL, NULL"
    return f"""INSERT INTO parked_events (key, consumer, identity, event_id, event_type, topic, partition, "offset",
        record_headers, record_timestamp, state, attempts, failure_kind, error, message, fingerprint, first_failed_at,
        last_failed_at, next_attempt_at)
        SELECT key, '{consumer}', '{identity}', '{identity}', 'orderflow.X.v1', '{topic}', 0, 0, '\\x90', 0, {state},
        {attempts}, {failed}, now() FROM (SELECT DISTINCT key FROM processed_events WHERE key IN {{ids}}) AS keys"""


def noted(consumer: str, state: int, identity: str = "11111111-1111-1111-1111-111111111111") -> str:
    return f"""INSERT INTO processed_events (key, consumer, identity, event_id, state)
        SELECT key, '{consumer}', '{identity}', '11111111-1111-1111-1111-111111111111', {state}
        FROM (SELECT DISTINCT key FROM processed_events WHERE key IN {{ids}}) AS keys"""


def unheard(*identities: str) -> str:
    said = ", ".join(f"'orderflow.{each}'" for each in identities)
    return f"DELETE FROM processed_events WHERE key IN {{ids}} AND identity IN ({said})"


NOT_YET_REFUNDED = {
    "order": (
        "UPDATE orders SET refund = 'due' WHERE order_id IN {ids}",
        "DELETE FROM order_refunds WHERE refund = 'done' AND order_id IN {ids}",
        unheard("PaymentRefunded"),
    ),
    "notification": (
        "DELETE FROM notifications WHERE outcome = 'refunded' AND order_id IN {ids}",
        unheard("PaymentRefunded"),
    ),
    "bank": ("DELETE FROM bank_refunds WHERE order_id IN {ids}",),
}
REFUND_DUE = """UPDATE payments SET status = 'REFUND_DUE', version = 3, event = 'StockRejected', refunded = 0,
    refund_reference = NULL WHERE order_id IN {ids}"""
AS_CAPTURED = """UPDATE payments SET status = 'CAPTURED', version = 2, event = 'ChargeApproved', refunded = 0,
    refund_reference = NULL WHERE order_id IN {ids}"""
MONEY = (
    Plant(
        Kind.PAYMENT_MISSING,
        {"payment": ("DELETE FROM payments WHERE order_id IN {ids}", unheard("OrderPlaced"))},
        "declined",
    ),
    Plant(
        Kind.PAYMENT_ILLEGAL,
        {
            "payment": (
                "ALTER TABLE payments DROP CONSTRAINT payments_captured",
                "UPDATE payments SET captured = captured - 1 WHERE order_id IN {ids}",
            )
        },
        also=(Kind.COMPLETED_UNPAID,),
    ),
    Plant(Kind.PAYMENT_DIFFERS, {"payment": ("UPDATE payments SET customer_id = 'other' WHERE order_id IN {ids}",)}),
    Plant(
        Kind.DOUBLE_CHARGE,
        {
            "bank": (
                (
                    "INSERT INTO bank_charges SELECT key || '?', order_id, amount, currency, 'card', NULL, reference "
                    "FROM bank_charges WHERE order_id IN {ids}"
                ),
            )
        },
    ),
    Plant(
        Kind.DOUBLE_REFUND,
        {
            "bank": (
                (
                    "INSERT INTO bank_refunds SELECT key || '?', charge, order_id, amount, currency, reference "
                    "FROM bank_refunds WHERE order_id IN {ids}"
                ),
            )
        },
        "refunded",
    ),
    Plant(Kind.CHARGE_DIFFERS, {"bank": ("UPDATE bank_charges SET amount = amount + 1 WHERE order_id IN {ids}",)}),
    Plant(
        Kind.REFUND_DIFFERS,
        {"bank": ("UPDATE bank_refunds SET currency = 'USD' WHERE order_id IN {ids}",)},
        "refunded",
    ),
    Plant(
        Kind.REFUND_EXCEEDS_CHARGE,
        {"bank": ("UPDATE bank_refunds SET amount = amount + 1 WHERE order_id IN {ids}",)},
        "refunded",
        also=(Kind.REFUND_DIFFERS,),
    ),
    Plant(
        Kind.CHARGE_NOT_AT_BANK,
        {"bank": ("DELETE FROM bank_charges WHERE order_id IN {ids}",)},
        also=(Kind.COMPLETED_UNPAID,),
    ),
    Plant(
        Kind.CHARGE_NOT_BOOKED,
        {"bank": ("UPDATE bank_charges SET decline_code = NULL WHERE order_id IN {ids}",)},
        "declined",
        also=(Kind.FAILED_KEEPS_MONEY,),
    ),
    Plant(
        Kind.CHARGE_SETTLED_WRONG,
        {
            "payment": ("UPDATE payments SET charge_reference = 'settled_by_operator' WHERE order_id IN {ids}",),
            "bank": ("DELETE FROM bank_charges WHERE order_id IN {ids}",),
        },
        also=(Kind.COMPLETED_UNPAID,),
    ),
    Plant(
        Kind.CHARGE_OF_NO_ORDER,
        {"bank": (f"INSERT INTO bank_charges VALUES ('charge:x', '{NOBODY}', 5, 'EUR', 'card', NULL, 'ch')",)},
        subjects=(NOBODY,),
    ),
    Plant(
        Kind.REFUND_NOT_AT_BANK,
        {"bank": ("DELETE FROM bank_refunds WHERE order_id IN {ids}",)},
        "refunded",
        also=(Kind.FAILED_KEEPS_MONEY,),
    ),
    Plant(
        Kind.REFUND_NOT_BOOKED,
        {"payment": (REFUND_DUE,)},
        "refunded",
        also=(Kind.FAILED_KEEPS_MONEY, Kind.INTENT_MISSING),
    ),
    Plant(
        Kind.REFUND_MISSING,
        {**NOT_YET_REFUNDED, "payment": (AS_CAPTURED, unheard("StockRejected"))},
        "refunded",
    ),
    Plant(Kind.REFUND_OVERDUE, {"order": NOT_YET_REFUNDED["order"]}, "refunded", also=(Kind.NOTIFICATION_WRONG,)),
    Plant(
        Kind.COMPLETED_UNPAID,
        {
            "payment": (
                (
                    "UPDATE payments SET status = 'REFUNDED', refunded = amount, refund_reference = 're' "
                    "WHERE order_id IN {ids}"
                ),
            ),
            "bank": (
                (
                    "INSERT INTO bank_refunds SELECT 'r' || key, key, order_id, amount, currency, 're' "
                    "FROM bank_charges "
                    "WHERE order_id IN {ids}"
                ),
            ),
        },
        also=(Kind.SERVICES_DISAGREE, Kind.EFFECT_WITHOUT_INBOX_ROW, Kind.EVENT_NEVER_SENT),
    ),
    Plant(
        Kind.FAILED_KEEPS_MONEY,
        {"payment": (AS_CAPTURED,), "bank": NOT_YET_REFUNDED["bank"]},
        "refunded",
        also=(Kind.INBOX_ROW_WITHOUT_EFFECT,),
    ),
    Plant(Kind.INTENT_MISSING, {**NOT_YET_REFUNDED, "payment": (REFUND_DUE,)}, "refunded"),
)
ORDER_ROWS = (
    Plant(
        Kind.ORDER_NOT_FINAL,
        {
            "order": (
                "UPDATE orders SET status = 'PAID', version = 2, event = 'PaymentSucceeded' WHERE order_id IN {ids}",
                "DELETE FROM order_history WHERE version = 3 AND order_id IN {ids}",
                unheard("StockReserved"),
            )
        },
        also=(Kind.SERVICES_DISAGREE,),
    ),
    Plant(
        Kind.SERVICES_DISAGREE,
        {
            "order": (
                "UPDATE orders SET status = 'PENDING', version = 1, event = 'OrderPlaced' WHERE order_id IN {ids}",
                "DELETE FROM order_history WHERE order_id IN {ids}",
                "DELETE FROM processed_events WHERE key IN {ids}",
            )
        },
        also=(Kind.ORDER_NOT_FINAL,),
    ),
    Plant(
        Kind.ORDER_UNKNOWN,
        {
            "order": (
                "DELETE FROM orders WHERE order_id IN {ids}",
                "DELETE FROM order_history WHERE order_id IN {ids}",
                "DELETE FROM idempotency_keys WHERE order_id IN {ids}",
                "DELETE FROM processed_events WHERE key IN {ids}",
            )
        },
    ),
    Plant(
        Kind.ORDER_TOTAL_WRONG,
        {"order": ("UPDATE orders SET items = jsonb_set(items, '{{0,unit_price}}', '251') WHERE order_id IN {ids}",)},
    ),
    Plant(
        Kind.HISTORY_GAP,
        {
            "order": (
                "UPDATE order_history SET version = 4 WHERE version = 3 AND order_id IN {ids}",
                "UPDATE orders SET version = 4 WHERE order_id IN {ids}",
            )
        },
    ),
    Plant(
        Kind.HISTORY_ILLEGAL_STEP,
        {"order": ("UPDATE order_history SET event = 'StockRejected' WHERE version = 3 AND order_id IN {ids}",)},
    ),
    Plant(Kind.HISTORY_END_DIFFERS, {"order": ("UPDATE orders SET version = 5 WHERE order_id IN {ids}",)}),
    Plant(
        Kind.COMPLETED_WITH_REFUND,
        {
            "order": (
                "ALTER TABLE orders DROP CONSTRAINT orders_completed_keep_the_money",
                "UPDATE orders SET refund = 'done' WHERE order_id IN {ids}",
            )
        },
        also=(Kind.REFUND_STEPS_DIFFER, Kind.NOTIFICATION_MISSING),
    ),
    Plant(
        Kind.REFUND_STEPS_DIFFER,
        {"order": ("UPDATE order_refunds SET refund = 'void' WHERE refund = 'done' AND order_id IN {ids}",)},
        "refunded",
    ),
    Plant(
        Kind.IDEMPOTENCY_KEY_WRONG,
        {
            "order": (
                (
                    "INSERT INTO idempotency_keys SELECT 'wrong' || order_id, 'x', order_id, 'x' FROM orders "
                    "WHERE order_id IN {ids} AND NOT EXISTS (SELECT FROM idempotency_keys AS known "
                    "WHERE known.order_id = orders.order_id)"
                ),
                f'UPDATE idempotency_keys SET response = \'{{{{"id":"{NOBODY}"}}}}\' WHERE order_id IN {{ids}}',
            )
        },
    ),
    Plant(
        Kind.IDEMPOTENCY_KEY_TWICE,
        {
            "order": tuple(
                f"INSERT INTO idempotency_keys SELECT '{name}' || order_id, 'x', order_id, "
                "'{{\"id\":\"' || order_id || '\"}}' FROM orders WHERE order_id IN {ids}"
                for name in ("twice", "thrice")
            )
        },
    ),
    Plant(Kind.STUCK_NOT_SHOWN, {"order": (shows("payment", "parked"),)}),
    Plant(
        Kind.REFUND_NOT_SHOWN,
        {
            "order": (
                "UPDATE orders SET refund = 'refused' WHERE order_id IN {ids}",
                (
                    "UPDATE order_refunds SET refund = 'refused', reason = 'x' "
                    "WHERE refund = 'done' AND order_id IN {ids}"
                ),
            )
        },
        "refunded",
        also=(Kind.NOTIFICATION_WRONG,),
    ),
)
STOCK = (
    Plant(
        Kind.STOCK_NEGATIVE,
        {
            "inventory": (
                "ALTER TABLE stock DROP CONSTRAINT stock_on_hand_not_negative",
                "UPDATE stock SET on_hand = -5 WHERE sku = 'SKU-1'",
            )
        },
        subjects=("SKU-1",),
        also=(Kind.STOCK_UNBALANCED,),
    ),
    Plant(
        Kind.STOCK_UNBALANCED,
        {"inventory": ("UPDATE stock SET on_hand = on_hand + 1 WHERE sku = 'SKU-2'",)},
        subjects=("SKU-2",),
    ),
    Plant(
        Kind.STOCK_NOT_AS_MOVED,
        {"inventory": ("UPDATE stock SET on_hand = on_hand - 1, reserved = reserved + 1 WHERE sku = 'SKU-3'",)},
        subjects=("SKU-3",),
        also=(Kind.STOCK_NOT_AS_HELD,),
    ),
    Plant(
        Kind.STOCK_STEPS_MISSING,
        {"inventory": ("UPDATE stock SET version = version + 1 WHERE sku = 'SKU-4'",)},
        subjects=("SKU-4",),
    ),
    Plant(
        Kind.STOCK_NOT_AS_HELD,
        {
            "inventory": (
                """UPDATE reservations SET lines = '[{{"sku": "SKU-11", "quantity": 2}}]' WHERE order_id IN {ids}""",
            )
        },
        also=(Kind.COMPLETED_WITHOUT_STOCK, Kind.RESERVATION_NOT_MOVED),
        of_all={Kind.STOCK_NOT_AS_HELD: ("{skus}", "SKU-11")},
        subjects=None,
    ),
    Plant(
        Kind.RESERVATION_TWICE,
        {
            "inventory": (
                "ALTER TABLE reservations DROP CONSTRAINT reservations_one_an_order",
                "INSERT INTO reservations SELECT * FROM reservations WHERE order_id IN {ids}",
            )
        },
        also=(Kind.RESERVATION_NOT_MOVED,),
        of_all={Kind.STOCK_NOT_AS_HELD: ("{skus}",)},
    ),
    Plant(
        Kind.RESERVATION_NOT_MOVED,
        {
            "inventory": (
                (
                    "UPDATE movements SET reserved_change = reserved_change + 1, on_hand_change = on_hand_change - 1 "
                    "WHERE cause IN {ids}"
                ),
            )
        },
        of_all={Kind.STOCK_NOT_AS_MOVED: ("{skus}",)},
    ),
    Plant(
        Kind.RESERVATION_TO_RELEASE,
        {
            "inventory": (
                (
                    "UPDATE reservations SET status = 'RESERVED', missing = '[]', "
                    """lines = '[{{"sku": "SKU-6", "quantity": 1}}]' WHERE order_id IN {ids}"""
                ),
                (
                    "INSERT INTO movements "
                    "SELECT 'SKU-6', stock.version + row_number() OVER (), 'reserve', order_id, -1, 1 "
                    "FROM reservations, stock WHERE order_id IN {ids} AND stock.sku = 'SKU-6'"
                ),
                (
                    "UPDATE stock SET on_hand = on_hand - 2, reserved = reserved + 2, version = version + 2 "
                    "WHERE sku = 'SKU-6'"
                ),
            )
        },
        "refunded",
        also=(Kind.EVENT_NEVER_SENT,),
    ),
    Plant(
        Kind.COMPLETED_WITHOUT_STOCK,
        {
            name: (
                (
                    f"UPDATE {table} SET items = jsonb_set(items, '{{{{0,sku}}}}', '\"SKU-49\"') "
                    "WHERE order_id IN {ids}"
                ),
            )
            for name, table in (("order", "orders"), ("payment", "payments"))
        },
    ),
)
NOTIFICATIONS = (
    Plant(
        Kind.NOTIFICATION_MISSING,
        {
            "notification": (
                "DELETE FROM notifications WHERE order_id IN {ids}",
                "DELETE FROM processed_events WHERE key IN {ids}",
            )
        },
    ),
    Plant(
        Kind.NOTIFICATION_TWICE,
        {
            "notification": (
                "ALTER TABLE notifications DROP CONSTRAINT notifications_once_an_outcome",
                "DROP INDEX notifications_one_end",
                "INSERT INTO notifications SELECT * FROM notifications WHERE order_id IN {ids}",
            )
        },
    ),
    Plant(
        Kind.NOTIFICATION_WRONG,
        {
            "notification": (
                (
                    "INSERT INTO notifications "
                    "SELECT order_id, 'refunded', customer_id, NULL, text, gen_random_uuid() "
                    "FROM notifications WHERE order_id IN {ids}"
                ),
            )
        },
        also=(Kind.EFFECT_WITHOUT_INBOX_ROW,),
    ),
)
PASSAGE = (
    Plant(Kind.EFFECT_WITHOUT_INBOX_ROW, {"inventory": (unheard("PaymentSucceeded"),)}),
    Plant(
        Kind.INBOX_ROW_WITHOUT_EFFECT,
        {
            "inventory": (
                (
                    "INSERT INTO processed_events (key, consumer, identity, event_id, state) "
                    "SELECT unnest(ARRAY[{list}]), "
                    "'inventory', 'orderflow.PaymentSucceeded', gen_random_uuid(), 1"
                ),
            )
        },
        "declined",
    ),
    Plant(
        Kind.PARKED_WITHOUT_INBOX_ROW,
        {"payment": (waits("payment", 3, 6, ""),), "order": (shows("payment", "dead"),)},
    ),
    Plant(Kind.PARKED_EVENT_MISSING, {"payment": (noted("payment", 3),)}),
    Plant(
        Kind.HELD_BEHIND_NOTHING,
        {"payment": (noted("payment", 2), waits("payment", 2, 0, ""))},
        also=(Kind.STUCK_NOT_SHOWN,),
    ),
    Plant(
        Kind.SEVERAL_HEADS,
        {
            "payment": tuple(
                make
                for identity in ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222")
                for make in (noted("payment", 3, identity), waits("payment", 3, 6, "", identity))
            ),
            "order": (shows("payment", "dead"),),
        },
    ),
    Plant(
        Kind.EVENT_NEVER_SENT,
        {
            "inventory": ("DELETE FROM outbox WHERE convert_from(key, 'UTF8') IN {ids}",),
            "log": (
                (
                    "DELETE FROM records USING partitions, topics WHERE partition_id = partitions.id "
                    "AND topics.id = topic_id AND topics.name = 'inventory-status' "
                    "AND convert_from(key, 'UTF8') IN {ids}"
                ),
            ),
        },
    ),
    Plant(Kind.SEQUENCE_GAP, {"order": ("UPDATE streams SET emitted = 3 WHERE key IN {ids}",)}),
    Plant(Kind.SEQUENCE_TWICE, {"order": ("UPDATE streams SET emitted = 1 WHERE key IN {ids}",)}),
)
UNDER_WAY = (
    Plant(
        Kind.INTENT_UNCALLED_FOR,
        {
            "payment": (
                (
                    "INSERT INTO intents (key, kind, request, message_key, cause, attempts, due_at) "
                    "SELECT 'charge:' || key, "
                    "'charge', '{{}}', key, gen_random_uuid(), 0, now() FROM processed_events "
                    "WHERE identity = 'orderflow.OrderPlaced' AND key IN {ids}"
                ),
            )
        },
    ),
    Plant(
        Kind.INTENT_OPEN,
        {
            "payment": (
                REFUND_DUE,
                (
                    "INSERT INTO intents (key, kind, request, message_key, cause, attempts, due_at, created_at) "
                    "SELECT 'refund:' || key, 'refund', '{{}}', key, gen_random_uuid(), 0, now(), "
                    "now() - interval '1 h' "
                    "FROM processed_events WHERE identity = 'orderflow.OrderPlaced' AND key IN {ids}"
                ),
            )
        },
        "refunded",
        also=(Kind.FAILED_KEEPS_MONEY,),
    ),
    Plant(
        Kind.EVENT_UNSENT,
        {
            "order": (
                (
                    "INSERT INTO outbox (id, segment, slot, topic, headers, event_id, created_at) "
                    "VALUES (999999999, 0, 0, 'order-events', '\\x90', gen_random_uuid(), now() - interval '1 h')"
                ),
                "INSERT INTO outbox_pending (id, segment, slot) VALUES (999999999, 0, 0)",
            )
        },
        subjects=("order",),
    ),
)
ON_ORDER_EVENTS = """FROM partitions JOIN topics ON topics.id = topic_id WHERE partition_id = partitions.id
    AND topics.name = 'order-events' AND convert_from(key, 'UTF8') IN {ids}"""
TOPICS = (
    Plant(
        Kind.RECORD_MISSING,
        {
            "log": (
                (
                    f"DELETE FROM records {ON_ORDER_EVENTS.replace('FROM', 'USING', 1)} "
                    "AND position('OrderPlaced'::bytea IN headers) > 0"
                ),
            )
        },
    ),
    Plant(Kind.RECORD_ALTERED, {"log": (f"UPDATE records SET value = value || ' '::bytea {ON_ORDER_EVENTS}",)}),
    Plant(
        Kind.DEAD_LETTER_MISSING,
        {
            "payment": (noted("payment", 3), waits("payment", 3, 6, "inventory-status")),
            "order": (shows("payment", "dead"),),
        },
    ),
    Plant(
        Kind.OFFSET_OUT_OF_RANGE,
        {
            "log": (
                (
                    "UPDATE group_offsets SET committed = 5 FROM groups, partitions, topics "
                    "WHERE groups.id = group_id AND groups.name = 'order.flow' "
                    "AND partitions.id = partition_id AND topics.id = topic_id "
                    "AND partitions.number = 0"
                ),
            )
        },
        subjects=("order.flow",),
    ),
)
PLANTS = (*ORDER_ROWS, *MONEY, *STOCK, *NOTIFICATIONS, *PASSAGE, *TOPICS)
