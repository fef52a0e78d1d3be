-- name: notifications_of_order
-- what was told of one order, oldest first
SELECT order_id, outcome, customer_id, reason, text, cause, at
FROM notifications WHERE order_id = $1::uuid ORDER BY at, outcome DESC

-- name: latest_notifications
-- what was told of the newest orders
SELECT order_id, outcome, customer_id, reason, text, cause, at
FROM notifications ORDER BY order_id DESC, outcome DESC LIMIT $1::integer

-- name: records_of_order
-- every row of an order, by table
SELECT (SELECT jsonb_agg(to_jsonb(row) ORDER BY at) FROM notifications AS row WHERE order_id = $1::uuid) AS notifications
