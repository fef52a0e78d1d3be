-- name: sums_by_chunk
-- Each face's facts added up, by chunk of keys. $1: from which key on everything has been kept; $2 and $3: the range of
-- keys, from after $2 to $3; $4: the last keys of the chunks, in order. What a query takes besides is $5 and so on.
SELECT width_bucket(key, $4::{type}[]) AS place, {sums}
FROM ({facts}) AS facts
WHERE $1::{type} IS NOT NULL
GROUP BY 1;

-- name: sums_by_key
-- The same by key, in some chunks alone.
SELECT key AS place, {sums}
FROM ({facts}) AS facts
WHERE $1::{type} IS NOT NULL AND width_bucket(key, $4::{type}[]) = ANY (${chunks}::integer[])
GROUP BY 1;

-- name: orders
-- What the order service says of a finished order. One that is not finished shows what no other side does.
SELECT order_id AS key,
    hash_record_extended(ROW(order_id, money, currency, total, customer_id, items), 1) AS money,
    CASE WHEN money IN ('kept', 'back')
        THEN hash_record_extended(ROW(order_id, 'charge'::text, total, currency), 2)::numeric
        ELSE 0
    END + CASE money
        WHEN 'back' THEN hash_record_extended(ROW(order_id, 'refund'::text, total, currency), 2)
        ELSE 0
    END AS bank,
    CASE money
        WHEN 'kept' THEN hash_record_extended(ROW(order_id, 'RESERVED'::text, item.lines), 3)
        WHEN 'back' THEN hash_record_extended(ROW(order_id, 'REJECTED'::text, NULL::numeric), 3)
        ELSE 0
    END AS stock,
    hash_record_extended(
        ROW(order_id, CASE money WHEN 'kept' THEN 'completed' ELSE 'failed' END, customer_id), 4
    )::numeric + CASE money
        WHEN 'back' THEN hash_record_extended(ROW(order_id, 'refunded'::text, customer_id), 4)
        ELSE 0
    END AS told,
    CASE money
        WHEN 'none' THEN hash_record_extended(ROW(order_id, 2, 'PENDING'::text, event, status), 5)
        ELSE hash_record_extended(ROW(order_id, 2, 'PENDING'::text, 'PaymentSucceeded'::text, 'PAID'::text), 5)::numeric
            + hash_record_extended(ROW(order_id, 3, 'PAID'::text, event, status), 5)
    END AS steps,
    CASE WHEN order_id >= $1 THEN
        hash_record_extended(ROW(order_id::text, 'orderflow.OrderPlaced.v1'::text), 6)::numeric
        + hash_record_extended(ROW(
            order_id::text,
            CASE money WHEN 'kept' THEN 'orderflow.OrderCompleted.v1' ELSE 'orderflow.OrderFailed.v1' END
        ), 6)
        ELSE 0
    END AS said,
    CASE WHEN item.added = total THEN 0 ELSE hash_record_extended(ROW(order_id), 7) END AS added
FROM (
    SELECT *,
        CASE
            WHEN early IS NOT NULL THEN 'open'
            WHEN status = 'COMPLETED' AND version = 3 AND event = 'StockReserved' AND refund = 'none' THEN 'kept'
            WHEN status = 'FAILED' AND version = 2 AND event = 'PaymentFailed' AND refund = 'none' THEN 'none'
            WHEN status = 'FAILED' AND version = 3 AND event = 'StockRejected' AND refund = 'done' THEN 'back'
            ELSE 'open'
        END AS money
    FROM orders
    WHERE order_id > $2 AND order_id <= $3
) AS orders
CROSS JOIN LATERAL (
    SELECT sum((line ->> 'quantity')::bigint * (line ->> 'unit_price')::bigint) AS added,
        sum(hash_record_extended(ROW(line -> 'sku', line -> 'quantity'), 3)) AS lines
    FROM jsonb_array_elements(items) AS line
) AS item;

-- name: history
-- Each step, and what has to have come in for it.
SELECT order_id AS key,
    hash_record_extended(ROW(order_id, version, from_status, event, to_status), 5) AS steps,
    hash_record_extended(ROW(order_id::text, 'orderflow.' || event), 8) AS heard
