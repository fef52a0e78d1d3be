-- name: topics
-- Every topic with its partitions, by number.
SELECT t.name, t.id AS topic_id, array_agg(p.id ORDER BY p.number) AS partition_ids
  FROM topics t JOIN partitions p ON p.topic_id = t.id
 GROUP BY t.id;

-- name: create_topics
-- Make the topics that do not exist yet, with their partitions.
WITH made AS (
    INSERT INTO topics (name, partitions, retention_ms)
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[])
    ON CONFLICT (name) DO NOTHING
    RETURNING id, partitions
)
INSERT INTO partitions (topic_id, number)
SELECT id, n FROM made CROSS JOIN LATERAL generate_series(0, partitions - 1) AS n;

-- name: claim
-- Claim names for an installation; returns those that are another's.
SELECT name, owner FROM claim_names($1, $2, $3, $4);

-- name: append
-- Append records; the arrays are described at the function.
SELECT at_ms, bases, doorbells, seats FROM append_and_tell($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: notify
-- Say to all who listen that there is something on these channels.
SELECT pg_notify(channel, '') FROM unnest($1::text[]) AS channel;

-- name: fetch
-- The next records of several partitions, up to a limit for each and for all, and up to the one that fills $4 bytes.
-- `taken` are the bytes up to and with each record: the sum runs over the rows as they come.
SELECT partition_id, "offset", at_ms, key, value, headers, taken
  FROM (
    SELECT r.*, sum(r.size) OVER (ROWS UNBOUNDED PRECEDING) AS taken
      FROM unnest($1::integer[], $2::bigint[]) AS p (id, position)
     CROSS JOIN LATERAL (
        SELECT partition_id, "offset", at_ms, key, value, headers,
            coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) + octet_length(headers) AS size
          FROM records
         WHERE partition_id = p.id AND "offset" >= p.position
         ORDER BY "offset"
         LIMIT $3
     ) r
     LIMIT $3
  ) AS next
 WHERE taken - size < $4;

-- name: ends
-- The first offset kept and the offset after the last, of every partition of the topics.
SELECT t.name, p.number, p.first_offset, p.next_offset
  FROM topics t JOIN partitions p ON p.topic_id = t.id
 WHERE t.name = ANY ($1::text[])
 ORDER BY t.name, p.number;

-- name: lag
-- Where a group stands on every partition of the topics. A group that never joined has committed NULL.
SELECT t.name, p.number, o.committed, p.first_offset, p.next_offset
  FROM topics t
  JOIN partitions p ON p.topic_id = t.id
  LEFT JOIN group_offsets o
    ON o.partition_id = p.id AND o.group_id = (SELECT id FROM groups WHERE name = $1)
 WHERE t.name = ANY ($2::text[])
 ORDER BY t.name, p.number;

-- name: join_group
-- Join under a new member name; returns the group's number.
SELECT join_group($1, $2, $3, $4);

-- name: hang_doorbell
-- From now on appenders of its machine ring the member.
UPDATE group_members SET doorbell = $2 WHERE member = $1;

-- name: renew
-- Renew the lease and write offsets; returns what the member holds, no row if it was put out.
SELECT partition_id, owner_generation, committed, next_offset FROM renew_lease($1, $2, $3, $4, $5, $6);

-- name: leave_group
-- Leave, so that others take over at once.
SELECT leave_group($1, $2);

-- name: rotate_segments
-- Open the next segment when the open one has had its span of time.
SELECT rotate_segments();

-- name: truncate_expired
-- Empty the segments whose records have all outlived the retention; returns how many.
SELECT truncate_expired();

-- name: ping
-- Whether the log answers and is made.
SELECT 1 FROM segments LIMIT 1;
