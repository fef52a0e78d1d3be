-- name: load_parcels
-- Parcels by id.
SELECT parcel_id, state, weight, fragile, owner, packed_at, note, lines
FROM parcels WHERE parcel_id = ANY ($1::text[]);

-- name: insert_parcels
-- New parcels.
INSERT INTO parcels (parcel_id, state, weight, fragile, owner, packed_at, note, lines)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::integer[], $4::boolean[], $5::uuid[], $6::timestamptz[], $7::text[],
    $8::text[]::jsonb[]
);

-- name: update_parcels
-- New versions of parcels.
UPDATE parcels SET state = new.state, weight = new.weight, fragile = new.fragile, owner = new.owner,
    packed_at = new.packed_at, note = new.note, lines = new.lines
FROM unnest(
    $1::text[], $2::text[], $3::integer[], $4::boolean[], $5::uuid[], $6::timestamptz[], $7::text[],
    $8::text[]::jsonb[]
) AS new (parcel_id, state, weight, fragile, owner, packed_at, note, lines)
WHERE parcels.parcel_id = new.parcel_id;

-- name: load_counters
-- Counters by id.
SELECT counter_id, value FROM counters WHERE counter_id = ANY ($1::text[]);

-- name: insert_counters
-- New counters.
INSERT INTO counters (counter_id, value) SELECT * FROM unnest($1::text[], $2::bigint[]);

-- name: update_counters
-- New values.
UPDATE counters SET value = new.value FROM unnest($1::text[], $2::bigint[]) AS new (counter_id, value)
WHERE counters.counter_id = new.counter_id;

-- name: append_moves
-- Where parcels went.
INSERT INTO moves (parcel_id, number, place) SELECT * FROM unnest($1::text[], $2::integer[], $3::text[]);
