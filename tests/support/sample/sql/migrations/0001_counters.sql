CREATE TABLE counters (name text PRIMARY KEY, value bigint NOT NULL CHECK (value <= 1000));
