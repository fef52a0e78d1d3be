-- name: faults_current
-- every fault that is set, with the revision; one row without a fault where none is
SELECT r.number, f.id, f.event_type, f.field, f.value, f.error, f.share
FROM fault_revision r LEFT JOIN faults f ON true
ORDER BY f.id

-- name: fault_add
-- set a fault, with a row of the operators' log
WITH revised AS (
    UPDATE fault_revision SET number = number + 1 RETURNING number
), added AS (
    INSERT INTO faults (event_type, field, value, error, share)
    SELECT $1, $2, $3, $4, $5 FROM revised
    RETURNING *
), told AS (
    INSERT INTO operator_actions (who, action, target, reason, result)
    SELECT $6, 'fault add', 'fault ' || id || ': ' || error || ' at ' || event_type || ' with ' || field || '=' || value
        || CASE WHEN share = 1 THEN '' ELSE ' for ' || share || ' of the keys' END, $7, 'done'
    FROM added
)
SELECT r.number, f.id, f.event_type, f.field, f.value, f.error, f.share
FROM revised r CROSS JOIN added f

-- name: fault_clear
-- take one fault away, or all, each with a row of the operators' log
WITH gone AS (
    DELETE FROM faults WHERE $1::bigint IS NULL OR id = $1 RETURNING *
), told AS (
    INSERT INTO operator_actions (who, action, target, reason, result)
    SELECT $2, 'fault clear', 'fault ' || id || ': ' || error || ' at ' || event_type || ' with ' || field || '='
        || value || CASE WHEN share = 1 THEN '' ELSE ' for ' || share || ' of the keys' END, $3, 'done'
    FROM gone ORDER BY id
), revised AS (
    UPDATE fault_revision SET number = number + (SELECT least(count(*), 1) FROM gone) RETURNING number
)
SELECT r.number, f.id, f.event_type, f.field, f.value, f.error, f.share
FROM revised r LEFT JOIN gone f ON true
ORDER BY f.id

-- name: fault_confirm
-- a process lives and applies a revision; what is set comes back
WITH beat AS (
    INSERT INTO fault_readers (process, revision, seen_at) VALUES ($1, $2, clock_timestamp())
    ON CONFLICT (process) DO UPDATE SET revision = excluded.revision, seen_at = excluded.seen_at
)
SELECT r.number, f.id, f.event_type, f.field, f.value, f.error, f.share
FROM fault_revision r LEFT JOIN faults f ON true
ORDER BY f.id

-- name: fault_leave
-- a process follows no longer
DELETE FROM fault_readers WHERE process = $1

-- name: fault_readers
-- the processes that follow; those that are silent are forgotten
WITH dead AS (
    DELETE FROM fault_readers WHERE seen_at < clock_timestamp() - $1 * interval '1 millisecond' RETURNING process
)
SELECT process, revision FROM fault_readers
WHERE process NOT IN (SELECT process FROM dead)
ORDER BY process
