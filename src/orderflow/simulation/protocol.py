"""What must hold of messages at every step, whatever the services decide.

Inbox against effects, outbox against log, parked events against their keys, and the order of each key. Told of each
commit, each append and each committed offset as they happen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from orderflow.core.dead_letters import SUFFIX
from orderflow.core.envelopes import header_text
from orderflow.core.identity import lock_id, record_id, uuid_of, uuid_text
from orderflow.core.inbox import InboxEntry, InboxState, ParkedEvent
from orderflow.core.store import Changes, OutboxRecord
from orderflow.core.testing.state import Locks, MemoryTables
from orderflow.core.transport import ConsumerRecord, Headers, ProducerRecord
from orderflow.simulation.log import TroubledLog
from orderflow.simulation.plan import Trouble, WorldPlan

Place = tuple[str, int]


class KeyOrder:
    """Notes what is committed. Between two topics, or two partitions, there is no order to keep."""

    def __init__(self) -> None:
        self._handled: dict[tuple[str, str], list[UUID]] = {}

    def note(self, committed: Sequence[Changes]) -> None:
        """A transaction has been committed."""
        for changes in committed:
            for entry in changes.inbox:
                if entry.state is InboxState.DONE:
                    self._handled.setdefault((changes.consumer, entry.key), []).append(entry.event_id)

    def broken(self, log: TroubledLog) -> Iterator[str]:
        """A sentence for each event that overtook another of its key."""
        produced: dict[UUID, list[tuple[str, int, int]]] = {}
        for topic in log.topics():
            if not topic.endswith(SUFFIX):
                for event, (partition, offset) in first_offsets(log, topic).items():
                    produced.setdefault(event, []).append((topic, partition, offset))
        for (consumer, key), events in self._handled.items():
            reached: dict[Place, int] = {}
            for event in events:
                for topic, partition, offset in produced.get(event, ()):
                    if offset < reached.get((topic, partition), 0):
                        yield f"{consumer} handled {event} of {key} ({topic}/{partition}@{offset}) too late"
                    reached[topic, partition] = offset


def first_offsets(log: TroubledLog, topic: str) -> dict[UUID, tuple[int, int]]:
    """Event id → partition and offset at which it was produced first."""
    found: dict[UUID, tuple[int, int]] = {}
    for (_, partition), (_, end) in log.ends([topic]).items():
        for record in log.slice(topic, partition, 0, end):
            text = header_text(record.headers, "ce_id")
            with suppress(ValueError):  # what is no event of ours may have any id
                found.setdefault(uuid_of(text), (partition, record.offset))
    return found


DLT = ".DLT"
FLOW = "flow-status"
ALIKE_MAX = 7
"""More keys of one type that fail alike within some seconds are an outage, and are not parked."""

ALIKE_S = 9.0
FINAL = (InboxState.DONE, InboxState.DISCARDED)
Queue = list[tuple[int, str]]


@dataclass(slots=True)
class DatabaseHistory:
    """What is remembered of one database."""

    inbox: dict[tuple[str, str, str], InboxState] = field(default_factory=dict)
    known: set[tuple[str, str]] = field(default_factory=set)
    queues: dict[tuple[str, str], Queue] = field(default_factory=dict)
    parked: dict[int, ParkedEvent] = field(default_factory=dict)
    due_at: dict[int, int] = field(default_factory=dict)
    sequences: Counter[tuple[str, str]] = field(default_factory=Counter)
    slots: dict[str, int] = field(default_factory=dict)
    positions: int = 0
    first: set[str] = field(default_factory=set)
    """Keys of which something has failed for the first time in this commit."""
    alike: dict[tuple[str, str, str], list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    handled: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))


class Protocol:
    """`say` takes a sentence about what must not be; `time` is the virtual time; `lives` says how many processes of a
    service there have been; `befallen` are the keys that something was done to.
    """

    def __init__(
        self,
        plan: WorldPlan,
        say: Callable[[str], None],
        time: Callable[[], float],
        lives: Callable[[str], int],
        befallen: Collection[str],
    ) -> None:
        self._befallen = befallen
        self._all_apart = Trouble.REFUSE_ALL not in plan.troubles
        self._plan = plan
        self._say = say
        self._time = time
        self._lives = lives
        self._books: defaultdict[str, DatabaseHistory] = defaultdict(DatabaseHistory)
        self._written: dict[tuple[str, str, str], tuple[bytes | None, bytes | None, Headers]] = {}
        self._appended: Counter[tuple[str, str]] = Counter()

    def is_genuine(self, event_id: str) -> bool:
        """Whether a service has published it."""
        return any(name[1] == event_id and not name[2] for name in self._written)

    def committed(self, service: str, staged: Sequence[Changes], state: MemoryTables) -> None:
        """`state` is as it is after the commit."""
        books = self._books[service]
        for changes in staged:
            before = [name for name, queue in books.queues.items() if queue]
            books.first = {event.key for event in changes.parked if event.attempts}
            self._inbox(books, changes, state)
            self._reparked(books, changes, state)
            self._edited(books, changes)
            self._released(books, changes)
            self._outbox(books, changes)
            if changes.parked or changes.reparked or changes.outbox:
                self._dead_letters(changes)
            if before or changes.parked or changes.reparked or changes.outbox:
                self._flow(books, changes, before)
            self._no_outage(service, books, changes)

    def under_locks(self, staged: Sequence[Changes], locks: Locks) -> None:
        """About to be committed: what is written of a key, or of a row, is written under its lock. Else two processes
        that have one record at once could both take it for new, which few worlds bring about.
        """
        for changes in staged:
            names = {entry.key for entry in changes.inbox}
            names.update(key for _, key in changes.emitted)
            names.update(uuid_text(row.id) if isinstance(row.id, UUID) else str(row.id) for row in changes.rows)
            for name in sorted(names):
                if not locks.is_held(lock_id(name)):
                    self._say(f"{changes.consumer} writes of {name} without its lock")

    def appending(self, records: Sequence[ProducerRecord]) -> None:
        """A relay has appended these."""
        for record in records:
            written = self._written.get(_name(record))
            if (
                written is None
                or written[:2] != (record.key, record.value)
                or not _begins(record.headers, written[2])
            ):
                event_id = _header(record.headers, "ce_id")
                self._say(f"the log gets {record.topic} {event_id}, which no outbox has so")
            if record.topic.endswith(DLT):
                continue
            source = _header(record.headers, "ce_source")
            stream, number = (source, (record.key or b"").decode()), int(_header(record.headers, "ce_sequence") or 0)
            if number > self._appended[stream] + 1:
                self._say(f"event {number} of {stream} is in the log before event {self._appended[stream] + 1}")
            self._appended[stream] = max(number, self._appended[stream])
            if not _header(record.headers, "ce_time"):
                self._say(f"{record.topic} {_header(record.headers, 'ce_id')} has no time")

    def offsets_committed(
        self, service: str, group: str, records: Sequence[ConsumerRecord], unread: Collection[bytes]
    ) -> None:
        """The group has committed these, the first time or again."""
        known = self._books[service].known
        for record in records:
            if dict(record.headers).get("ce_type") in unread:
                continue
            if (group, _header(record.headers, "ce_id")) in known:
                continue
            if (group, uuid_text(record_id(record.topic, record.partition, record.offset))) not in known:
                self._say(
                    f"{group} committed {record.topic}/{record.partition}@{record.offset}, which it has not noted"
                )

    def _inbox(self, books: DatabaseHistory, changes: Changes, state: MemoryTables) -> None:
        fresh = self._parked(books, changes, state)
        for entry in changes.inbox:
            name = (changes.consumer, entry.key, entry.identity)
            before = books.inbox.get(name)
            if before in FINAL:
                self._say(
                    f"{changes.consumer} had {entry.event_id} of {entry.key} as {before!r}, now {entry.state!r}"
                )
            books.inbox[name] = entry.state
            books.known.add((changes.consumer, uuid_text(entry.event_id)))
            books.known.add((changes.consumer, entry.identity))
            queue = books.queues.get((changes.consumer, entry.key))
            if queue is None:
                queue = books.queues[changes.consumer, entry.key] = []
            if (position := fresh.get((entry.key, entry.identity))) is not None:
                queue.append((position, entry.identity))
            elif entry.state is InboxState.DONE:
                self._in_its_turn(changes, entry, queue)
        for fact in changes.facts:
            if fact.TABLE != "notifications":
                continue
            cause = str(getattr(fact, "cause", ""))
            if not any(cause == uuid_text(entry.event_id) for entry in changes.inbox):
                self._say(f"a notification is caused by {cause}, which is not noted beside it")

    def _parked(self, books: DatabaseHistory, changes: Changes, state: MemoryTables) -> dict[tuple[str, str], int]:
        """The positions of what was parked, by (key, identity)."""
        fresh: dict[tuple[str, str], int] = {}
        if not changes.parked:
            return fresh
        mine = {(event.key, event.identity): event for event in changes.parked}
        for position in range(books.positions + 1, state.positions + 1):
            waiting = state.parked.get(position)
            if waiting is None or waiting.consumer != changes.consumer:
                continue
            name = (waiting.event.key, waiting.event.identity)
            if name in mine:
                fresh[name] = position
                self._waits(books, changes.consumer, waiting.event, mine[name], 0)
                books.due_at[position] = waiting.next_attempt_at
        books.positions = state.positions
        return fresh

    def _in_its_turn(self, changes: Changes, entry: InboxEntry, queue: Queue) -> None:
        """What is handled is the first of its key."""
        if not queue:
            return
        if queue[0][1] == entry.identity:
            queue.pop(0)
        elif any(identity == entry.identity for _, identity in queue):
            self._say(f"{changes.consumer} handled {entry.event_id} of {entry.key} before what waited longer")
        else:
            self._say(f"{changes.consumer} handled {entry.event_id} of {entry.key}, which overtook what is parked")

    def _reparked(self, books: DatabaseHistory, changes: Changes, state: MemoryTables) -> None:
        for event in changes.reparked:
            before = books.parked.get(event.position)
            waiting = state.parked.get(event.position)
            if before is None or waiting is None:
                self._say(f"{changes.consumer} failed again at position {event.position}, where nothing was parked")
                continue
            now = waiting.next_attempt_at - event.delay_ms
            replayed = waiting.event.replays != before.replays
            if not before.attempts:
                books.first.add(event.key)
            queue = books.queues.get((changes.consumer, event.key), [])
            if queue and queue[0][0] != event.position:
                self._say(f"{changes.consumer} tried position {event.position} of {event.key} before {queue[0][0]}")
            if not replayed and before.state is InboxState.DEAD:
                self._say(f"{changes.consumer} tried {event.event_id} again, which was given up")
            elif not replayed and now < books.due_at.get(event.position, 0):
                self._say(f"{changes.consumer} tried {event.event_id} again before it was due")
            self._waits(books, changes.consumer, waiting.event, event, 0 if replayed else before.attempts)
            books.due_at[event.position] = waiting.next_attempt_at

    def _waits(
        self, books: DatabaseHistory, consumer: str, event: ParkedEvent, said: ParkedEvent, failed: int
    ) -> None:
        """The number of attempts is right, and so is the wait for the next one. While others fail alike, it is in
        doubt whose fault that is, and no attempt is counted.
        """
        books.parked[event.position] = event
        config = self._plan.config
        if self._all_apart and "/" not in event.key and event.key not in self._befallen:
            self._say(f"{consumer} parked {event.event_type} of {event.key}, which nothing has befallen")
        if event.attempts == 0:
            return
        alone = len(self._befallen) < 2 and self._all_apart
        right = (failed + 1,) if alone else (failed + 1, max(1, failed))
        if not event.replays and event.attempts not in right:
            self._say(f"{consumer}: {event.event_id} has failed {failed + 1} times and says {event.attempts}")
        if event.state is InboxState.DEAD:
            unknown = event.failure is not None and event.failure.kind == "unknown"
            if unknown and event.attempts < config.attempts_max:
                self._say(f"{consumer} gave {event.event_id} up after {event.attempts} of {config.attempts_max}")
        elif event.attempts >= config.attempts_max:
            self._say(f"{consumer} tries {event.event_id} on after {event.attempts} of {config.attempts_max}")
        elif not config.retry_first_ms / 2 <= said.delay_ms <= config.retry_ceiling_ms:
            self._say(f"{consumer} tries {event.event_id} again in {said.delay_ms} ms")

    def _edited(self, books: DatabaseHistory, changes: Changes) -> None:
        for edit in changes.edited:
            for (consumer, _), queue in books.queues.items():
                if consumer == changes.consumer:
                    queue[:] = [(at, edit.identity if at == edit.position else name) for at, name in queue]

    def _released(self, books: DatabaseHistory, changes: Changes) -> None:
        for position in changes.released:
            books.parked.pop(position, None)
            for queue in books.queues.values():
                if queue:
                    queue[:] = [each for each in queue if each[0] != position]

    def _outbox(self, books: DatabaseHistory, changes: Changes) -> None:
        if not changes.outbox:
            return
        causes = {uuid_text(entry.event_id) for entry in changes.inbox}
        for record in changes.outbox:
            key = (record.key or b"").decode("utf-8", "backslashreplace")
            told = {header: value for header, value in record.headers if value is not None}
            if books.slots.setdefault(key, record.slot) != record.slot:
                self._say(f"{key} has the slots {books.slots[key]} and {record.slot}")
            if record.topic.endswith(DLT):
                self._written[_name(record)] = (record.key, record.value, record.headers)
                continue
            name = record.topic, _text(told, "ce_id"), ""
            if name in self._written:
                self._say(f"{record.topic} {record.event_id} is published twice")
            self._written[name] = (record.key, record.value, record.headers)
            stream = (_text(told, "ce_source"), key)
            number = books.sequences[stream] = books.sequences[stream] + 1
            if int(_text(told, "ce_sequence") or 0) != number:
                self._say(f"event {number} of {stream} says {_text(told, 'ce_sequence')}")
            self._is_addressed(record, told, key, causes)

    def _is_addressed(
        self, record: OutboxRecord, told: Mapping[str, bytes], key: str, causes: Collection[str]
    ) -> None:
        cause = _text(told, "ce_causationid")
        by_command = record.topic in ("order-events", "payment-status")
        if not cause or (cause not in causes and not by_command):
            self._say(
                f"{record.topic} {record.event_id} is caused by {cause or 'nothing'}, which is not noted beside it"
            )
        if (_text(told, "ce_id"), _text(told, "ce_subject")) != (uuid_text(record.event_id), key):
            self._say(f"{record.topic} {record.event_id} is not addressed as such")

    def _dead_letters(self, changes: Changes) -> None:
        """What is given up is on the dead-letter topic: whole, and with the reason."""
        letters = {(each.topic, str(each.event_id)): each for each in changes.outbox if each.topic.endswith(DLT)}
        for event in (*changes.parked, *changes.reparked):
            if event.state is not InboxState.DEAD or not event.record.topic:
                continue
            letter = letters.pop((event.record.topic + DLT, str(event.event_id)), None)
            if letter is None:
                self._say(f"{changes.consumer} gave {event.event_id} up without a dead letter")
                continue
            facts: dict[str, Any] = dict(letter.headers)
            right = {
                "dlt_consumer": changes.consumer,
                "dlt_topic": event.record.topic,
                "dlt_offset": str(event.record.offset),
                "dlt_event_id": str(event.event_id),
                "dlt_attempts": str(event.attempts),
                "dlt_error": event.failure.error if event.failure else "",
            }
            found = {name: (facts.get(name) or b"").decode() for name in right}
            if found != right or "dlt_message" not in facts:
                self._say(f"the dead letter of {event.event_id} says {found}, right is {right}")
            whole = (letter.key, letter.value) == (event.record.key, event.record.value)
            if not whole or not _begins(letter.headers, event.record.headers):
                self._say(f"the dead letter of {event.event_id} is not its original")
        if letters:
            self._say(f"{changes.consumer} wrote dead letters of what it did not give up: {list(letters)}")

    def _flow(self, books: DatabaseHistory, changes: Changes, before: Sequence[tuple[str, str]]) -> None:
        """Who is stuck says so, and says when it is not any more."""
        right: dict[tuple[str, str], int] = {}
        for event in (*changes.parked, *changes.reparked):
            if event.record.topic != FLOW and event.attempts:
                if event.state is InboxState.DEAD:
                    _one_more(right, "Dead", event.key)
                elif event.key in books.first:
                    _one_more(right, "Parked", event.key)
        for consumer, key in before:
            if consumer == changes.consumer != "order.flow" and not books.queues[consumer, key]:
                _one_more(right, "Reopened", key)
        said: dict[tuple[str, str], int] = {}
        for record in changes.outbox:
            if record.topic == FLOW:
                kind = _header(record.headers, "ce_type").removeprefix("orderflow.").split(".v")[0]
                _one_more(said, kind, (record.key or b"").decode())
        if said != right:
            self._say(f"{changes.consumer} says {said} of what is stuck, right is {right}")

    def _no_outage(self, service: str, books: DatabaseHistory, changes: Changes) -> None:
        """What fails alike, many keys at once, is no event's fault: it is not parked."""
        now = self._time()
        for event in changes.parked:
            if event.attempts == 1 and event.failure is not None and event.failure.kind == "unknown":
                alike = books.alike[changes.consumer, event.event_type, event.failure.fingerprint]
                alike.append((now, event.key))
                keys = {key for at, key in alike if at >= now - ALIKE_S}
                done = sum(
                    at >= now - ALIKE_S for at in books.handled[changes.consumer, event.event_type.split(".v")[0]]
                )
                if len(keys) > max(ALIKE_MAX * self._lives(service), 2 * done + ALIKE_MAX):
                    self._say(f"{changes.consumer} parked {len(keys)} keys that failed alike: that is an outage")
        for entry in changes.inbox:
            if entry.state is InboxState.DONE:
                books.handled[changes.consumer, entry.identity.split(".v")[0]].append(now)


def _name(record: OutboxRecord | ProducerRecord) -> tuple[str, str, str]:
    if record.topic.endswith(DLT):
        found = dict(record.headers)
        written_by = f"{found.get('dlt_consumer')!r} after {found.get('dlt_attempts')!r}"
        return record.topic, (found.get("dlt_event_id") or b"").decode("utf-8", "backslashreplace"), written_by
    return record.topic, _header(record.headers, "ce_id"), ""


def _one_more(counts: dict[tuple[str, str], int], kind: str, key: str) -> None:
    counts[kind, key] = counts.get((kind, key), 0) + 1


def _begins(headers: Sequence[object], beginning: Sequence[object]) -> bool:
    start = [each for each in beginning if each != ("dlt_first_failed_at", None)]
    return list(headers[: len(start)]) == start


def _text(told: Mapping[str, bytes], name: str) -> str:
    return told.get(name, b"").decode("utf-8", "backslashreplace")


def _header(headers: Headers, name: str) -> str:
    """The last one of that name, if it can be read."""
    for header, value in reversed(headers):
        if header == name and value is not None:
            return value.decode("utf-8", "backslashreplace")
    return ""
