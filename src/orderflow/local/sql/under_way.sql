-- name: unsent
-- Events that the log has not acknowledged yet.
SELECT count(*) FROM outbox_pending;

-- name: unfinished_orders
-- Orders that are on their way, without those that wait for an operator.
SELECT count(*)
FROM orders
WHERE (status IN ('PENDING', 'PAID') OR refund = 'due')
    AND NOT EXISTS (SELECT FROM order_flow WHERE order_flow.order_id = orders.order_id AND stuck::text LIKE '%"dead"%');
