-- The bound of a record in the outbox goes by what the log takes, not by how we keep it.

ALTER TABLE outbox DROP CONSTRAINT outbox_record_fits;
ALTER TABLE outbox ADD CONSTRAINT outbox_record_fits CHECK (
    coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) + octet_length(headers) / 2 <= 2097000
) NOT VALID;
COMMENT ON CONSTRAINT outbox_record_fits ON outbox IS
    'Prevents a record that no log would take (over 2 MiB) from stopping its slot for ever. MessagePack needs up to twice the bytes that Kafka needs for a header, so only half of them count: what fits is never refused. Not looked for in the rows that were there: each of them kept to a narrower bound.';
