-- name: load_payments
-- the payments of a batch, fields in the order of the struct
SELECT order_id, customer_id, currency, items, amount, payment_method, status, version, event, captured, refunded,
    reason, charge_reference, refund_reference
FROM payments WHERE order_id = ANY ($1::uuid[])

-- name: insert_payments
-- new payments
INSERT INTO payments (
    order_id, customer_id, currency, items, amount, payment_method, status, version, event, captured, refunded,
    reason, charge_reference, refund_reference
)
SELECT order_id, customer_id, currency, items::jsonb, amount, payment_method, status, version, event, captured,
    refunded, reason, charge_reference, refund_reference
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::integer[], $9::text[],
    $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[]
) AS new (
    order_id, customer_id, currency, items, amount, payment_method, status, version, event, captured, refunded,
    reason, charge_reference, refund_reference
)

-- name: update_payments
-- what can change of a payment
UPDATE payments SET
    status = new.status,
    version = new.version,
    event = new.event,
    captured = new.captured,
    refunded = new.refunded,
    reason = new.reason,
    charge_reference = new.charge_reference,
    refund_reference = new.refund_reference,
    changed_at = now()
FROM unnest(
    $1::uuid[], $2::text[], $3::integer[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[]
) AS new (order_id, status, version, event, captured, refunded, reason, charge_reference, refund_reference)
WHERE payments.order_id = new.order_id

-- name: show_payment
-- the payment of one order
SELECT order_id, customer_id, currency, amount, payment_method, status, captured, refunded, reason,
    charge_reference, refund_reference, created_at, changed_at
FROM payments WHERE order_id = $1::uuid
