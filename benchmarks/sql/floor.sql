-- name: publish
-- stream counts and outbox rows with their pending marks
WITH counted AS (
    INSERT INTO streams (key, source, emitted) SELECT key, $2, $3 FROM unnest($1::text[]) AS stream (key)
    ON CONFLICT (key, source) DO UPDATE SET emitted = excluded.emitted
), published AS (
    INSERT INTO outbox (segment, slot, topic, key, value, headers, event_id)
    SELECT 0, $8, $4, convert_to(key, 'UTF8'), value, headers, event_id
    FROM unnest($1::text[], $5::bytea[], $6::bytea[], $7::uuid[]) AS record (key, value, headers, event_id)
    RETURNING id, segment, slot
)
INSERT INTO outbox_pending (id, segment, slot) SELECT id, segment, slot FROM published;

-- name: unsent
-- what the relay reads
SELECT record.id, record.value FROM (
    SELECT id, segment FROM outbox_pending WHERE slot = $2 ORDER BY id LIMIT $1
) AS pending
JOIN outbox AS record USING (segment, id) ORDER BY record.id;

-- name: mark_sent
-- what the relay marks
DELETE FROM outbox_pending WHERE id = ANY ($1::bigint[]);

-- name: receive
-- inbox rows
INSERT INTO processed_events (key, consumer, identity, event_id, state)
SELECT key, $3, $4, event_id, 1 FROM unnest($1::text[], $2::uuid[]) AS entry (key, event_id);

-- name: place_orders
-- new orders
INSERT INTO orders (order_id, customer_id, currency, items, total, payment_method, status, version, event)
SELECT order_id, 'ada', 'EUR', items::jsonb, total, 'pm_card_visa', 'PENDING', 1, 'OrderPlaced'
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS new (order_id, items, total);

-- name: advance_orders
-- orders one state on, with their history
WITH moved AS (
    UPDATE orders SET status = $2, version = version + 1, event = $4 FROM unnest($1::uuid[]) AS new (order_id)
    WHERE orders.order_id = new.order_id RETURNING orders.order_id, version
)
INSERT INTO order_history (order_id, version, from_status, event, to_status, cause)
SELECT order_id, version, $3, $4, $2, order_id FROM moved;

-- name: open_payments
-- new payments with the intent to charge
WITH opened AS (
    INSERT INTO payments (order_id, customer_id, currency, items, amount, payment_method, status, version, event)
    SELECT order_id, 'ada', 'EUR', items::jsonb, total, 'pm_card_visa', 'CHARGING', 1, 'OrderPlaced'
    FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS new (order_id, items, total)
)
INSERT INTO intents (key, kind, request, message_key, cause, attempts, due_at)
SELECT 'charge:' || order_id, 'charge', jsonb_build_object('order_id', order_id, 'amount', total, 'currency', 'EUR'),
    order_id, order_id, 0, now() FROM unnest($1::uuid[], $3::bigint[]) AS new (order_id, total);

-- name: capture_payments
-- payments captured, their intents closed
WITH captured AS (
    UPDATE payments SET status = 'CAPTURED', version = 2, event = 'ChargeApproved', captured = amount,
        charge_reference = payments.order_id::text
    FROM unnest($1::uuid[]) AS new (order_id) WHERE payments.order_id = new.order_id
)
DELETE FROM intents USING unnest($1::uuid[]) AS new (order_id) WHERE key = 'charge:' || new.order_id;

-- name: charge
-- the bank's book
INSERT INTO bank_charges (key, order_id, amount, currency, payment_method, reference)
SELECT 'charge:' || order_id, order_id, total, 'EUR', 'pm_card_visa', order_id::text
FROM unnest($1::uuid[], $2::bigint[]) AS new (order_id, total);

-- name: reserve
-- reservations and movements of one unit of one SKU each
WITH reserved AS (
    INSERT INTO reservations (order_id, status, lines, missing)
    SELECT order_id, 'RESERVED', lines::jsonb, '[]' FROM unnest($1::uuid[], $2::text[]) AS new (order_id, lines)
)
INSERT INTO movements (sku, version, kind, cause, on_hand_change, reserved_change)
SELECT $3, $4 + ordinality, 'reserve', order_id, -1, 1 FROM unnest($1::uuid[]) WITH ORDINALITY AS new (order_id);

-- name: take_stock
-- the stock row, once a batch
UPDATE stock SET on_hand = on_hand - $2, reserved = reserved + $2, version = version + $2 WHERE sku = $1;

-- name: add_stock
-- the one SKU that the floor sells
INSERT INTO stock (sku, on_hand, reserved, version) VALUES ($1, 1000000000, 0, 1);

-- name: lock_stock
-- the stock row before it is read and written
SELECT version FROM stock WHERE sku = $1 FOR UPDATE;

-- name: notify
-- what customers were told
INSERT INTO notifications (order_id, outcome, customer_id, text, cause)
SELECT order_id, 'completed', 'ada', 'Your order is complete.', order_id FROM unnest($1::uuid[]) AS new (order_id);

-- name: count_completed
-- the check that the floor did the work
SELECT count(*) FROM orders WHERE status = 'COMPLETED';
