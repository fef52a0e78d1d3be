"""Every kind of corruption, planted among 100,000 clean orders: found on its orders, and nowhere else."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg
import pytest

from orderflow.audit.collect import Collector, ledgers
from orderflow.audit.databases import opened
from orderflow.audit.findings import Finding, Kind, Report
from orderflow.audit.live import Scope, audit
from orderflow.audit.orders import check_order
from orderflow.events.topics import PAYMENT_STATUS
from orderflow.messaging.dead_letters import topic_of
from orderflow.messaging.transport import ProducerRecord
from orderflow.messaging.transports import postgres_log
from tests.support.clean_books import fill
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases

ORDERS = 100_000
LEDGER = 20_000
FIRST = ORDERS - 5_000
BLOCK = 20
KINDS = {"completed": 0, "declined": 7, "refunded": 9}
NOBODY = "ffffffff-0000-7000-8000-000000000000"
COMPLETED_ONLY = ("movements", "idempotency_keys")
NEVER = "00000000-0000-7000-8000-000000000000"
FORGED = "fffffffe-0000-7000-8000-000000000000"

NOT_AT_REST = (Kind.INTENT_UNCALLED_FOR, Kind.INTENT_OPEN, Kind.EVENT_UNSENT, Kind.WORK_LEFT)
"""What cannot be there while all is at rest."""

Found = dict[Kind, set[str]]


@dataclass(frozen=True)
class Plant:
    """`sql` by database; `{ids}` stands for the two orders. `also` is what follows from it for the same orders, `of_all`
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
                "INSERT INTO bank_charges SELECT key || '?', order_id, amount, currency, payment_method, NULL, reference "
                "FROM bank_charges WHERE order_id IN {ids}",
            )
        },
    ),
    Plant(
        Kind.DOUBLE_REFUND,
        {
            "bank": (
                "INSERT INTO bank_refunds SELECT key || '?', charge, order_id, amount, currency, reference "
                "FROM bank_refunds WHERE order_id IN {ids}",
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
                "UPDATE payments SET status = 'REFUNDED', refunded = amount, refund_reference = 're' WHERE order_id IN {ids}",
            ),
            "bank": (
                "INSERT INTO bank_refunds SELECT 'r' || key, key, order_id, amount, currency, 're' FROM bank_charges "
                "WHERE order_id IN {ids}",
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
                f"INSERT INTO idempotency_keys SELECT 'wrong' || order_id, 'x', order_id, '{{{{\"id\":\"{NOBODY}\"}}}}' "
                "FROM orders WHERE order_id IN {ids} AND NOT EXISTS (SELECT FROM idempotency_keys AS known "
                "WHERE known.order_id = orders.order_id)",
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
                "UPDATE order_refunds SET refund = 'refused', reason = 'x' WHERE refund = 'done' AND order_id IN {ids}",
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
                "UPDATE movements SET reserved_change = reserved_change + 1, on_hand_change = on_hand_change - 1 "
                "WHERE cause IN {ids}",
            )
        },
        of_all={Kind.STOCK_NOT_AS_MOVED: ("{skus}",)},
    ),
    Plant(
        Kind.RESERVATION_TO_RELEASE,
        {
            "inventory": (
                "UPDATE reservations SET status = 'RESERVED', missing = '[]', "
                """lines = '[{{"sku": "SKU-6", "quantity": 1}}]' WHERE order_id IN {ids}""",
                "INSERT INTO movements SELECT 'SKU-6', stock.version + row_number() OVER (), 'reserve', order_id, -1, 1 "
                "FROM reservations, stock WHERE order_id IN {ids} AND stock.sku = 'SKU-6'",
                "UPDATE stock SET on_hand = on_hand - 2, reserved = reserved + 2, version = version + 2 "
                "WHERE sku = 'SKU-6'",
            )
        },
        "refunded",
        also=(Kind.EVENT_NEVER_SENT,),
    ),
    Plant(
        Kind.COMPLETED_WITHOUT_STOCK,
        {
            name: (
                f"UPDATE {table} SET items = jsonb_set(items, '{{{{0,sku}}}}', '\"SKU-49\"') WHERE order_id IN {{ids}}",
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
                "INSERT INTO notifications SELECT order_id, 'refunded', customer_id, NULL, text, gen_random_uuid() "
                "FROM notifications WHERE order_id IN {ids}",
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
                "INSERT INTO processed_events (key, consumer, identity, event_id, state) SELECT unnest(ARRAY[{list}]), "
                "'inventory', 'orderflow.PaymentSucceeded', gen_random_uuid(), 1",
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
                "DELETE FROM records USING partitions, topics WHERE partition_id = partitions.id "
                "AND topics.id = topic_id AND topics.name = 'inventory-status' AND convert_from(key, 'UTF8') IN {ids}",
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
                "INSERT INTO intents (key, kind, request, message_key, cause, attempts, due_at) SELECT 'charge:' || key, "
                "'charge', '{{}}', key, gen_random_uuid(), 0, now() FROM processed_events "
                "WHERE identity = 'orderflow.OrderPlaced' AND key IN {ids}",
            )
        },
    ),
    Plant(
        Kind.INTENT_OPEN,
        {
            "payment": (
                REFUND_DUE,
                "INSERT INTO intents (key, kind, request, message_key, cause, attempts, due_at, created_at) "
                "SELECT 'refund:' || key, 'refund', '{{}}', key, gen_random_uuid(), 0, now(), now() - interval '1 h' "
                "FROM processed_events WHERE identity = 'orderflow.OrderPlaced' AND key IN {ids}",
            )
        },
        "refunded",
        also=(Kind.FAILED_KEEPS_MONEY,),
    ),
    Plant(
        Kind.EVENT_UNSENT,
        {
            "order": (
                "INSERT INTO outbox (id, segment, slot, topic, headers, event_id, created_at) "
                "VALUES (999999999, 0, 0, 'order-events', '\\x90', gen_random_uuid(), now() - interval '1 h')",
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
                f"DELETE FROM records {ON_ORDER_EVENTS.replace('FROM', 'USING', 1)} "
                "AND position('OrderPlaced'::bytea IN headers) > 0",
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
                "UPDATE group_offsets SET committed = 5 FROM groups, partitions, topics WHERE groups.id = group_id "
                "AND groups.name = 'order.flow' AND partitions.id = partition_id AND topics.id = topic_id "
                "AND partitions.number = 0",
            )
        },
        subjects=("order.flow",),
    ),
)
PLANTS = (*ORDER_ROWS, *MONEY, *STOCK, *NOTIFICATIONS, *PASSAGE, *TOPICS)


