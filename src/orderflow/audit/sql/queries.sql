-- name: last_ids
-- The last order of each chunk of $1 orders.
SELECT order_id FROM (SELECT order_id, row_number() OVER (ORDER BY order_id) AS number FROM orders) AS numbered
WHERE number % $1 = 0
ORDER BY order_id;

-- name: statuses
-- How many orders there are of each status.
SELECT status, count(*) AS orders FROM orders GROUP BY status;

-- name: absent
-- Of these orders those that are not there.
SELECT wanted.order_id FROM unnest($1::uuid[]) AS wanted (order_id)
WHERE NOT EXISTS (SELECT FROM orders WHERE orders.order_id = wanted.order_id);

-- name: odd_orders
-- Orders that are stuck, whose refund is not as its steps end, or whose Idempotency-Keys are not one that answers with
-- them.
SELECT order_id FROM order_flow WHERE stuck <> '{}'
UNION
SELECT order_id
FROM (SELECT DISTINCT ON (order_id) order_id, refund FROM order_refunds ORDER BY order_id, number DESC) AS last
FULL JOIN (SELECT order_id, refund FROM orders WHERE refund <> 'none') AS orders USING (order_id)
WHERE last.refund IS DISTINCT FROM orders.refund
UNION
SELECT keys.order_id FROM idempotency_keys AS keys LEFT JOIN orders USING (order_id)
WHERE orders.order_id IS NULL OR substring(keys.response FROM '"id" *: *"([^"]*)"') IS DISTINCT FROM keys.order_id::text
UNION
SELECT order_id FROM idempotency_keys GROUP BY order_id HAVING count(*) > 1;

-- name: busy_keys
-- Keys of which something waits, is unsent or is asked, in one service.
SELECT key FROM parked_events
UNION
SELECT message_key COLLATE "C" FROM intents
UNION
SELECT encode(key, 'escape') COLLATE "C" FROM outbox JOIN outbox_pending USING (id, segment) WHERE key IS NOT NULL;

-- name: ledger
-- Since when the outbox has kept everything: the row that was written first of those that are there.
SELECT id, created_at FROM outbox ORDER BY id LIMIT 1;

-- name: begun
-- Since when the service has its database.
SELECT min(applied_at) AS at FROM schema_migrations WHERE sequence_name = 'core';

-- name: first_received
-- When a consumer ($1) had the first event of each of the types $2, and, as '', of any other.
SELECT CASE WHEN identity = ANY ($2::text[]) THEN identity ELSE '' END AS type, min(at) AS at
FROM processed_events
WHERE consumer = $1::text
GROUP BY 1;

-- name: unsent
-- What the log has not acknowledged for $1 seconds, and marks of rows that are gone.
SELECT count(*) AS unsent, min(created_at) AS since, count(*) FILTER (WHERE created_at IS NULL) AS gone
FROM outbox_pending LEFT JOIN outbox USING (id, segment)
WHERE created_at IS NULL OR created_at < clock_timestamp() - $1::integer * interval '1 s';

-- name: orders
-- Orders, with what their items add up to.
SELECT order_id, status, version, event, currency, total, customer_id, items::text AS items, refund,
    early ->> 'event' AS early,
    (
        SELECT sum((line ->> 'quantity')::bigint * (line ->> 'unit_price')::bigint)::bigint
        FROM jsonb_array_elements(items) AS line
    ) AS items_total,
    coalesce((SELECT max(at) FROM order_history WHERE order_history.order_id = orders.order_id), created_at) AS since
FROM orders
WHERE order_id = ANY ($1::uuid[]);

-- name: flow
-- Where orders are said to be stuck.
SELECT order_id, stuck::text AS stuck FROM order_flow WHERE order_id = ANY ($1::uuid[]);

-- name: history
-- The transitions of orders.
SELECT order_id, version, from_status, event, to_status, cause, at
FROM order_history
WHERE order_id = ANY ($1::uuid[]);

-- name: refunds
-- The steps of orders' refunds, in order.
SELECT order_id, refund, event, cause FROM order_refunds WHERE order_id = ANY ($1::uuid[]) ORDER BY number;

-- name: keys
-- The Idempotency-Keys of orders, and what is answered to them.
SELECT order_id, idempotency_key, response FROM idempotency_keys WHERE order_id = ANY ($1::uuid[]);

-- name: payments
-- The payments of orders.
SELECT order_id, status, currency, amount, captured, refunded, customer_id, charge_reference, refund_reference, reason,
    changed_at
FROM payments
WHERE order_id = ANY ($1::uuid[]);

-- name: bank
-- What the bank has done for orders.
SELECT order_id, 'charge' AS kind, key, currency, amount, at
FROM bank_charges
WHERE decline_code IS NULL AND order_id = ANY ($1::uuid[])
UNION ALL
SELECT order_id, 'refund', key, currency, amount, at
FROM bank_refunds
WHERE order_id = ANY ($1::uuid[]);

-- name: reservations
-- What inventory decided for orders.
SELECT order_id, status, lines::text AS lines, created_at FROM reservations WHERE order_id = ANY ($1::uuid[]);

