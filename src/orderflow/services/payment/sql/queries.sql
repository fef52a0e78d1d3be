-- name: show_payment
-- the payment of one order
SELECT order_id, customer_id, currency, amount, payment_method, status, captured, refunded, reason,
    charge_reference, refund_reference, refund_refusal, created_at, changed_at
FROM payments WHERE order_id = $1::uuid

-- name: list_payments
-- a page of all payments, newest order first
SELECT order_id, customer_id, currency, amount, payment_method, status, captured, refunded, reason,
    charge_reference, refund_reference, refund_refusal, created_at, changed_at
FROM payments WHERE order_id < $1::uuid AND $3::text IS NULL ORDER BY order_id DESC LIMIT $2::integer

-- name: list_refused
-- a page of the refunds that the bank has refused, by the partial index
SELECT order_id, customer_id, currency, amount, payment_method, status, captured, refunded, reason,
    charge_reference, refund_reference, refund_refusal, created_at, changed_at
FROM payments WHERE order_id < $1::uuid AND refund_refusal IS NOT NULL AND status = $3::text
ORDER BY order_id DESC LIMIT $2::integer

-- name: list_open
-- a page of the payments for which the bank is still to be asked, by way of its intents, which are few
SELECT order_id, customer_id, currency, amount, payment_method, status, captured, refunded, reason,
    charge_reference, refund_reference, refund_refusal, created_at, changed_at
FROM payments
WHERE order_id < $1::uuid AND status = $3::text AND order_id = ANY (ARRAY(SELECT message_key::uuid FROM intents))
ORDER BY order_id DESC LIMIT $2::integer

-- name: list_ended
-- a page of payments in one of the other states
SELECT order_id, customer_id, currency, amount, payment_method, status, captured, refunded, reason,
    charge_reference, refund_reference, refund_refusal, created_at, changed_at
FROM payments WHERE order_id < $1::uuid AND status = $3::text ORDER BY order_id DESC LIMIT $2::integer

-- name: refused_refunds
-- the refunds that the bank has refused: how many (counted no further than $1), and the newest of them
SELECT count(*) AS refunds, (array_agg(order_id))[1:$2::integer] AS orders
FROM (
    SELECT order_id FROM payments WHERE refund_refusal IS NOT NULL ORDER BY order_id DESC LIMIT $1::integer
) AS refused

-- name: records_of_order
-- every row of an order, by table
SELECT (SELECT jsonb_agg(to_jsonb(row)) FROM payments AS row WHERE order_id = $1::uuid) AS payments
