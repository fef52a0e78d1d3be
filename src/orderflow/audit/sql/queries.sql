-- name: next_orders
-- The last id of the next chunk of orders after $1, at most $2 long; no row when there is none.
SELECT order_id AS last
FROM (SELECT order_id FROM orders WHERE order_id > $1 ORDER BY order_id LIMIT $2) AS chunk
ORDER BY order_id DESC
LIMIT 1;

-- name: orders
-- The orders of a chunk.
SELECT order_id, status, version, event, currency, total, items::text AS items, refund
FROM orders
WHERE order_id > $1 AND order_id <= $2;

-- name: flow
-- Where the orders of a chunk are said to be stuck.
SELECT order_id, stuck::text AS stuck
FROM order_flow
WHERE order_id > $1 AND order_id <= $2;

-- name: history
-- The transitions of the orders of a chunk.
SELECT order_id, version, from_status, event, to_status
FROM order_history
WHERE order_id > $1 AND order_id <= $2;

-- name: payments
-- The payments of a chunk.
SELECT order_id, status, currency, amount, captured, refunded, charge_reference, refund_reference, reason
FROM payments
WHERE order_id > $1 AND order_id <= $2;

-- name: bank
-- What the bank has done for the orders of a chunk.
SELECT order_id, 'charge' AS kind, key, currency, amount
FROM bank_charges
WHERE decline_code IS NULL AND order_id > $1 AND order_id <= $2
UNION ALL
SELECT order_id, 'refund', key, currency, amount
FROM bank_refunds
WHERE order_id > $1 AND order_id <= $2;

-- name: reservations
-- What inventory decided for the orders of a chunk.
SELECT order_id, status, lines::text AS lines
FROM reservations
WHERE order_id > $1 AND order_id <= $2;

-- name: movements
-- What was taken from the stock for the orders of a chunk.
SELECT cause AS order_id, sku, reserved_change AS quantity
FROM movements
WHERE kind = 'reserve' AND cause > $1 AND cause <= $2;

-- name: notifications
-- What customers were told of the orders of a chunk.
SELECT order_id, outcome
FROM notifications
WHERE order_id > $1 AND order_id <= $2;

-- name: parked
-- What waits for another try or an operator, of the orders of a chunk. The keys are the ids as text.
SELECT key, consumer, event_type, state, attempts
FROM parked_events
WHERE key > $1 AND key <= $2
ORDER BY position;

-- name: intents
-- What the outside world has not answered yet, of the orders of a chunk.
SELECT message_key, key
FROM intents
WHERE message_key COLLATE "C" > $1 AND message_key COLLATE "C" <= $2;

-- name: stock
-- Every SKU with its movements added up.
SELECT stock.sku, stock.on_hand, stock.reserved,
    coalesce(moved.adjusted, 0)::bigint AS adjusted, coalesce(moved.moved, 0)::bigint AS moved
FROM stock
LEFT JOIN (
    SELECT sku, sum(on_hand_change + reserved_change) AS adjusted, sum(reserved_change) AS moved
    FROM movements
    GROUP BY sku
) AS moved USING (sku)
ORDER BY stock.sku;

-- name: held
-- What all reservations together hold of each SKU.
SELECT line ->> 'sku' AS sku, sum((line ->> 'quantity')::bigint)::bigint AS held
FROM reservations, jsonb_array_elements(lines) AS line
GROUP BY 1;

-- name: under_way
-- What one service has still to do. `written` grows with every event that it publishes.
SELECT
    (SELECT count(*) FROM outbox_pending) AS unsent,
    (SELECT count(*) FROM intents) AS open_intents,
    (SELECT count(*) FROM parked_events WHERE state = 2 AND attempts > 0) AS retrying,
    (SELECT last_value FROM outbox_id) AS written;
