"""The topics against the outboxes: every record was published by a service, and all that was published is there.

Outboxes and partitions are read side by side in the order of time, and what is on both sides is put away, so that
only what has no counterpart yet is in memory. What the outbox has forgotten is not judged, nor what has expired from
a topic.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from orderflow.audit.collect import LEDGER_MARGIN, Databases, topics
from orderflow.audit.findings import Finding, Kind
from orderflow.core.dead_letters import SUFFIX, topic_of
from orderflow.core.identity import uuid_of
from orderflow.core.transport import ConsumerRecord, TopicMissingError, Transport
from orderflow.registry import service_of

BATCH = 2_000
SOURCE = "/orderflow/"
REACH = timedelta(minutes=5)
"""How far records of one partition can be out of the order of their times."""
GENERATION = 200_000
"""Keys whose order is followed at a time, at least; those that were not seen for longer are forgotten."""
SHOWN = 80

Place = tuple[str, int]
Ends = Mapping[Place, tuple[int, int]]
Name = tuple[str, str]
"""A topic and an event's id."""


class Written(NamedTuple):
    """A row of an outbox."""

    service: str
    key: str
    digest: str
    is_sent: bool
    at: datetime


class Read(NamedTuple):
    """A record of a topic, where no row was found for it yet."""

    key: str
    digest: str
    partition: int
    offset: int
    source: str
    at: datetime
    """When it says that it was made, or else when it was appended."""


@dataclass(slots=True)
class TopicsReport:
    """What was read and found."""

    records: int = 0
    findings: list[Finding] = field(default_factory=list)


async def ends_of(transport: Transport) -> Ends:
    """All our topics, those of dead letters as far as they are there. Raises TransportUnavailableError."""
    ends: dict[Place, tuple[int, int]] = {}
    for topic in (*topics(), *map(topic_of, topics())):
        with suppress(TopicMissingError):
            ends |= await transport.ends([topic])
    return ends


async def check_topics(databases: Databases, transport: Transport, before: Ends) -> TopicsReport:
    """From within `Databases.snapshots`; `before` are the ends as they were before those were taken.

    So what the outboxes say was sent is on the topics by now, and what was on the topics then is in the outboxes.
    Raises StoreUnavailableError, TransportUnavailableError.
    """
    report = TopicsReport()
    report.findings += await _offsets(databases, transport)
    report.findings += await _letters(databases)
    comparison = Comparison(databases, transport, before, await ends_of(transport), report)
    await comparison.run()
    return report


