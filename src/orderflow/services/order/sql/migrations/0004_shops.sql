-- An order carries the shop that placed it, and each shop has Idempotency-Keys of its own.

ALTER TABLE orders
    ADD COLUMN shop text,
    ADD CONSTRAINT orders_shop_has_a_name CHECK (char_length(shop) BETWEEN 1 AND 100) NOT VALID;
COMMENT ON COLUMN orders.shop IS
    'Whose token placed it. NULL: placed without a token of a shop, or before shops had tokens.';
COMMENT ON CONSTRAINT orders_shop_has_a_name ON orders IS 'Prevents a shop that no token can name.';

CREATE INDEX orders_of_shops ON orders (shop, order_id) WHERE shop IS NOT NULL;

ALTER TABLE idempotency_keys
    DROP CONSTRAINT idempotency_keys_idempotency_key_check,
    ADD CONSTRAINT idempotency_keys_with_shop CHECK (char_length(idempotency_key) BETWEEN 1 AND 400) NOT VALID;
COMMENT ON CONSTRAINT idempotency_keys_with_shop ON idempotency_keys IS
    'Prevents a key that is longer than a shop''s name, the character U+001F and what a client may send.';
