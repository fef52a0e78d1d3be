-- What one approver has proposed, and another has to ask for as well before it is done.

CREATE TABLE proposals (
    id        uuid NOT NULL,
    digest    text NOT NULL,
    operation text NOT NULL,
    request   text NOT NULL,
    who       text NOT NULL,
    reason    text NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT now(),
    until     timestamptz NOT NULL,
    state     text NOT NULL DEFAULT 'open',
    decided_by text,
    decided_at timestamptz,
    CONSTRAINT proposals_once PRIMARY KEY (id),
    CONSTRAINT proposals_state_known CHECK (state IN ('open', 'done', 'withdrawn', 'expired')),
    CONSTRAINT proposals_decided_by_somebody CHECK (
        (state IN ('done', 'withdrawn')) = (decided_by IS NOT NULL AND decided_at IS NOT NULL)
    ),
    CONSTRAINT proposals_done_by_another CHECK (state <> 'done' OR decided_by <> who)
);
CREATE UNIQUE INDEX proposals_open_once ON proposals (digest) WHERE state = 'open';
COMMENT ON TABLE proposals IS
    'What approvers have proposed: the request, for as long as it may be approved, and who has. Kept for ever.';
COMMENT ON COLUMN proposals.digest IS 'SHA-256 of operation and request: the same is proposed once.';
COMMENT ON CONSTRAINT proposals_once ON proposals IS 'Prevents two proposals of one name.';
COMMENT ON CONSTRAINT proposals_state_known ON proposals IS 'Prevents a state that no release can name.';
COMMENT ON CONSTRAINT proposals_decided_by_somebody ON proposals IS 'Prevents a decision that nobody has taken.';
COMMENT ON CONSTRAINT proposals_done_by_another ON proposals IS
    'Prevents that somebody carries out what he has proposed himself.';
