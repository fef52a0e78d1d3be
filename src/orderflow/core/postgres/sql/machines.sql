-- name: transitions
-- the legal transitions of one machine, as the database enforces them
SELECT before, event, after FROM state_transitions WHERE machine = $1