FROM order_history
WHERE order_id > $2 AND order_id <= $3;

-- name: refunds
-- What has to have come in for each step of a refund that does not come with one of the order itself.
SELECT order_id AS key, hash_record_extended(ROW(order_id::text, 'orderflow.' || event), 8) AS heard
FROM order_refunds
WHERE event IN ('PaymentRefunded', 'PaymentVoided') AND order_id > $2 AND order_id <= $3;

-- name: payments
-- What the payment service says: of a payment that is done with, as the order should say it.
SELECT order_id AS key,
    hash_record_extended(ROW(order_id, money, currency, amount, customer_id, items), 1) AS money,
    hash_record_extended(ROW(order_id::text, 'orderflow.OrderPlaced'::text), 8)
        + CASE money
            WHEN 'back' THEN hash_record_extended(ROW(order_id::text, 'orderflow.StockRejected'::text), 8)::numeric
            ELSE 0
        END AS heard,
    CASE WHEN order_id >= $1 THEN
        hash_record_extended(ROW(
            order_id::text,
            CASE money WHEN 'none' THEN 'orderflow.PaymentFailed.v1' ELSE 'orderflow.PaymentSucceeded.v1' END
        ), 6)
        + CASE money
            WHEN 'back' THEN hash_record_extended(ROW(order_id::text, 'orderflow.PaymentRefunded.v1'::text), 6)::numeric
            ELSE 0
        END
        ELSE 0
    END AS said
FROM (
    SELECT *,
        CASE
            WHEN status = 'CAPTURED' AND captured = amount AND refunded = 0 THEN 'kept'
            WHEN status = 'DECLINED' AND captured = 0 AND refunded = 0 THEN 'none'
            WHEN status = 'REFUNDED' AND captured = amount AND refunded = amount THEN 'back'
            ELSE 'asked'
        END AS money
    FROM payments
    WHERE order_id > $2 AND order_id <= $3
) AS payments;

-- name: charges
-- What the bank has taken.
SELECT order_id AS key, hash_record_extended(ROW(order_id, 'charge'::text, amount, currency), 2) AS bank
FROM bank_charges
WHERE decline_code IS NULL AND order_id > $2 AND order_id <= $3;

-- name: paid_back
-- What the bank has given back.
SELECT order_id AS key, hash_record_extended(ROW(order_id, 'refund'::text, amount, currency), 2) AS bank
FROM bank_refunds
WHERE order_id > $2 AND order_id <= $3;

-- name: reservations
-- What inventory has decided, what has to have come in for it, and what it has to have moved and said.
SELECT order_id AS key,
    hash_record_extended(ROW(order_id, status, line.hashes), 3) AS stock,
    coalesce(line.moves, 0) AS moved,
    hash_record_extended(ROW(order_id::text, 'orderflow.PaymentSucceeded'::text), 8) AS heard,
    CASE WHEN order_id >= $1 THEN hash_record_extended(ROW(
        order_id::text,
        CASE status WHEN 'RESERVED' THEN 'orderflow.StockReserved.v1' ELSE 'orderflow.StockRejected.v1' END
    ), 6) ELSE 0 END AS said
FROM reservations
CROSS JOIN LATERAL (
    SELECT sum(hash_record_extended(ROW(line -> 'sku', line -> 'quantity'), 3)) AS hashes,
        sum(hash_record_extended(ROW(order_id, line ->> 'sku', (line ->> 'quantity')::bigint), 9)) AS moves
    FROM jsonb_array_elements(lines) AS line
) AS line
WHERE order_id > $2 AND order_id <= $3;

-- name: moves
-- What was taken from the stock.
SELECT cause AS key, hash_record_extended(ROW(cause, sku, reserved_change), 9) AS moved
FROM movements
WHERE kind = 'reserve' AND cause > $2 AND cause <= $3;

