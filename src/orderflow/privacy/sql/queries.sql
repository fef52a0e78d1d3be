-- name: keep_master
-- note which master key is used here, unless it is known; returns the one that is
WITH kept AS (
    INSERT INTO master_key (fingerprint) VALUES ($1) ON CONFLICT (one) DO NOTHING RETURNING fingerprint
)
SELECT fingerprint FROM kept UNION ALL SELECT fingerprint FROM master_key LIMIT 1

-- name: keep_keys
-- keys for customers that have none; returns those that each has, but for one that another session makes just now
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) AS asked (lookup, id, wrapped, name)
), made AS (
    INSERT INTO customer_keys (lookup, id, wrapped, name)
    SELECT lookup, id, wrapped, name FROM asked ORDER BY lookup
    ON CONFLICT (lookup) DO NOTHING
    RETURNING lookup, id, wrapped, name
)
SELECT lookup, id, wrapped, name FROM made
UNION ALL
SELECT known.lookup, known.id, known.wrapped, known.name
FROM customer_keys AS known JOIN asked ON asked.lookup = known.lookup

-- name: key_of
-- the key of one customer
SELECT lookup, id, wrapped, name FROM customer_keys WHERE lookup = $1::bytea

-- name: keys_by_id
-- keys by what pseudonyms name
SELECT lookup, id, wrapped, name FROM customer_keys WHERE id = ANY ($1::bytea[])

-- name: erasures
-- which keys were destroyed after number $1, in order
SELECT number, key_id FROM erasures WHERE number > $1::bigint ORDER BY number

-- name: last_erasure
-- the number of the last one
SELECT coalesce(max(number), 0) AS number FROM erasures

-- name: lock_erasures
-- one erasure at a time, so that their numbers are in the order of their commits
LOCK TABLE erasures IN SHARE ROW EXCLUSIVE MODE

-- name: erase
-- destroy the key of a customer, and note it; returns its id, and nothing if there is none
WITH gone AS (
    DELETE FROM customer_keys WHERE lookup = $1::bytea RETURNING id
)
INSERT INTO erasures (number, key_id, who, reason)
SELECT (SELECT coalesce(max(number), 0) + 1 FROM erasures), id, $2::text, $3::text FROM gone
RETURNING key_id
