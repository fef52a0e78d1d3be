-- name: record_charges
-- add charges that are not in the book; returns the keys of those added
INSERT INTO bank_charges (key, order_id, amount, currency, payment_method, decline_code, reference)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])
ON CONFLICT (key) DO NOTHING
RETURNING key

-- name: find_charges
-- charges that are in the book
SELECT key, order_id, amount, currency, payment_method, decline_code, reference
FROM bank_charges WHERE key = ANY ($1::text[])

-- name: record_refunds
-- add refunds of approved charges of at least that amount; returns the keys of those added
INSERT INTO bank_refunds (key, charge, order_id, amount, currency, reference)
SELECT new.key, new.charge, new.order_id, new.amount, new.currency, new.reference
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[], $5::text[], $6::text[])
    AS new (key, charge, order_id, amount, currency, reference)
JOIN bank_charges ON bank_charges.key = new.charge
WHERE bank_charges.decline_code IS NULL AND bank_charges.amount >= new.amount
ON CONFLICT (key) DO NOTHING
RETURNING key

-- name: find_refunds
-- refunds that are in the book
SELECT key, charge, order_id, amount, currency, reference FROM bank_refunds WHERE key = ANY ($1::text[])

-- name: count_call
-- one more call under this key; returns how many there were
INSERT INTO bank_calls AS known (key, calls) VALUES ($1::text, 1)
ON CONFLICT (key) DO UPDATE SET calls = known.calls + 1
RETURNING calls

-- name: look
-- Whether the book can be read.
SELECT 1;
