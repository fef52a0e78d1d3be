"""Databases full of orders that came to their end, in good order: written by SQL, as the services would leave them.

Of ten orders seven were completed with one line, one with two, one was declined, and one was out of stock and
refunded. The outboxes and the topics go back no further than the newest `ledger` orders, as after a purge.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from orderflow.core import postgres_log
from orderflow.core.dead_letters import FLOW_STATUS, topic_of
from orderflow.core.postgres.recovery import encode_headers
from orderflow.core.transport import TopicSettings
from orderflow.events.base import INVENTORY_STATUS, ORDER_EVENTS, PAYMENT_STATUS
from tests.support.damage import unguarded
from tests.support.saga import SERVICES, Databases

STEP_MS = 36
"""Between one order and the next."""
PARTITIONS = 4
ID_LENGTH = 36
SKUS = 50
FAST = "SET synchronous_commit = off"
CONSUMERS: Mapping[str, tuple[str, ...]] = {
    "order": (PAYMENT_STATUS, INVENTORY_STATUS),
    "order.flow": (FLOW_STATUS,),
    "payment": (ORDER_EVENTS, INVENTORY_STATUS),
    "inventory": (PAYMENT_STATUS,),
    "notification": (PAYMENT_STATUS, INVENTORY_STATUS),
}
CAME_IN: Mapping[str, Sequence[tuple[str, str]]] = {
    "order": (
        ("PaymentSucceeded", "kind <> 'declined'"),
        ("PaymentFailed", "kind = 'declined'"),
        ("StockReserved", "kind = 'completed'"),
        ("StockRejected", "kind = 'refunded'"),
        ("PaymentRefunded", "kind = 'refunded'"),
    ),
    "payment": (("OrderPlaced", "true"), ("StockRejected", "kind = 'refunded'")),
    "inventory": (("PaymentSucceeded", "kind <> 'declined'"),),
    "notification": (
        ("PaymentFailed", "kind = 'declined'"),
        ("StockReserved", "kind = 'completed'"),
        ("StockRejected", "kind = 'refunded'"),
        ("PaymentRefunded", "kind = 'refunded'"),
    ),
}
WENT_OUT: Mapping[str, Sequence[tuple[str, str, int, str]]] = {
    "order": (
        (ORDER_EVENTS, "OrderPlaced", 1, "true"),
        (ORDER_EVENTS, "OrderCompleted", 2, "kind = 'completed'"),
        (ORDER_EVENTS, "OrderFailed", 2, "kind <> 'completed'"),
    ),
    "payment": (
        (PAYMENT_STATUS, "PaymentSucceeded", 1, "kind <> 'declined'"),
        (PAYMENT_STATUS, "PaymentFailed", 1, "kind = 'declined'"),
        (PAYMENT_STATUS, "PaymentRefunded", 2, "kind = 'refunded'"),
    ),
    "inventory": (
        (INVENTORY_STATUS, "StockReserved", 1, "kind = 'completed'"),
        (INVENTORY_STATUS, "StockRejected", 1, "kind = 'refunded'"),
    ),
    "notification": (),
}
CLEAN = """
CREATE TEMP TABLE clean AS
SELECT i, at, kind, order_id, customer_id,
    CASE WHEN i % 10 = 8 THEN 2 ELSE 1 END * 500 AS total,
    CASE WHEN i % 10 = 8
        THEN jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', 1, 'unit_price', 500),
                               jsonb_build_object('sku', other, 'quantity', 2, 'unit_price', 250))
        ELSE jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', 2, 'unit_price', 250)) END AS items,
    CASE WHEN i % 10 = 8
        THEN jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', 1),
                               jsonb_build_object('sku', other, 'quantity', 2))
        ELSE jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', 2)) END AS lines
