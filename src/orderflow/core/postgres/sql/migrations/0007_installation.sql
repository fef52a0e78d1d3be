-- Whose database this is.

CREATE TABLE installation (
    one     boolean NOT NULL DEFAULT true,
    id      uuid NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT installation_single PRIMARY KEY (one),
    CONSTRAINT installation_one CHECK (one)
);
COMMENT ON TABLE installation IS
    'The installation that this database is part of: all its services have the same. Made once, kept for ever.';
COMMENT ON CONSTRAINT installation_single ON installation IS
    'Prevents a second row, together with installation_one.';
COMMENT ON CONSTRAINT installation_one ON installation IS
    'Prevents a second row, together with installation_single.';
