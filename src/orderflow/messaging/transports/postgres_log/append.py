"""A batch of records as the arrays that one statement appends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orderflow.messaging.partitioner import Partitioner
from orderflow.messaging.transport import ProducerRecord
from orderflow.messaging.transports.postgres_log.headers import HeaderCodec
from orderflow.messaging.transports.postgres_log.topics import Topic

PAYLOAD_MAX = 7000
"""PostgreSQL takes up to 7,999 bytes; a longer list of partitions is said as the empty text: any of them."""


def arrays(
    records: Sequence[ProducerRecord],
    topics: Mapping[str, Topic],
    partitioner: Partitioner,
    codec: HeaderCodec,
) -> tuple[list[object], ...]:
    """The arguments of the query `append`.

    Touched partitions, sorted; how many records each gets; for each record the place of its partition in that
    list (from 1) and its rank within it; keys, values, headers; the channels to notify and what to say there.
    """
    places: list[int] = []
    for record in records:
        ids = topics[record.topic].partition_ids
        places.append(ids[partitioner.partition(record.key, len(ids))])
    touched = sorted(set(places))
    seat_of = {place: seat for seat, place in enumerate(touched, 1)}
    counts = dict.fromkeys(touched, 0)
    ranks: list[object] = []
    for place in places:
        ranks.append(counts[place])
        counts[place] += 1
    channels, payloads = _notifications({record.topic for record in records}, topics, set(touched))
    encode = codec.encode
    return (
        list(touched),
        list(counts.values()),
        [seat_of[place] for place in places],
        ranks,
        [record.key for record in records],
        [record.value for record in records],
        [encode(record.headers) for record in records],
        channels,
        payloads,
    )


def _notifications(
    names: set[str], topics: Mapping[str, Topic], touched: set[int]
) -> tuple[list[object], list[object]]:
    channels: list[object] = []
    payloads: list[object] = []
    for name in sorted(names):
        topic = topics[name]
        channels.append(topic.channel)
        payload = ",".join(str(place) for place in topic.partition_ids if place in touched)
        payloads.append(payload if len(payload) <= PAYLOAD_MAX else "")
    return channels, payloads
