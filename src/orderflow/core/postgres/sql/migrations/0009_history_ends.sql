-- How the life of a parked event has ended: it was handled, or somebody has discarded it.

ALTER TABLE parked_history DROP CONSTRAINT parked_history_moment_known;
ALTER TABLE parked_history ADD CONSTRAINT parked_history_moment_known
    CHECK (moment IN ('failed', 'dead', 'replayed', 'edited', 'handled', 'discarded')) NOT VALID;
COMMENT ON CONSTRAINT parked_history_moment_known ON parked_history IS 'Prevents a moment that no release can name.';
COMMENT ON TABLE parked_history IS
    'Each failure, replay and edit of a parked event, and its end. Kept for ever, like its row of the inbox, and far rarer: found by event id when the event waits no longer.';
