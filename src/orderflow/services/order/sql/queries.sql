-- name: purge_keys
-- remove a few idempotency keys older than $1 seconds; they are skipped where somebody holds them
WITH old AS (
    SELECT idempotency_key FROM idempotency_keys
    WHERE created_at < now() - $1::double precision * interval '1 second'
    ORDER BY created_at LIMIT $2::integer FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM idempotency_keys USING old
    WHERE idempotency_keys.idempotency_key = old.idempotency_key RETURNING 1
)
SELECT count(*) AS purged FROM gone

-- name: count_unfinished
-- how many orders are unfinished, counting no further than $1; in the order of their index, to be read from there
SELECT count(*) AS unfinished FROM (
    SELECT FROM orders WHERE status IN ('PENDING', 'PAID') ORDER BY order_id LIMIT $1::integer
) AS counted

-- name: finished_among
-- which of these orders have come to their end
SELECT order_id FROM orders WHERE order_id = ANY ($1::uuid[]) AND status IN ('COMPLETED', 'FAILED')

-- name: show_order
-- one order with its history and where it is stuck
SELECT orders.order_id, customer_id, currency, items, total, payment_method, status, version, orders.event, reason,
    refund, early, created_at, shop, order_flow.stuck, order_flow.changed_at AS stuck_since,
    (
        SELECT jsonb_agg(jsonb_build_object(
            'version', step.version, 'status', to_status, 'event', step.event, 'cause', cause, 'at', at
        ) ORDER BY step.version)
        FROM order_history AS step WHERE step.order_id = orders.order_id
    ) AS history,
    (
        SELECT jsonb_agg(jsonb_build_object(
            'version', step.version, 'refund', step.refund, 'event', step.event, 'reason', step.reason,
            'cause', cause, 'at', at
        ) ORDER BY number)
        FROM order_refunds AS step WHERE step.order_id = orders.order_id
    ) AS refunds
FROM orders LEFT JOIN order_flow USING (order_id)
WHERE orders.order_id = $1::uuid

-- name: list_orders
-- a page of all orders, newest first
SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
FROM orders WHERE order_id < $1::uuid AND $3::text IS NULL ORDER BY order_id DESC LIMIT $2::integer

-- name: list_ending
-- orders whose id ends with these digits, among the newest million, whose ids are read from the index alone
SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
FROM orders WHERE order_id = ANY (ARRAY(
    SELECT order_id FROM (SELECT order_id FROM orders ORDER BY order_id DESC LIMIT 1000000) AS newest
    WHERE right(replace(order_id::text, '-', ''), length($1::text)) = $1
    LIMIT $2::integer
))
ORDER BY order_id DESC

-- name: list_unfinished
-- a page of orders that are PENDING or PAID, by the partial index
SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
FROM orders WHERE order_id < $1::uuid AND status IN ('PENDING', 'PAID') AND status = $3::text
ORDER BY order_id DESC LIMIT $2::integer

-- name: list_oldest_unfinished
-- a page of orders that are PENDING or PAID, oldest first, by the partial index; of one shop, if $3 names one
SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
FROM orders WHERE order_id > $1::uuid AND status IN ('PENDING', 'PAID') AND ($3::text IS NULL OR shop = $3)
ORDER BY order_id LIMIT $2::integer

-- name: list_failed
-- a page of orders that FAILED, by the partial index
SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
FROM orders WHERE order_id < $1::uuid AND status = 'FAILED' AND $3::text = 'FAILED'
ORDER BY order_id DESC LIMIT $2::integer

-- name: list_completed
-- a page of orders that are COMPLETED, which most are
SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
FROM orders WHERE order_id < $1::uuid AND status = $3::text
ORDER BY order_id DESC LIMIT $2::integer