class Planted:
    """The databases with everything planted, and what has to be found."""

    def __init__(self, made: Databases) -> None:
        self.made = made
        self.expected: Found = defaultdict(set)
        self.clean: Report | None = None
        self.broken: Report | None = None
        self._ids: list[str] = []

    async def prepare(self) -> None:
        await fill(self.made, ORDERS, LEDGER)
        rows = await fetch(self.made.urls["order"], "SELECT order_id FROM orders ORDER BY order_id")
        self._ids = [str(row["order_id"]) for row in rows]
        self.clean = await look(self.made)
        for place, plant in enumerate(PLANTS):
            await self.plant(plant, FIRST + place * BLOCK, self.expected)
        await self._shuffle(FIRST + len(PLANTS) * BLOCK)
        await self._forge()
        self.expected[Kind.ORDER_MISSING].add(NEVER)
        self.broken = await look(self.made, accepted=(NEVER, self._ids[0]))

    def untouched(self, place: int, of: str) -> str:
        """An order that nothing was planted on."""
        return self._ids[SPOIL_FROM + place * BLOCK + KINDS[of] - 1]

    async def plant(self, plant: Plant, first: int, expected: Found) -> None:
        """On two orders from number `first` on; what has to be found of them goes to `expected`."""
        numbers = [first + KINDS[plant.of] + step for step in (0, 10)]
        chosen = [self._ids[number - 1] for number in numbers]
        quoted = ", ".join(f"'{each}'" for each in chosen)
        for database, statements in plant.sql.items():
            filled = [each.format(ids=f"({quoted})", list=quoted, skus="{skus}") for each in statements]
            await change(self.made.urls[database], *filled)
        skus = tuple(f"SKU-{number % 50}" for number in numbers)
        for kind in (plant.kind, *plant.also):
            if kind not in plant.of_all:
                expected[kind].update(chosen if plant.subjects is None else plant.subjects)
        for kind, subjects in plant.of_all.items():
            for subject in subjects:
                expected[kind].update(skus if subject == "{skus}" else (subject,))

    async def _shuffle(self, number: int) -> None:
        """The two records of an order change places."""
        order_id, url = self._ids[number - 1], self.made.urls["log"]
        found = f'SELECT partition_id AS part, "offset" AS place {ON_ORDER_EVENTS}'.format(ids=f"('{order_id}')")
        first, second = await fetch(url, found.replace("FROM", "FROM records,", 1))
        moved = 'UPDATE records SET "offset" = {to} WHERE partition_id = {part} AND "offset" = {place}'
        part, one, other = first["part"], first["place"], second["place"]
        await change(
            url,
            moved.format(to=-1, part=part, place=one),
            moved.format(to=one, part=part, place=other),
            moved.format(to=other, part=part, place=-1),
        )
        self.expected[Kind.RECORDS_OUT_OF_ORDER].add(order_id)

    async def _forge(self) -> None:
        """Records that no service has made, and that all consumers have read."""
        transport = await postgres_log.PostgresLogTransport.connect(self.made.urls["log"])
        headers = (
            ("ce_id", FORGED.encode()),
            ("ce_source", b"/orderflow/payment"),
            ("dlt_event_id", FORGED.encode()),
        )
        try:
            await transport.append(
                [
                    ProducerRecord(topic, FORGED.encode(), b"{}", headers)
                    for topic in (PAYMENT_STATUS, topic_of(PAYMENT_STATUS))
                ]
            )
        finally:
            await transport.close()
        await change(
            self.made.urls["log"],
            "UPDATE group_offsets SET committed = greatest(committed, next_offset) FROM partitions "
            "WHERE partitions.id = partition_id",
        )
        self.expected[Kind.RECORD_FORGED].add(FORGED)
        self.expected[Kind.DEAD_LETTER_UNKNOWN].add(FORGED)


