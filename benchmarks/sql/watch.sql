-- name: count_unfinished
-- how many orders have not come to their end
SELECT count(*) FROM orders WHERE status IN ('PENDING', 'PAID');

-- name: count_reservations
-- how many orders the inventory has answered
SELECT count(*) FROM reservations;
