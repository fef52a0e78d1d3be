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

-- name: append_reservations
-- the answers that orders got
INSERT INTO reservations (order_id, status, lines, missing)
SELECT order_id, status, lines::jsonb, missing::jsonb
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS new (order_id, status, lines, missing)

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
