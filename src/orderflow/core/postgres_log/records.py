"""Records as they go into the log, and as a notice brings them along.

A notice names each partition that a batch was appended to: `AT_MS ID:START:COUNT ID:START:COUNT:BODY …`, `BODY` being
the records themselves, in base64, where they are few. The empty notice means any partition of the topic.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from orderflow.core.identity import Partitioner
from orderflow.core.transport import ConsumerRecord, Headers, ProducerRecord

PAYLOAD_MAX = 8_000
"""PostgreSQL takes less. A list of partitions that is longer even without records is said as the empty text."""

NOTICE_BYTES = 7_900
"""What is left of it beside the time."""

PLACE_BYTES = 45
"""The most that a notice needs to name a partition: three numbers, of 10, 19 and 10 digits, and what divides them."""

Place = tuple[str, int]
Kept: TypeAlias = tuple[bytes | None, bytes | None, bytes]
"""Key, value and headers as they stand in the table."""


@dataclass(frozen=True, slots=True)
class Topic:
    """`partition_ids` by partition number."""

    id: int
    name: str
    partition_ids: tuple[int, ...]

    @property
    def channel(self) -> str:
        return f"r{self.id}"

    @property
    def channel_before(self) -> str:
        """Where appenders of the release before, which run beside while a deployment rolls, say what is new."""
        return f"t{self.id}"


@dataclass(frozen=True, slots=True)
class Notice:
    """Records `start` to `end` (exclusive) of a partition were appended at `at_ms`."""

    partition_id: int
    start: int
    end: int
    at_ms: int
    body: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Partitions that are appended to, with the number of records, the channel and the body of the notice of each."""

    partition_ids: Sequence[int]
    counts: Sequence[int]
    channels: Sequence[str]
    bodies: Sequence[str | None]
    records: tuple[Sequence[object], ...]

    @property
    def arguments(self) -> tuple[Sequence[object], ...]:
        """As they are described at the function `append_and_tell`."""
        return (self.partition_ids, self.counts, self.channels, self.bodies, *self.records)

    def told(
        self, at_ms: int, bases: Sequence[int], whom: Iterable[tuple[str, int]]
    ) -> Iterator[tuple[str, str, str]]:
        """The notices for `whom` (doorbell, seat of a partition): doorbell, channel, payload."""
        seats_of: dict[tuple[str, str], list[int]] = {}
        for doorbell, seat in dict.fromkeys(whom):
            seats_of.setdefault((doorbell, self.channels[seat - 1]), []).append(seat - 1)
        said: dict[tuple[int, ...], str] = {}
        for (doorbell, channel), seats in seats_of.items():
            payload = said.get(key := tuple(seats))
            if payload is None:
                payload = " ".join([str(at_ms), *(self._place(seat, bases[seat]) for seat in seats)])
                payload = said[key] = payload if len(payload) < PAYLOAD_MAX else ""
            yield doorbell, channel, payload

    def _place(self, seat: int, base: int) -> str:
        body = self.bodies[seat]
        place = f"{self.partition_ids[seat]}:{base}:{self.counts[seat]}"
        return place if body is None else f"{place}:{body}"


class RecordCodec:
    """Keeps encoders and decoders; not for use by two threads at once.

    Headers are kept as a MessagePack array of [name, value] pairs, value nil or bytes.
    """

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._headers = msgspec.msgpack.Decoder(Headers).decode
        self._body = msgspec.msgpack.Decoder(list[Kept]).decode

    def records(self, place: Place, rows: Iterable[Any]) -> list[ConsumerRecord]:
        """From rows of the query `fetch`, all of this place."""
        (topic, partition), decode = place, self._headers
        return [
            ConsumerRecord(topic, partition, offset, key, value, decode(headers), at_ms)
            for _, offset, at_ms, key, value, headers, _ in rows
        ]

    def brought(self, notice: Notice, place: Place) -> list[ConsumerRecord]:
        """The records that the notice brings along, which has some. Raises ValueError, msgspec.MsgspecError."""
        decode, at_ms = self._headers, notice.at_ms
        return [
            ConsumerRecord(*place, offset, key, value, decode(headers), at_ms)
            for offset, (key, value, headers) in enumerate(self._body(a2b_base64(notice.body)), notice.start)
        ]

    def body(self, records: Sequence[Kept]) -> str:
        """What a notice brings along of these records."""
        return b2a_base64(self._encode(records), newline=False).decode()

    def batch(
        self, records: Sequence[ProducerRecord], topics: Mapping[str, Topic], partitioner: Partitioner
    ) -> Batch:
        """What the query `append` is given of these records."""
        encode = self._encode
        kept = [(record.key, record.value, encode(record.headers)) for record in records]
        topic_of: dict[int, Topic] = {}
        places: list[int] = []
        for record in records:
            topic = topics[record.topic]
            ids = topic.partition_ids
            place = ids[partitioner.partition(record.key, len(ids))]
            places.append(place)
            topic_of[place] = topic
        touched = sorted(set(places))
        batches: dict[int, list[Kept]] = {place: [] for place in touched}
        ranks: list[int] = []
        for place, each in zip(places, kept, strict=True):
            batch = batches[place]
            ranks.append(len(batch))
            batch.append(each)
        seat_of = {place: seat for seat, place in enumerate(touched, 1)}
        return Batch(
            touched,
            [len(batches[place]) for place in touched],
            [topic_of[place].channel for place in touched],
            self._bodies(batches, topic_of),
            ([seat_of[place] for place in places], ranks, *zip(*kept, strict=True)),
        )

    def _bodies(self, batches: Mapping[int, Sequence[Kept]], topic_of: Mapping[int, Topic]) -> list[str | None]:
        """What a notice brings along of each partition, as long as there is room in that of its topic."""
        room = dict.fromkeys((topic.id for topic in topic_of.values()), NOTICE_BYTES)
        for topic in topic_of.values():
            room[topic.id] -= PLACE_BYTES
        bodies: list[str | None] = []
        for place, kept in batches.items():
            topic = topic_of[place]
            body = self.body(kept) if _least_bytes(kept) <= room[topic.id] else None
            if body is not None and len(body) > room[topic.id]:
                body = None
            room[topic.id] -= len(body or "")
            bodies.append(body)
        return bodies


def _least_bytes(kept: Sequence[Kept]) -> int:
    """Less than the body of these records has: what is too much by this is not encoded in vain."""
    return sum(len(key or b"") + len(value or b"") + len(headers) for key, value, headers in kept)


def read_notices(payload: str) -> Iterator[Notice]:
    """Raises ValueError for what is no notice that names partitions."""
    at_ms, *places = payload.split(" ")
    for place in places:
        number, start, count, *body = place.split(":")
        yield Notice(int(number), int(start), int(start) + int(count), int(at_ms), body[0] if body else "")
