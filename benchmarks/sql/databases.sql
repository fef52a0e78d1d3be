-- name: drop_order
-- what an earlier run has left
DROP DATABASE IF EXISTS floor_order;

-- name: create_order
-- the floor's own
CREATE DATABASE floor_order;

-- name: drop_payment
-- what an earlier run has left
DROP DATABASE IF EXISTS floor_payment;

-- name: create_payment
-- the floor's own
CREATE DATABASE floor_payment;

-- name: drop_inventory
-- what an earlier run has left
DROP DATABASE IF EXISTS floor_inventory;

-- name: create_inventory
-- the floor's own
CREATE DATABASE floor_inventory;

-- name: drop_notification
-- what an earlier run has left
DROP DATABASE IF EXISTS floor_notification;

-- name: create_notification
-- the floor's own
CREATE DATABASE floor_notification;

-- name: drop_bank
-- what an earlier run has left
DROP DATABASE IF EXISTS floor_bank;

-- name: create_bank
-- the floor's own
CREATE DATABASE floor_bank;

-- name: drop_log
-- what an earlier run has left
DROP DATABASE IF EXISTS floor_log;

-- name: create_log
-- for the consume figure
CREATE DATABASE floor_log;