FROM (
    SELECT i, 'customer-' || i % 1000 AS customer_id,
        'SKU-' || i % {skus} AS sku, 'SKU-' || (i + 7) % {skus} AS other,
        CASE i % 10 WHEN 7 THEN 'declined' WHEN 9 THEN 'refunded' ELSE 'completed' END AS kind,
        to_timestamp(({begun} + i * {step}) / 1000.0) AS at,
        (lpad(to_hex({begun} + i * {step}), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8'
            || substr(md5(i::text), 4, 15))::uuid AS order_id
    FROM generate_series(1, {orders}) AS i
) AS numbered
"""
EVENT_ID = "md5('{event}' || order_id)::uuid"
ORDER_ROWS = """
INSERT INTO orders (order_id, customer_id, currency, items, total, payment_method, status, version, event, reason,
    refund, created_at)
SELECT order_id, customer_id, 'EUR', items, total, 'pm_card_visa',
    CASE kind WHEN 'completed' THEN 'COMPLETED' ELSE 'FAILED' END, CASE kind WHEN 'declined' THEN 2 ELSE 3 END,
    CASE kind WHEN 'completed' THEN 'StockReserved' WHEN 'declined' THEN 'PaymentFailed' ELSE 'StockRejected' END,
    CASE kind WHEN 'declined' THEN 'card_declined' WHEN 'refunded' THEN 'out_of_stock' END,
    CASE kind WHEN 'refunded' THEN 'done' ELSE 'none' END, at
FROM clean;
INSERT INTO order_history (order_id, version, from_status, event, to_status, cause, at)
SELECT order_id, 2, 'PENDING', 'PaymentSucceeded', 'PAID', {succeeded}, at FROM clean WHERE kind <> 'declined'
UNION ALL
SELECT order_id, 2, 'PENDING', 'PaymentFailed', 'FAILED', {failed}, at FROM clean WHERE kind = 'declined'
UNION ALL
SELECT order_id, 3, 'PAID', 'StockReserved', 'COMPLETED', {reserved}, at FROM clean WHERE kind = 'completed'
UNION ALL
SELECT order_id, 3, 'PAID', 'StockRejected', 'FAILED', {rejected}, at FROM clean WHERE kind = 'refunded';
INSERT INTO order_refunds (order_id, version, refund, event, cause)
SELECT order_id, 3, 'due', 'StockRejected', {rejected} FROM clean WHERE kind = 'refunded' ORDER BY i;
INSERT INTO order_refunds (order_id, version, refund, event, cause)
SELECT order_id, 3, 'done', 'PaymentRefunded', {refunded} FROM clean WHERE kind = 'refunded' ORDER BY i;
INSERT INTO idempotency_keys (idempotency_key, fingerprint, order_id, response)
SELECT 'key-' || i, 'as asked', order_id, '{{"id":"' || order_id || '"}}' FROM clean WHERE i % 4 = 0
"""
PAYMENT_ROWS = """
INSERT INTO payments (order_id, customer_id, currency, items, amount, payment_method, status, version, event,
    captured, refunded, reason, charge_reference, refund_reference, created_at, changed_at)
SELECT order_id, customer_id, 'EUR', items, total, 'pm_card_visa',
    CASE kind WHEN 'completed' THEN 'CAPTURED' WHEN 'declined' THEN 'DECLINED' ELSE 'REFUNDED' END,
    CASE kind WHEN 'refunded' THEN 4 ELSE 2 END,
    CASE kind WHEN 'completed' THEN 'ChargeApproved' WHEN 'declined' THEN 'ChargeRefused' ELSE 'RefundApproved' END,
    CASE kind WHEN 'declined' THEN 0 ELSE total END, CASE kind WHEN 'refunded' THEN total ELSE 0 END,
    CASE kind WHEN 'declined' THEN 'card_declined' END, CASE WHEN kind <> 'declined' THEN 'ch_' || i END,
    CASE kind WHEN 'refunded' THEN 're_' || i END, at, at
FROM clean;
INSERT INTO processed_events (key, consumer, identity, event_id, state, at)
SELECT order_id::text, 'payment', answer::text, answer, 1, at
FROM clean CROSS JOIN LATERAL (SELECT md5('charge' || order_id)::uuid AS answer) AS answered
"""
INVENTORY_ROWS = """
INSERT INTO reservations (order_id, status, lines, missing, created_at)
SELECT order_id, CASE kind WHEN 'completed' THEN 'RESERVED' ELSE 'REJECTED' END,
    CASE kind WHEN 'completed' THEN lines ELSE '[]' END,
    CASE kind WHEN 'completed' THEN '[]' ELSE '[{{"sku": "SKU-0", "requested": 2, "available": 0}}]'::jsonb END, at
FROM clean WHERE kind <> 'declined';
INSERT INTO movements (sku, version, kind, cause, on_hand_change, reserved_change)
SELECT 'SKU-' || n, 1, 'set', gen_random_uuid(), 1000000, 0 FROM generate_series(0, {skus} - 1) AS n;
INSERT INTO movements (sku, version, kind, cause, on_hand_change, reserved_change, at)
SELECT line ->> 'sku', 1 + row_number() OVER (PARTITION BY line ->> 'sku' ORDER BY i), 'reserve', order_id,
    -(line ->> 'quantity')::bigint, (line ->> 'quantity')::bigint, at
FROM clean CROSS JOIN LATERAL jsonb_array_elements(lines) AS line WHERE kind = 'completed';
INSERT INTO stock (sku, on_hand, reserved, version)
SELECT sku, sum(on_hand_change), sum(reserved_change), max(version) FROM movements GROUP BY sku
"""
NOTIFICATION_ROWS = """
INSERT INTO notifications (order_id, outcome, customer_id, reason, text, cause, at)
SELECT order_id, CASE kind WHEN 'completed' THEN 'completed' ELSE 'failed' END, customer_id,
    CASE kind WHEN 'declined' THEN 'card_declined' WHEN 'refunded' THEN 'out_of_stock' END, 'told',
    CASE kind WHEN 'completed' THEN {reserved} WHEN 'declined' THEN {failed} ELSE {rejected} END, at
FROM clean;
INSERT INTO notifications (order_id, outcome, customer_id, reason, text, cause, at)
SELECT order_id, 'refunded', customer_id, NULL, 'told', {refunded}, at FROM clean WHERE kind = 'refunded'
"""
BANK_ROWS = """
INSERT INTO bank_charges (key, order_id, amount, currency, payment_method, decline_code, reference, at)
SELECT 'charge:' || order_id, order_id, total, 'EUR', 'pm_card_visa',
    CASE kind WHEN 'declined' THEN 'card_declined' END, 'ch_' || i, at
FROM clean;
INSERT INTO bank_refunds (key, charge, order_id, amount, currency, reference, at)
SELECT 'refund:' || order_id, 'charge:' || order_id, order_id, total, 'EUR', 're_' || i, at
FROM clean WHERE kind = 'refunded'
"""
BUSINESS: Mapping[str, str] = {
    "order": ORDER_ROWS,
    "payment": PAYMENT_ROWS,
    "inventory": INVENTORY_ROWS,
    "notification": NOTIFICATION_ROWS,
    "bank": BANK_ROWS,
}


async def fill(made: Databases, orders: int, ledger: int) -> None:
    """Migrate the databases and write `orders` orders, the newest placed a minute ago."""
    await made.migrate()
    begun = int(time.time() * 1000) - 60_000 - orders * STEP_MS
    clean = CLEAN.format(begun=begun, step=STEP_MS, orders=orders, skus=SKUS)
    oldest = orders - ledger
    await asyncio.gather(
        *(_fill_service(made.urls[name], name, clean, oldest) for name in SERVICES),
        unguarded(made.urls["bank"], FAST, clean, BUSINESS["bank"], "ANALYZE"),
        _fill_log(made.urls["log"], clean, oldest),
    )


async def _fill_service(url: str, service: str, clean: str, oldest: int) -> None:
    """`oldest` is the number before that of the first order that the outbox has kept."""
    names = {
        name: EVENT_ID.format(event=event)
        for name, event in (
            ("succeeded", "PaymentSucceeded"),
            ("failed", "PaymentFailed"),
            ("refunded", "PaymentRefunded"),
            ("reserved", "StockReserved"),
            ("rejected", "StockRejected"),
        )
    }
    came_in = [
        f"INSERT INTO processed_events (key, consumer, identity, event_id, state, at) "
        f"SELECT order_id::text, '{service}', 'orderflow.{event}', {EVENT_ID.format(event=event)}, 1, at "
        f"FROM clean WHERE {when}"
        for event, when in CAME_IN[service]
    ]
    went_out = _union(service, oldest)
    published = [
        (
            f"INSERT INTO outbox (id, segment, slot, topic, key, value, headers, event_id, created_at) "
            f"SELECT 1000 + row_number() OVER (ORDER BY i, sequence), 0, 0, topic, key, value, "
            f"'\\x98'::bytea || headers, event_id, at FROM ({went_out}) AS published"
        ),
        "SELECT setval('outbox_id', coalesce((SELECT max(id) FROM outbox), 1))",
        (
            f"INSERT INTO streams (key, source, emitted) SELECT key, '/orderflow/{service}', max(sequence) "
            f"FROM ({_counted(service)}) AS published GROUP BY key"
        ),
    ]
    await unguarded(
        url,
        FAST,
        clean,
        BUSINESS[service].format(**names, skus=SKUS),
        *came_in,
        *(published if went_out else ()),
        "ANALYZE",
    )


def _union(service: str, oldest: int) -> str:
    return " UNION ALL ".join(
        f"SELECT i, {sequence} AS sequence, '{topic}' AS topic, convert_to(order_id::text, 'UTF8') AS key, "
        f"""convert_to('{{"order_id":"' || order_id || '"}}', 'UTF8') AS value, """
        f"{_headers(service, event, sequence)} AS headers, {EVENT_ID.format(event=event)} AS event_id, "
        f"at + interval '{sequence} ms' AS at FROM clean WHERE i > {oldest} AND {when}"
        for topic, event, sequence, when in WENT_OUT[service]
    )


def _counted(service: str) -> str:
    return " UNION ALL ".join(
        f"SELECT order_id::text AS key, {sequence} AS sequence FROM clean WHERE {when}"
        for _, _, sequence, when in WENT_OUT[service]
    )


def _headers(service: str, event: str, sequence: int) -> str:
    """The eight headers of an event in the outbox, without the byte that says how many there are, as SQL."""
    names = {"\x01" * ID_LENGTH: EVENT_ID.format(event=event), "\x02" * ID_LENGTH: "order_id"}
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"\x01" * ID_LENGTH),
        ("ce_type", f"orderflow.{event}.v1".encode()),
        ("ce_source", f"/orderflow/{service}".encode()),
        ("ce_subject", b"\x02" * ID_LENGTH),
        ("content-type", b"application/json"),
        ("ce_sequence", b"%d" % sequence),
        ("ce_causationid", b"\x01" * ID_LENGTH),
    )
    packed = encode_headers(headers)[1:]
    places = sorted((at, sql) for name, sql in names.items() for at in _found(packed, name.encode()))
    parts, start = list[str](), 0
    for at, sql in places:
        parts.append(f"'\\x{packed[start:at].hex()}'::bytea || convert_to(({sql})::text, 'UTF8')")
        start = at + ID_LENGTH
    return " || ".join([*parts, f"'\\x{packed[start:].hex()}'::bytea"])


def _found(packed: bytes, name: bytes) -> list[int]:
    return [at for at in range(len(packed)) if packed.startswith(name, at)]


async def _fill_log(url: str, clean: str, oldest: int) -> None:
    transport = await postgres_log.PostgresLogTransport.connect(url)
    names = (ORDER_EVENTS, PAYMENT_STATUS, INVENTORY_STATUS, FLOW_STATUS)
    letters = tuple(map(topic_of, names))
    try:
        await transport.create_topics([TopicSettings(name, PARTITIONS) for name in (*names, *letters)])
    finally:
        await transport.close()
    events = " UNION ALL ".join(_union(service, oldest) for service in ("order", "payment", "inventory"))
    time_header = encode_headers((("ce_time", b"\x01" * 24),))[1:].hex().replace("01" * 24, "")
    ce_time = "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
    records = (
        'INSERT INTO records (segment, partition_id, "offset", at_ms, key, value, headers) '
        "SELECT 0, partitions.id, row_number() OVER (PARTITION BY partitions.id ORDER BY i, sequence) - 1, "
        "(extract(epoch FROM at) * 1000)::bigint + 20, key, value, "
        f"'\\x99'::bytea || headers || '\\x{time_header}'::bytea || convert_to({ce_time}, 'UTF8') "
        f"FROM ({events}) AS event JOIN topics ON topics.name = event.topic "
        f"JOIN partitions ON partitions.topic_id = topics.id AND partitions.number = i % {PARTITIONS}"
    )
    ends = (
        'UPDATE partitions SET next_offset = ends.last + 1 FROM (SELECT partition_id, max("offset") AS last '
        "FROM records GROUP BY partition_id) AS ends WHERE ends.partition_id = partitions.id"
    )
    joined = [
        f"WITH made AS (INSERT INTO groups (name) VALUES ('{group}') RETURNING id) "
        "INSERT INTO group_offsets (group_id, partition_id, committed) "
        "SELECT made.id, partitions.id, partitions.next_offset FROM made, partitions "
        f"JOIN topics ON topics.id = partitions.topic_id WHERE topics.name = ANY (ARRAY{list(topics)})"
        for group, topics in CONSUMERS.items()
    ]
    await unguarded(url, FAST, clean, records, ends, *joined, "ANALYZE")
