-- name: create
-- A function of a unit of work. A name that a query uses is a column's, not a variable's.
CREATE OR REPLACE FUNCTION public.{name} ({given}) RETURNS record LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_column
DECLARE
    touched bigint;
    v_size integer;
    v_from integer;
    v_to integer;
BEGIN
{body}
END
$function$;

-- name: drop
-- A function of a release that is gone.
DROP FUNCTION IF EXISTS public.{name};

-- name: call
-- A unit of work is opened, or committed.
SELECT * FROM public.{name}({given});

-- name: at_once
-- A unit of work that expects nothing is opened and, where indeed nothing was found, committed. OFFSET 0: what is found is
-- looked at before the second function is called, not after.
SELECT done.* FROM public.{open}({opened}) AS found
CROSS JOIN LATERAL (SELECT written.* FROM public.{commit}({committed}) AS written WHERE {nothing} OFFSET 0) AS done;

-- name: if_given
-- What is done with an array that is given; one without elements is not. A test that calls no function is prepared for
-- nothing, and a call has some twenty of them.
IF ${guard} IS NOT NULL THEN
{statements}
END IF;

-- name: take_locks
-- Take the session's locks in the order given. Who stands still with them in the middle of a batch is cut off.
PERFORM set_config('idle_session_timeout', '{timeout_ms}', false);
PERFORM pg_advisory_lock(lock.number) FROM unnest({locks}) AS lock (number);

-- name: keep_locks
-- From now on the transaction holds the locks, and the session none: they are free when it has ended.
PERFORM pg_advisory_xact_lock(lock.number) FROM unnest({locks}) AS lock (number);
PERFORM pg_advisory_unlock_all(), set_config('idle_session_timeout', '0', false);

-- name: read
-- The columns of a query as arrays.
SELECT {arrays} INTO {names} FROM (
{query}
) AS q ({columns});

-- name: check
-- A statement that has touched another number of rows than it was given is refused, and all with it.
GET DIAGNOSTICS touched = ROW_COUNT;
IF touched <> {wanted} THEN
    RAISE EXCEPTION '{table}: % rows were to be written, % were', {wanted}, touched;
END IF;

-- name: unsent_before
-- What else is unsent in the slots of the rows that were added, from before the first of them.
{before} := ARRAY(SELECT id FROM outbox_pending WHERE slot = ANY ({slots}) AND id < {ids}[1] LIMIT {limit});

-- name: waves
-- Versions of rows in waves, by the sizes of these: the first version of each row, then the second.
v_from := 1;
FOREACH v_size IN ARRAY {sizes} LOOP
    v_to := v_from + v_size - 1;
{statement}
;
{check}
;
    v_from := v_to + 1;
END LOOP;
