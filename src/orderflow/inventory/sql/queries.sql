-- name: load_stock
-- the SKUs of a batch, fields in the order of the struct
SELECT sku, on_hand, reserved, version FROM stock WHERE sku = ANY ($1::text[])

-- name: insert_stock
-- SKUs that are new
INSERT INTO stock (sku, on_hand, reserved, version)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])

-- name: update_stock
-- SKUs as they are after the batch
UPDATE stock SET on_hand = new.on_hand, reserved = new.reserved, version = new.version, changed_at = now()
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS new (sku, on_hand, reserved, version)
WHERE stock.sku = new.sku

-- name: append_movements
-- every change of the batch
INSERT INTO movements (sku, version, kind, cause, on_hand_change, reserved_change)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[])

-- name: load_reservations
-- the answers that orders got, fields in the order of the struct
SELECT order_id, status, lines, missing, customer_id, released_by FROM reservations WHERE order_id = ANY ($1::uuid[])

-- name: append_reservations
-- the answers that orders get
INSERT INTO reservations (order_id, status, lines, missing, customer_id)
SELECT order_id, status, lines::jsonb, missing::jsonb, customer_id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS new (order_id, status, lines, missing, customer_id)

-- name: release_reservations
-- what is given back: only what is reserved, and once
UPDATE reservations SET status = new.status, released_by = new.released_by
FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS new (order_id, status, released_by)
WHERE reservations.order_id = new.order_id AND reservations.status = 'RESERVED'

-- name: any_stock
-- whether there is any SKU
SELECT EXISTS (SELECT FROM stock) AS found

-- name: list_stock
-- a page of SKUs after $1, in order of SKU
SELECT sku, on_hand, reserved, version, changed_at FROM stock
WHERE sku > $1::text COLLATE "C" ORDER BY sku LIMIT $2::integer

-- name: show_stock
-- one SKU
SELECT sku, on_hand, reserved, version, changed_at FROM stock WHERE sku = $1::text

-- name: list_movements
-- a page of the movements of one SKU before version $2, newest first
SELECT version, kind, cause, on_hand_change, reserved_change, at FROM movements
WHERE sku = $1::text AND version < $2::bigint ORDER BY version DESC LIMIT $3::integer
