-- name: create_record
-- The record of what was applied.
CREATE TABLE IF NOT EXISTS schema_migrations (
    sequence_name text NOT NULL,
    number        integer NOT NULL CHECK (number > 0),
    name          text NOT NULL,
    checksum      text NOT NULL,
    applied_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sequence_name, number)
);

-- name: record_exists
-- Whether anything was ever applied here.
SELECT to_regclass('public.schema_migrations') IS NOT NULL;

-- name: applied
-- What was applied, in order.
SELECT sequence_name, number, name, checksum FROM schema_migrations ORDER BY sequence_name, number;

-- name: lock
-- One process at a time migrates a database; the others wait and then find nothing to do.
SELECT pg_advisory_xact_lock(1868981603, 0);

-- name: record
-- One more was applied.
INSERT INTO schema_migrations (sequence_name, number, name, checksum) VALUES ($1, $2, $3, $4);

-- name: functions
-- The units of work that were made here, by the hash in the names of their functions; the newest first.
SELECT substring(opening.proname FROM '[0-9a-f]+$') AS hash
FROM pg_proc AS opening
WHERE opening.pronamespace = 'public'::regnamespace AND opening.proname ~ '^orderflow_open_[0-9a-f]{12}$'
    AND EXISTS (
        SELECT FROM pg_proc AS committing
        WHERE committing.pronamespace = opening.pronamespace
            AND committing.proname = replace(opening.proname, '_open_', '_commit_')
    )
ORDER BY opening.oid DESC;
