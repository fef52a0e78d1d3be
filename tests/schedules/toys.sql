CREATE TABLE tallies (name text PRIMARY KEY, total bigint NOT NULL);
CREATE TABLE movements (name text, number bigint, PRIMARY KEY (name, number));