-- name: told
-- What customers were told, and what has to have come in for it. A failure can come from two sides.
SELECT order_id AS key,
    hash_record_extended(ROW(order_id, outcome, customer_id), 4) AS told,
    CASE outcome
        WHEN 'completed' THEN hash_record_extended(ROW(order_id::text, 'orderflow.StockReserved'::text), 8)
        WHEN 'refunded' THEN hash_record_extended(ROW(order_id::text, 'orderflow.PaymentRefunded'::text), 8)
        WHEN 'not_charged' THEN hash_record_extended(ROW(order_id::text, 'orderflow.PaymentVoided'::text), 8)
        WHEN 'failed' THEN hash_record_extended(ROW(
            order_id::text,
            CASE reason WHEN 'out_of_stock' THEN 'orderflow.StockRejected' ELSE 'orderflow.PaymentFailed' END
        ), 8)
    END AS heard
FROM notifications
WHERE order_id > $2 AND order_id <= $3;

-- name: inbox
-- What has come in for the consumer $5, of the events that an order sees once. What waits shows what has no effect.
SELECT key,
    hash_record_extended(ROW(key, CASE state WHEN 1 THEN identity ELSE state::text END), 8) AS heard
FROM processed_events
WHERE consumer = $5::text
    AND (state IN (2, 3) OR (state = 1 AND identity LIKE 'orderflow.%')) AND key > $2 AND key <= $3;

-- name: listened
-- The same for a consumer of which only is known that it handles events of the types $6.
SELECT key,
    hash_record_extended(ROW(key, CASE state WHEN 1 THEN identity ELSE state::text END), 8) AS heard
FROM processed_events
WHERE consumer = $5::text AND (state IN (2, 3) OR (state = 1 AND identity = ANY ($6::text[]) AND key >= $1))
    AND key > $2 AND key <= $3;

-- name: written
-- What has to have come in there: events of its topics $5, by their wire names $6, each of the type beside it in $7.
SELECT key, hash_record_extended(ROW(key, read.type), 8) AS heard
FROM (
    SELECT key, headers, position('ce_type'::bytea IN headers) AS at_type
    FROM outbox
    WHERE topic = ANY ($5::text[]) AND key >= $1 AND key > $2 AND key <= $3
    OFFSET 0
) AS outbox
JOIN unnest($6::bytea[], $7::text[]) AS read (wire, type)
    ON at_type > 0 AND read.wire = substring(headers FROM at_type + 9 FOR get_byte(headers, at_type + 7));

-- name: outbox
-- What was said, and under which numbers of which source. `ce_type`, `ce_source` and `ce_sequence` are found by their
-- names in the packed headers, each followed by a marker, a length in one byte, and the value.
SELECT key,
    CASE WHEN topic = 'flow-status' THEN 0
        ELSE hash_record_extended(ROW(key, substring(headers FROM at_type + 9 FOR get_byte(headers, at_type + 7))), 6)
    END AS said,
    hash_record_extended(ROW(
        key,
        substring(headers FROM at_source + 11 FOR get_byte(headers, at_source + 9)),
        substring(headers FROM at_number + 13 FOR get_byte(headers, at_number + 11))
    ), 10) AS numbered
FROM (
    SELECT topic, key, headers, position('ce_type'::bytea IN headers) AS at_type,
        position('ce_source'::bytea IN headers) AS at_source, position('ce_sequence'::bytea IN headers) AS at_number
    FROM outbox
    WHERE topic NOT LIKE '%.DLT' AND key >= $1 AND key > $2 AND key <= $3
    OFFSET 0
) AS outbox
WHERE at_type > 0 AND at_source > 0 AND at_number > 0;

-- name: streams
-- The numbers that were given.
SELECT key, hash_record_extended(ROW(key, source, '1'::text), 10)
    + CASE WHEN emitted >= 2 THEN hash_record_extended(ROW(key, source, '2'::text), 10)::numeric ELSE 0 END
    + CASE
        WHEN emitted >= 3 THEN (
            SELECT sum(hash_record_extended(ROW(key, source, number::text), 10))
            FROM generate_series(3, emitted) AS number
        )
        ELSE 0
    END AS numbered
FROM streams
WHERE key >= $1 AND key > $2 AND key <= $3;