-- name: movements
-- What was taken from the stock for orders, and what was given back.
SELECT cause AS order_id, sku, reserved_change AS quantity
FROM movements
WHERE kind = 'reserve' AND cause = ANY ($1::uuid[])
UNION ALL
SELECT order_id, sku, reserved_change
FROM reservations
JOIN movements ON movements.cause = released_by
WHERE released_by IS NOT NULL AND order_id = ANY ($1::uuid[]);

-- name: notifications
-- What customers were told of orders.
SELECT order_id, outcome FROM notifications WHERE order_id = ANY ($1::uuid[]);

-- name: parked
-- What waits for another try or an operator, of these keys.
SELECT key, consumer, identity, event_type, state, attempts, parked_at, topic
FROM parked_events
WHERE key = ANY ($1::text[])
ORDER BY position;

-- name: intents
-- What the outside world has not answered yet, of these keys; and whether it has not for $2 seconds.
SELECT message_key, key, created_at < clock_timestamp() - $2::integer * interval '1 s' AS overdue
FROM intents
WHERE message_key = ANY ($1::text[]);

-- name: inbox
-- What came in of these keys.
SELECT key, consumer, identity, event_id, state, at FROM processed_events WHERE key = ANY ($1::text[]);

-- name: outbox
-- What went out of these keys, and whether the log has acknowledged it.
SELECT convert_from(key, 'UTF8') AS key, topic, event_id, headers, created_at,
    NOT EXISTS (SELECT FROM outbox_pending WHERE outbox_pending.id = outbox.id) AS is_sent
FROM outbox
WHERE key = ANY ($1::bytea[])
ORDER BY id;

-- name: streams
-- How many events each source has numbered of these keys.
SELECT key, source, emitted FROM streams WHERE key = ANY ($1::text[]);

-- name: stock
-- Every SKU with its movements added up.
SELECT stock.sku, stock.on_hand, stock.reserved, stock.version, coalesce(moved.steps, 0) AS steps,
    coalesce(moved.adjusted, 0)::bigint AS adjusted, coalesce(moved.moved, 0)::bigint AS moved
FROM stock
LEFT JOIN (
    SELECT sku, sum(on_hand_change + reserved_change) AS adjusted, sum(reserved_change) AS moved, count(*) AS steps
    FROM movements
    GROUP BY sku
) AS moved USING (sku)
ORDER BY stock.sku;

-- name: held
-- What all reservations together hold of each SKU.
SELECT line ->> 'sku' AS sku, sum((line ->> 'quantity')::bigint)::bigint AS held
FROM reservations, jsonb_array_elements(lines) AS line
WHERE status = 'RESERVED'
GROUP BY 1;

-- name: under_way
-- What one service has still to do. `written` grows with every event that it publishes, `first` is the oldest that the
-- log has not acknowledged.
SELECT
    (SELECT count(*) FROM outbox_pending) AS unsent,
    (SELECT count(*) FROM intents) AS open_intents,
    (SELECT count(*) FROM parked_events WHERE state = 2 AND attempts > 0) AS retrying,
    (SELECT last_value FROM outbox_id) AS written,
    (SELECT min(id) FROM outbox_pending) AS first;

-- name: ledger_rows
-- What was published, in order, after number $1: at most $2. `digest` is of key and value, `is_sent` what the log has.
SELECT id, topic, coalesce(key, '') AS key, event_id::text AS event_id, created_at,
    md5(coalesce(key, '') || '\x00'::bytea || coalesce(value, '')) AS digest,
    NOT EXISTS (SELECT FROM outbox_pending WHERE outbox_pending.id = outbox.id) AS is_sent
FROM outbox
WHERE id > $1
ORDER BY id
LIMIT $2;

-- name: ledger_find
-- What of these events was published.
SELECT topic, event_id::text AS event_id, md5(coalesce(key, '') || '\x00'::bytea || coalesce(value, '')) AS digest
FROM outbox
WHERE event_id = ANY ($1::uuid[]);

-- name: letters_missing
-- Events that were given up since $1, and of which no dead letter was written.
SELECT parked.key, parked.event_id, parked.event_type, parked.topic, parked.last_failed_at
FROM parked_events AS parked
LEFT JOIN edited_events AS original USING (position)
WHERE parked.state = 3 AND parked.topic <> '' AND parked.last_failed_at >= $1 AND NOT EXISTS (
    SELECT FROM outbox
    WHERE outbox.topic = parked.topic || '.DLT' AND outbox.event_id IN (parked.event_id, original.event_id)
);

-- name: letters_unknown
-- Dead letters of events that were never given up, since the history of these is kept (the core's third migration).
SELECT coalesce(encode(key, 'escape'), '') AS key, event_id, topic, created_at
FROM outbox
WHERE topic LIKE '%.DLT' AND created_at > (
    SELECT applied_at FROM schema_migrations WHERE sequence_name = 'core' AND number = 3
) AND NOT EXISTS (
    SELECT FROM parked_history AS history WHERE history.event_id = outbox.event_id AND history.moment = 'dead'
);
