-- Faults of a game day, and which processes apply them.

CREATE TABLE faults (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    event_type text NOT NULL,
    field      text NOT NULL,
    value      text NOT NULL,
    error      text NOT NULL,
    share      double precision NOT NULL,
    set_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT faults_pk PRIMARY KEY (id),
    CONSTRAINT faults_error_known CHECK (error IN ('permanent', 'infrastructure', 'hang')),
    CONSTRAINT faults_share_is_a_part CHECK (share > 0 AND share <= 1)
);
COMMENT ON TABLE faults IS
    'Faults that are put into this service on purpose. Read only by processes that were started with --game-day.';
COMMENT ON CONSTRAINT faults_pk ON faults IS
    'Prevents that a fault is named by the id of another.';
COMMENT ON CONSTRAINT faults_error_known ON faults IS
    'Prevents a fault that no process knows how to apply.';
COMMENT ON CONSTRAINT faults_share_is_a_part ON faults IS
    'Prevents a fault that strikes no key, or more than all.';

CREATE TABLE fault_revision (
    one    boolean NOT NULL DEFAULT true,
    number bigint NOT NULL,
    CONSTRAINT fault_revision_single PRIMARY KEY (one),
    CONSTRAINT fault_revision_one CHECK (one)
);
COMMENT ON TABLE fault_revision IS
    'How often the faults were changed: what a process applies is compared with it.';
COMMENT ON CONSTRAINT fault_revision_single ON fault_revision IS
    'Prevents a second row, together with fault_revision_one.';
COMMENT ON CONSTRAINT fault_revision_one ON fault_revision IS
    'Prevents a second row, together with fault_revision_single.';
INSERT INTO fault_revision (number) VALUES (1);

CREATE TABLE fault_readers (
    process  uuid NOT NULL,
    revision bigint NOT NULL,
    seen_at  timestamptz NOT NULL,
    CONSTRAINT fault_readers_pk PRIMARY KEY (process)
);
COMMENT ON TABLE fault_readers IS
    'The processes on a game day: which revision of the faults each applies, and when it said so last.';
COMMENT ON CONSTRAINT fault_readers_pk ON fault_readers IS
    'Prevents that one process confirms as two.';
