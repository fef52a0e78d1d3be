-- The keys of customers, in a database of their own: without it what stands anywhere else names nobody.

CREATE TABLE master_key (
    one         boolean NOT NULL DEFAULT true,
    fingerprint bytea NOT NULL,
    CONSTRAINT master_key_single PRIMARY KEY (one),
    CONSTRAINT master_key_one CHECK (one)
);
COMMENT ON TABLE master_key IS
    'Which master key the keys here are wrapped under. The master key itself is in no database.';
COMMENT ON CONSTRAINT master_key_single ON master_key IS 'Prevents a second row, together with master_key_one.';
COMMENT ON CONSTRAINT master_key_one ON master_key IS 'Prevents a second row, together with master_key_single.';

CREATE TABLE customer_keys (
    lookup  bytea NOT NULL,
    id      bytea NOT NULL,
    wrapped bytea NOT NULL,
    name    bytea,
    made_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT customer_keys_one_a_customer PRIMARY KEY (lookup),
    CONSTRAINT customer_keys_id_once UNIQUE (id)
);
COMMENT ON TABLE customer_keys IS
    'One key a customer, wrapped under the master key. To delete a row is to forget the customer.';
COMMENT ON COLUMN customer_keys.lookup IS 'HMAC-SHA256 of the customer''s name under the master key.';
COMMENT ON COLUMN customer_keys.name IS
    'The name, encrypted under the key, where it is too long for its pseudonym.';
COMMENT ON CONSTRAINT customer_keys_one_a_customer ON customer_keys IS
    'Prevents a customer from having two pseudonyms at a time.';
COMMENT ON CONSTRAINT customer_keys_id_once ON customer_keys IS 'Prevents a pseudonym from meaning two customers.';

CREATE TABLE erasures (
    number bigint NOT NULL,
    key_id bytea NOT NULL,
    who    text NOT NULL,
    reason text NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT erasures_in_order PRIMARY KEY (number)
);
COMMENT ON TABLE erasures IS
    'Which keys were destroyed, when and by whom, numbered in the order of the commits: processes that remember a key look here.';
COMMENT ON CONSTRAINT erasures_in_order ON erasures IS 'Prevents an erasure from being overlooked.';
