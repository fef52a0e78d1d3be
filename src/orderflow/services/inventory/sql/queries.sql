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

-- name: records_of_order
-- every row of an order, by table
SELECT
    (SELECT jsonb_agg(to_jsonb(row)) FROM reservations AS row WHERE order_id = $1::uuid) AS reservations,
    (SELECT jsonb_agg(to_jsonb(row) ORDER BY sku) FROM movements AS row WHERE cause = $1::uuid) AS movements