async def look(made: Databases, accepted: tuple[str, ...] = (), *, topics: bool = True) -> Report:
    transport = await postgres_log.PostgresLogTransport.connect(made.urls["log"])
    try:
        return await audit(made.urls, transport, wait_s=0.0, accepted=accepted, scope=Scope(topics=topics))
    finally:
        await transport.close()


async def fetch(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def change(url: str, *statements: str) -> None:
    """Break the books as no service could: triggers and foreign keys are out of force."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


TABLES: Mapping[str, Mapping[str, str]] = {
    "order": {
        "orders": "order_id",
        "order_history": "order_id",
        "order_refunds": "order_id",
        "idempotency_keys": "order_id",
        "processed_events": "key",
        "streams": "key",
        "outbox": "convert_from(key, 'UTF8')",
    },
    "payment": {"payments": "order_id", "processed_events": "key", "streams": "key"},
    "inventory": {"reservations": "order_id", "movements": "cause", "processed_events": "key", "streams": "key"},
    "notification": {"notifications": "order_id", "processed_events": "key"},
    "bank": {"bank_charges": "order_id", "bank_refunds": "order_id"},
}
SPOILED = {
    "text": "{column} || 'x'",
    "bigint": "{column} + 700000",
    "integer": "{column} + 700000",
    "smallint": "3",
    "uuid": "gen_random_uuid()",
    "jsonb": "'[]'",
}
COLUMNS = """SELECT column_name, data_type FROM information_schema.columns
    WHERE table_name = '{table}' AND column_name NOT IN ('order_id', 'key', 'cause', 'number') ORDER BY 1"""
RULES = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = '{table}'::regclass"
SPOIL_FROM = ORDERS - 3_000


async def spoil(planted: Planted) -> set[str]:
    """One value of one row, or the row itself, of each order chosen; returns the orders."""
    spoiled: set[str] = set()
    for database, tables in TABLES.items():
        url = planted.made.urls[database]
        for table, key in tables.items():
            for row in await fetch(url, RULES.format(table=table)):
                await change(url, f"ALTER TABLE {table} DROP CONSTRAINT {row['conname']}")
            columns = {row["column_name"]: row["data_type"] for row in await fetch(url, COLUMNS.format(table=table))}
            changes = [
                f"UPDATE {table} SET {name} = {SPOILED[kind].format(column=name)}"
                for name, kind in columns.items()
                if kind in SPOILED and table != "outbox"
            ]
            for begun in [*changes, f"DELETE FROM {table}"]:
                order_id = planted.untouched(len(spoiled), "completed" if table in COMPLETED_ONLY else "refunded")
                one = f"SELECT ctid FROM {table} WHERE {key} = '{order_id}' LIMIT 1"
                await change(url, f"{begun} WHERE {key} = '{order_id}' AND ctid = ({one})")
                spoiled.add(order_id)
    return spoiled


def names(findings: Iterable[Finding]) -> Counter[tuple[Kind, str]]:
    return Counter((finding.kind, finding.subject) for finding in findings)


@pytest.fixture(scope="module")
def planted(postgres: PostgresServer) -> Iterator[Planted]:
    with databases(postgres, *SERVICES) as made:
        planted = Planted(made)
        asyncio.run(planted.prepare())
        yield planted


def test_clean_books_have_no_findings(planted: Planted) -> None:
    report = planted.clean
    assert report is not None
    assert (report.at_rest, report.orders, report.count, report.findings) == (True, ORDERS, 0, [])
    assert report.statuses == {"COMPLETED": ORDERS * 8 // 10, "FAILED": ORDERS * 2 // 10}
    assert report.judged == 0
    assert report.records == LEDGER * 4


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in NOT_AT_REST])
def test_a_kind_is_found_where_it_was_planted_and_nowhere_else(planted: Planted, kind: Kind) -> None:
    assert planted.broken is not None
    assert planted.broken.at_rest
    found = {finding.subject for finding in planted.broken.findings if finding.kind is kind}
    assert planted.expected[kind]
    assert found == planted.expected[kind]


async def test_what_the_judge_finds_falls_through_the_sieve(planted: Planted) -> None:
    """Every column of every row of some orders, each spoiled on an order of its own."""
    spoiled = await spoil(planted)
    report = await look(planted.made, topics=False)
    async with opened(planted.made.urls) as reading, reading.snapshots():
        collector = Collector(reading, await ledgers(reading))
        judged = [
            finding async for books in collector.orders(spoiled) for finding in check_order(books, at_rest=True)
        ]
    assert len({finding.subject for finding in judged}) > len(spoiled) // 2
    assert names(judged) == names(finding for finding in report.findings if finding.subject in spoiled)


async def test_what_lasts_is_told_also_while_something_is_under_way(planted: Planted) -> None:
    """Each finding of an order was there at two looks; what was not open before is found as well."""
    before = await look(planted.made, topics=False)
    asked: Found = defaultdict(set)
    for place, plant in enumerate(UNDER_WAY):
        await planted.plant(plant, FIRST - (place + 1) * BLOCK, asked)

    report = await look(planted.made, topics=False)

    assert (before.at_rest, report.at_rest) == (True, False)
    new = names(report.findings) - names(before.findings)
    assert set(new) == {(kind, subject) for kind, subjects in asked.items() for subject in subjects}
    assert names(before.findings) - names(report.findings) == Counter()
