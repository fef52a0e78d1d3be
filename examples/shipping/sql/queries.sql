-- name: append_shipments
-- the parcels of a batch
INSERT INTO shipments (order_id, parcel, lines)
SELECT order_id, parcel, lines::jsonb FROM unnest($1::uuid[], $2::text[], $3::text[]) AS new (order_id, parcel, lines)
