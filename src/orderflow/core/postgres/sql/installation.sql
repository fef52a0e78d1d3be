-- name: installation
-- Whose database this is; no row until it was claimed.
SELECT id FROM installation;

-- name: keep_installation
-- Claim it. Whose it is already, it stays.
INSERT INTO installation (id) VALUES ($1) ON CONFLICT DO NOTHING;