class Comparison:
    """Of all outboxes with all topics."""

    def __init__(
        self, databases: Databases, transport: Transport, before: Ends, ends: Ends, report: TopicsReport
    ) -> None:
        self._databases = databases
        self._transport = transport
        self._before = before
        self._ends = ends
        self._report = report
        self._rows: dict[Name, Written] = {}
        self._reads: dict[Name, list[Read]] = {}
        self._order = Sequences()
        self._begun: dict[str, datetime] = {}
        self._givers = {each.consumer: name for name in databases.services for each in service_of(name).subscriptions}

    async def run(self) -> None:
        for service in self._databases.services:
            for row in await self._databases.ask(service, "ledger"):
                self._begun[service] = row["created_at"]
        if not self._begun:
            return
        since = min(self._begun.values()) - REACH
        starts = {place: await self._first_since(place, since) for place in self._ends}
        sources = [self._outbox(service) for service in self._begun]
        sources += [self._partition(place, start) for place, start in starts.items()]
        async for take in _by_time(sources):
            take()
        await self._find_copies()
        await self._judge_rows(starts)
        self._judge_records()

    async def _outbox(self, service: str) -> AsyncIterator[Moment]:
        last = -1
        while rows := await self._databases.ask(service, "ledger_rows", last, BATCH):
            last = rows[-1]["id"]
            yield rows[0]["created_at"], partial(self._take_rows, service, rows)

    async def _partition(self, place: Place, start: int) -> AsyncIterator[Moment]:
        offset, end = start, self._ends[place][1]
        while offset < end and (records := await self._transport.read(*place, offset, min(BATCH, end - offset))):
            offset = records[-1].offset + 1
            yield _time(records[0].timestamp), partial(self._take_records, records)

    def _take_rows(self, service: str, rows: Iterable[Any]) -> None:
        for row in rows:
            name = (row["topic"], row["event_id"])
            key = row["key"].decode("utf-8", "backslashreplace")
            self._match(name, Written(service, key, row["digest"], row["is_sent"], row["created_at"]))

    def _take_records(self, records: Iterable[ConsumerRecord]) -> None:
        for record in records:
            self._report.records += 1
            headers = dict(record.headers)
            is_letter = record.topic.endswith(SUFFIX)
            event_id = _text(headers.get("dlt_event_id" if is_letter else "ce_id"))
            # A letter is in the outbox of who gave the event up, whoever has made the event.
            made_by = _text(headers.get("ce_source")).removeprefix(SOURCE)
            source = self._givers.get(_text(headers.get("dlt_consumer")), "") if is_letter else made_by
            read = Read(
                _text(record.key),
                _digest(record),
                record.partition,
                record.offset,
                source,
                _moment(_text(headers.get("ce_time")), record.timestamp),
            )
            self._compare((record.topic, event_id), read)
            if not is_letter and self._is_kept(source, read.at):
                self._follow(record, source, _text(headers.get("ce_sequence")), read.key)

    def _match(self, name: Name, row: Written) -> None:
        reads = self._reads.pop(name, None)
        if reads is None:
            self._rows[name] = row
            return
        for read in reads:
            self._require_same(name, row.digest, read)

    def _compare(self, name: Name, read: Read) -> None:
        row = self._rows.pop(name, None)
        if row is None:
            self._reads.setdefault(name, []).append(read)
            return
        self._require_same(name, row.digest, read)

    def _require_same(self, name: Name, digest: str, read: Read) -> None:
        topic, event_id = name
        # A dead letter is cut to what its topic takes.
        if digest != read.digest and not topic.endswith(SUFFIX):
            self._tell(Kind.RECORD_ALTERED, read.key, f"as {event_id} was made", "another", topic, read)

    def _follow(self, record: ConsumerRecord, source: str, sequence: str, key: str) -> None:
        if not sequence.isdecimal():
            return
        later = self._order.later_than(f"{record.topic}/{record.partition}/{source}/{key}", int(sequence))
        if later:
            where = f"{record.topic}/{record.partition}@{record.offset}"
            told = partial(Finding, where=where, since=_time(record.timestamp))
            found = f"number {sequence} after number {later}"
            finding = told(Kind.RECORDS_OUT_OF_ORDER, key, f"number {sequence} before {later}", found)
            self._report.findings.append(finding)

    async def _find_copies(self) -> None:
        """What was published more than once has found its row taken; and what was out of the order of times."""
        names = list(self._reads)
        for start in range(0, len(names), 10 * BATCH):
            ids = [each for _, text in names[start : start + 10 * BATCH] if (each := _uuid(text)) is not None]
            for service in self._databases.services:
                for row in await self._databases.ask(service, "ledger_find", ids):
                    name = (row["topic"], row["event_id"])
                    for read in self._reads.pop(name, ()):
                        self._require_same(name, row["digest"], read)

    async def _judge_rows(self, starts: Mapping[Place, int]) -> None:
        kept_since = {topic: await self._kept_since(topic) for topic, _ in starts}
        for (topic, event_id), row in self._rows.items():
            if row.is_sent and row.at >= kept_since.get(topic, row.at):
                kind = Kind.DEAD_LETTER_MISSING if topic.endswith(SUFFIX) else Kind.RECORD_MISSING
                told = partial(Finding, where=f"{row.service}, {topic}", since=row.at)
                self._report.findings.append(told(kind, row.key, f"{event_id} on {topic}", "not there"))

    def _judge_records(self) -> None:
        for (topic, event_id), reads in self._reads.items():
            for read in reads:
                is_old = read.offset < self._before.get((topic, read.partition), (0, 0))[1]
                if is_old and self._is_kept(read.source, read.at):
                    kind = Kind.DEAD_LETTER_UNKNOWN if topic.endswith(SUFFIX) else Kind.RECORD_FORGED
                    self._tell(kind, read.key, "a row of an outbox", event_id or "no event id", topic, read)

    def _is_kept(self, source: str, at: datetime) -> bool:
        """An event made then by that service is in its outbox still. Of one that names none, all are asked."""
        begun = self._begun.get(source, max(self._begun.values()) if source not in self._databases.services else None)
        return begun is not None and at >= begun + LEDGER_MARGIN

    def _tell(self, kind: Kind, key: str, expected: str, found: str, topic: str, read: Read) -> None:
        where = f"{topic}/{read.partition}@{read.offset}"
        self._report.findings.append(Finding(kind, key[:SHOWN], expected, found[:SHOWN], where, read.at))

    async def _kept_since(self, topic: str) -> datetime:
        """All that was appended to the topic since is there still."""
        kept = datetime.min.replace(tzinfo=UTC)
        for (name, partition), (first, end) in self._ends.items():
            if name == topic and first:
                records = await self._transport.read(topic, partition, first, 1) if first < end else ()
                kept = max(kept, _time(records[0].timestamp) if records else datetime.max.replace(tzinfo=UTC))
        return kept

    async def _first_since(self, place: Place, since: datetime) -> int:
        """The offset from which on records were appended since then: found by halving."""
        low, high = self._ends[place]
        while low < high:
            middle = (low + high) // 2
            records = await self._transport.read(*place, middle, 1)
            if records and _time(records[0].timestamp) < since:
                low = records[0].offset + 1
            else:
                high = middle
        return low