-- name: find_orders
-- orders of a customer, with a SKU, of a status, of a shop, among the next $5 before $1; and the last of these
WITH looked AS (
    SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
    FROM orders WHERE order_id < $1::uuid ORDER BY order_id DESC LIMIT $5::integer
), last AS (
    SELECT order_id FROM orders WHERE order_id < $1::uuid ORDER BY order_id DESC OFFSET $5::integer - 1 LIMIT 1
)
SELECT looked.*, (SELECT order_id FROM last) AS looked_until
FROM looked RIGHT JOIN (SELECT 1) AS always ON ($2::text[] IS NULL OR customer_id = ANY ($2))
    AND ($3::text IS NULL OR items @> jsonb_build_array(jsonb_build_object('sku', $3)))
    AND ($4::text IS NULL OR status = $4) AND ($7::text IS NULL OR shop = $7)
ORDER BY looked.order_id DESC LIMIT $6::integer

-- name: unfinished_by_status
-- how many orders are PENDING or PAID, counting no further than $1, and since when the oldest of each is
SELECT status, count(*) AS orders, min(created_at) AS oldest FROM (
    SELECT status, created_at FROM orders WHERE status IN ('PENDING', 'PAID') ORDER BY order_id LIMIT $1::integer
) AS counted GROUP BY status

-- name: dwell_times
-- how long the newest $1 orders were in each state that they have left, by the event that ended it
SELECT step.from_status AS status, step.event, count(*) AS orders,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY step.at - coalesce(before.at, newest.created_at)) AS median,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY step.at - coalesce(before.at, newest.created_at)) AS slow
FROM (SELECT order_id, created_at FROM orders ORDER BY order_id DESC LIMIT $1::integer) AS newest
JOIN order_history AS step USING (order_id)
LEFT JOIN order_history AS before ON before.order_id = step.order_id AND before.version = step.version - 1
GROUP BY step.from_status, step.event

-- name: list_of_shop
-- a page of one shop's orders, newest first
SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
FROM orders WHERE shop = $4::text AND order_id < $1::uuid AND ($3::text IS NULL OR status = $3)
ORDER BY order_id DESC LIMIT $2::integer

-- name: list_ending_of_shop
-- one shop's orders whose id ends with these digits, among its newest million
SELECT order_id, customer_id, currency, items, total, payment_method, status, reason, refund, created_at, shop
FROM orders WHERE order_id = ANY (ARRAY(
    SELECT order_id
    FROM (SELECT order_id FROM orders WHERE shop = $3::text ORDER BY order_id DESC LIMIT 1000000) AS newest
    WHERE right(replace(order_id::text, '-', ''), length($1::text)) = $1
    LIMIT $2::integer
))
ORDER BY order_id DESC

-- name: orders_of_customers
-- of the $3 orders after the order $2, in order of id, those of the customers $1 of the shop $4; and the last of them
-- all, if there may be more
WITH piece AS MATERIALIZED (
    SELECT order_id, customer_id, shop FROM orders WHERE order_id > $2::uuid ORDER BY order_id LIMIT $3::integer
)
SELECT
    coalesce(array_agg(order_id ORDER BY order_id) FILTER (
        WHERE customer_id = ANY ($1::text[]) AND shop IS NOT DISTINCT FROM $4::text
    ), '{}') AS orders,
    CASE WHEN count(*) = $3::integer THEN max(order_id::text)::uuid END AS last
FROM piece

-- name: records_of_order
-- every row of an order, by table; an Idempotency-Key has the time of its order
SELECT
    (SELECT jsonb_agg(to_jsonb(row)) FROM orders AS row WHERE order_id = $1::uuid) AS orders,
    (SELECT jsonb_agg(to_jsonb(row) ORDER BY version) FROM order_history AS row WHERE order_id = $1) AS order_history,
    (SELECT jsonb_agg(to_jsonb(row) ORDER BY number) FROM order_refunds AS row WHERE order_id = $1) AS order_refunds,
    (SELECT jsonb_agg(to_jsonb(row)) FROM order_flow AS row WHERE order_id = $1) AS order_flow,
    (
        SELECT jsonb_agg(to_jsonb(row)) FROM idempotency_keys AS row
        WHERE order_id = $1 AND created_at = (SELECT created_at FROM orders WHERE order_id = $1)
    ) AS idempotency_keys
