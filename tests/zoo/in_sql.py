"""Bugs in the SQL of the store and of the log: what only other sessions, at the right statement, can show."""

# ruff: noqa: E501  # what is replaced is as long as it is

from __future__ import annotations

from tests.zoo.bug import Bug

STORE = "core/postgres"
SQL = f"{STORE}/sql/queries.sql"
LOG = "core/postgres_log"
TABLES = f"{LOG}/sql/migrations/0001_log.sql"
NOTICES = f"{LOG}/sql/migrations/0005_notices_with_records.sql"
APPEND = f"{LOG}/sql/migrations/0006_doorbells.sql"


def seen_by(case: str) -> str:
    return f"tests/schedules/test_schedules.py::test_every_schedule_keeps_what_the_case_says[{case}]"


BUGS = (
    Bug(
        "two-relays-one-slot",
        4,
        "The relay does not check that it was granted a slot's lock, so two relays publish one slot.",
        SQL,
        "WHERE pg_try_advisory_lock($1::integer, slot);",
        "WHERE pg_try_advisory_lock($1::integer, slot) IS NOT NULL;",
        seen_by("relays"),
    ),
    Bug(
        "fenced-member-commits",
        1,
        "A fenced member's offset commits count.",
        NOTICES,
        "     WHERE o.group_id = p_group AND o.owner = p_member\n       AND o.partition_id = s.id AND o.owner_generation = s.generation;",
        "     WHERE o.group_id = p_group AND o.partition_id = s.id;",
        seen_by("groups"),
    ),
    Bug(
        "append-locks-as-records-come",
        1,
        "An append locks partitions in the order of its records, so two appends deadlock.",
        f"{LOG}/records.py",
        "touched = sorted(set(places))",
        "touched = list(dict.fromkeys(places))",
        seen_by("appends"),
    ),
    Bug(
        "lease-is-not-taken",
        2,
        "Claimed intents stay due for all other processes.",
        SQL,
        "SET due_at = statement_timestamp() + $2 * interval '1 ms'",
        "SET due_at = statement_timestamp() + $2 * interval '0 ms'",
        seen_by("intents"),
    ),
    Bug(
        "offsets-counted-without-the-lock",
        1,
        "An append reads the partition's counter before it locks it, so two records get one offset.",
        APPEND,
        "        UPDATE partitions SET next_offset = next_offset + p_counts[i]\n         WHERE id = p_partitions[i]\n        RETURNING next_offset - p_counts[i] INTO STRICT v_base;",
        "        SELECT next_offset INTO STRICT v_base FROM partitions WHERE id = p_partitions[i];\n        UPDATE partitions SET next_offset = v_base + p_counts[i] WHERE id = p_partitions[i];",
        seen_by("appends"),
    ),
    Bug(
        "upkeep-locks-the-counters-first",
        1,
        "Emptying a log segment locks the counters before the segment, so it can deadlock with an append.",
        f"{LOG}/sql/migrations/0004_upkeep_locks_first.sql",
        "        EXECUTE format('LOCK TABLE ONLY records_%s IN ACCESS EXCLUSIVE MODE', v_segment);",
        "        NULL;",
        seen_by("upkeep"),
    ),
    Bug(
        "generation-stays",
        1,
        "A partition keeps its generation when it changes hands, so the old owner's commits still count.",
        TABLES,
        "SET owner = d.member, owner_generation = v_generation",
        "SET owner = d.member, owner_generation = 0 * v_generation",
        seen_by("groups"),
    ),
    Bug(
        "put-out-and-not-told",
        1,
        "The heartbeat does not tell a member that it was removed.",
        NOTICES,
        "    IF NOT FOUND THEN\n        RETURN;\n    END IF;",
        "",
        seen_by("groups"),
    ),
    Bug(
        "the-dead-keep-their-seats",
        1,
        "Members whose lease has expired are not removed.",
        NOTICES,
        "            OR m.expires_at > clock_timestamp() + m.session_ms * interval '2 milliseconds'\n            OR NOT EXISTS",
        "            AND NOT EXISTS",
        seen_by("groups-cut"),
    ),
    Bug(
        "claims-side-by-side",
        3,
        "Two installations that claim the same topics at once both succeed.",
        f"{LOG}/sql/migrations/0003_claims.sql",
        "    LOCK TABLE claims IN SHARE ROW EXCLUSIVE MODE;\n",
        "",
        seen_by("claims"),
    ),
    Bug(
        "batch-takes-no-lock",
        2,
        "A batch requests its locks but does not wait for them.",
        f"{STORE}/sql/functions.sql",
        "PERFORM pg_advisory_lock(lock.number)",
        "PERFORM pg_try_advisory_lock(lock.number)",
        seen_by("batches"),
    ),
    Bug(
        "snapshot-before-the-lock",
        2,
        "Sessions use REPEATABLE READ, so they do not see what the previous holder of a lock committed.",
        f"{STORE}/sessions.py",
        '"default_transaction_isolation": "read committed"',
        '"default_transaction_isolation": "repeatable read"',
        seen_by("batches"),
    ),
    Bug(
        "outbox-ids-in-stock",
        4,
        "Each session caches outbox ids, so within a key they are not in commit order.",
        f"{STORE}/sql/migrations/0001_core.sql",
        "CREATE SEQUENCE outbox_id AS bigint CACHE 1;",
        "CREATE SEQUENCE outbox_id AS bigint CACHE 50;",
        seen_by("relays"),
    ),
    Bug(
        "marks-all-before",
        1,
        "A relay marks all rows up to the last one it sent as sent, even those committed meanwhile.",
        SQL,
        "-- Rows that the log has acknowledged.\nDELETE FROM outbox_pending WHERE id = ANY ($1::text::bigint[]);",
        "-- Rows that the log has acknowledged.\nDELETE FROM outbox_pending WHERE id <= (SELECT max(n) FROM unnest($1::text::bigint[]) AS n);",
        seen_by("relays"),
    ),
    Bug(
        "purge-looks-once",
        1,
        "The purge does not check again, under the lock, that a whole segment was sent.",
        f"{STORE}/sql/migrations/0001_core.sql",
        "    FOR look IN 1..2 LOOP",
        "    FOR look IN 1..1 LOOP",
        seen_by("purge-inside"),
    ),
    Bug(
        "intents-claimed-in-turn",
        2,
        "A process that claims intents waits for another, and then claims the same ones.",
        SQL,
        "<= statement_timestamp() ORDER BY due_at, key LIMIT $1\n    FOR UPDATE SKIP LOCKED",
        "<= statement_timestamp() ORDER BY due_at, key LIMIT $1",
        seen_by("intents"),
    ),
    Bug(
        "migrations-side-by-side",
        3,
        "Two processes migrate the same database at once.",
        f"{STORE}/sql/migrations.sql",
        "SELECT pg_advisory_xact_lock(1868981603, 0);",
        "SELECT pg_try_advisory_xact_lock(1868981603, 0);",
        seen_by("migrations"),
    ),
)