class Sequences:
    """The numbers that were seen, by key. Remembers two generations of keys."""

    def __init__(self) -> None:
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def later_than(self, key: str, number: int) -> int:
        """The highest number seen before, if it is higher and this one was not seen yet; else 0."""
        seen = self._now.get(key) or self._before.get(key, 0)
        if len(self._now) >= GENERATION:
            self._before, self._now = self._now, {}
        is_new = not seen >> number & 1
        self._now[key] = seen | 1 << number
        return seen.bit_length() - 1 if is_new and seen >> number else 0


Moment = tuple[datetime, Callable[[], None]]


async def _by_time(sources: Sequence[AsyncIterator[Moment]]) -> AsyncIterator[Callable[[], None]]:
    """What the sources give, the oldest first."""
    heap: list[tuple[datetime, int, Callable[[], None]]] = []

    async def pull(number: int) -> None:
        with suppress(StopAsyncIteration):
            at, take = await anext(sources[number])
            heapq.heappush(heap, (at, number, take))

    for number in range(len(sources)):
        await pull(number)
    while heap:
        _, number, take = heapq.heappop(heap)
        yield take
        await pull(number)


async def _offsets(databases: Databases, transport: Transport) -> list[Finding]:
    """Where groups stand. An end that was read before the position can be behind it, so it is read once more."""
    findings: list[Finding] = []
    for service in map(service_of, databases.services):
        for each in service.subscriptions:
            for part in await transport.lag(each.consumer, each.topics):
                where, committed = f"{part.topic}/{part.partition}", part.committed
                told = partial(Finding, Kind.OFFSET_OUT_OF_RANGE, each.consumer, where=where)
                if committed is not None and committed > part.end:
                    _, end = (await transport.ends([part.topic]))[part.topic, part.partition]
                    if committed > end:
                        findings.append(told(expected=f"at most {end}", found=str(committed)))
                if part.expired:
                    findings.append(told(expected=f"at least {part.first}", found=str(committed)))
    return findings


async def _letters(databases: Databases) -> list[Finding]:
    findings: list[Finding] = []
    for service in databases.services:
        for kept in await databases.ask(service, "ledger"):
            since = kept["created_at"] + LEDGER_MARGIN if kept["id"] != 1 else kept["created_at"]
            for row in await databases.ask(service, "letters_missing", since):
                told = partial(Finding, where=service, since=row["last_failed_at"], event=row["event_type"])
                wanted = f"{row['event_id']} on {topic_of(row['topic'])}"
                findings.append(told(Kind.DEAD_LETTER_MISSING, row["key"][:SHOWN], wanted, "not in the outbox"))
        for row in await databases.ask(service, "letters_unknown"):
            told = partial(Finding, where=f"{service}, {row['topic']}", since=row["created_at"])
            wanted = f"{row['event_id']} given up"
            findings.append(told(Kind.DEAD_LETTER_UNKNOWN, row["key"][:SHOWN], wanted, "never given up"))
    return findings


def _digest(record: ConsumerRecord) -> str:
    return hashlib.md5((record.key or b"") + b"\0" + (record.value or b""), usedforsecurity=False).hexdigest()


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "backslashreplace")


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _moment(said: str, appended_ms: int) -> datetime:
    """Nothing is appended before it is made: of two times the earlier is that of its making."""
    appended = _time(appended_ms)
    try:
        made = datetime.fromisoformat(said)
    except ValueError:
        return appended
    return min(made, appended) if made.tzinfo is not None else appended


def _uuid(text: str) -> UUID | None:
    try:
        return uuid_of(text)
    except ValueError:
        return None
