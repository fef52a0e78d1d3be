-- name: installation
-- Whose database this is; no row until that was settled.
SELECT id FROM installation;

-- name: keep_installation
-- Settle it. What is settled already stays.
INSERT INTO installation (id) VALUES ($1) ON CONFLICT DO NOTHING;
