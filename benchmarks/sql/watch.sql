-- name: count_final
-- how many orders have come to their end
SELECT count(*) FROM orders WHERE status IN ('COMPLETED', 'FAILED');

-- name: count_reservations
-- how many orders the inventory has answered
SELECT count(*) FROM reservations;
