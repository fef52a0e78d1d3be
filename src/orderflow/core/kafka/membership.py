"""Membership of a group for one topic: the thread that keeps it alive, with one client after the other.

librdkafka says itself where its membership stands. There are places that it never leaves: an OffsetCommit whose
answer does not come keeps it at `wait-incr-unassign-to-complete`, without heartbeats, while every broker answers.
So a client that is no working member any more is replaced. The thread never stops polling.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from operator import methodcaller
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from orderflow.core.crash_points import Point, reached
from orderflow.core.kafka.settings import STATISTICS_S, TOPIC_MISSING, KafkaSettings, translate
from orderflow.core.transport import (
    UNREADABLE_HEADERS,
    ConsumerRecord,
    Headers,
    TopicMissingError,
    TopicReplacedError,
    TransportUnavailableError,
    size_of,
)

read_headers = methodcaller("headers")
"""Over a name that is not UTF-8 the client returns a result and leaves an error set. A plain call that the
interpreter has specialised does not look for that: the error would come up anywhere later, and end the thread."""


def from_message(message: Any) -> ConsumerRecord:
    """`message` is a `confluent_kafka.Message` without an error; its stubs say less than that.

    Key, value and headers may each be missing: Kafka lets producers do that.
    """
    return ConsumerRecord(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        _headers(message),
        message.timestamp()[1],
    )


def _headers(message: Any) -> Headers:
    try:
        headers = read_headers(message)
    except (SystemError, UnicodeDecodeError) as error:
        # A name that is not UTF-8 cannot be had from this client, nor safely the other headers then: that is said in
        # their place. The record is undecodable, and is kept as such.
        return ((UNREADABLE_HEADERS, str(error.__cause__ or error).encode()),)
    return tuple(headers) if headers else ()


Place = tuple[str, int]
MAX_RECORDS = 2_000
MAX_BYTES = 32 * 1024 * 1024
HEADER_BYTES = 64
"""About what a header takes in memory beside its bytes: there may be a million of two bytes each."""
NEVER = -1


@dataclass(slots=True, eq=False)
class FetchedPartition:
    """A partition held. `fetched` is the offset after the last record that was put, `position` after the last that
    was taken, `done` after the last that the caller is done with; `committed` is what the broker has been told.

    `reached` is where the client will fetch next: beyond `fetched` when what follows is not for readers (the
    control records of transactions, and what was aborted).
    """

    fetched: int = 0
    position: int = 0
    done: int = 0
    committed: int = 0
    reached: int = 0

    def pass_over(self) -> None:
        """All before the place that was reached is done: so is what lies up to there."""
        if self.done >= self.fetched and self.reached > self.done:
            self.fetched = self.position = self.done = self.reached


class FetchBuffer:
    """Safe for one thread that puts and one that takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._records: deque[ConsumerRecord] = deque()
        self._weights: deque[int] = deque()
        self._bytes = 0
        self._held: dict[Place, FetchedPartition] = {}

    def places(self) -> frozenset[Place]:
        with self._changed:
            return frozenset(self._held)

    def assign(self, places: Iterable[Place], *, again: Mapping[Place, int] | None = None) -> None:
        """Hold these from now on. Those of `again` start at the offset there: the broker is to be told at once."""
        with self._changed:
            for place in places:
                self._held.setdefault(place, FetchedPartition())
            for place, first in (again or {}).items():
                self._held[place] = FetchedPartition(first, first, first, NEVER, first)

    def put(self, records: Iterable[ConsumerRecord]) -> None:
        with self._changed:
            for record in records:
                holding = self._held.get((record.topic, record.partition))
                if holding is not None:
                    holding.fetched = record.offset + 1
                    weight = weight_of(record)
                    self._records.append(record)
                    self._weights.append(weight)
                    self._bytes += weight

    def reach(self, positions: Mapping[Place, int]) -> None:
        """Say where the client will fetch next, after `put` of all that it has handed over before."""
        with self._changed:
            for place, position in positions.items():
                holding = self._held.get(place)
                if holding is not None:
                    holding.reached = position
                    holding.pass_over()

    def take(self, limit: int) -> list[ConsumerRecord]:
        with self._changed:
            records = [self._records.popleft() for _ in range(min(limit, len(self._records)))]
            for record in records:
                self._held[record.topic, record.partition].position = record.offset + 1
                self._bytes -= self._weights.popleft()
            self._changed.notify_all()
            return records

    def mark_done(self, records: Sequence[ConsumerRecord]) -> None:
        """Only what was taken under the present holding counts, and only forward."""
        with self._changed:
            for record in records:
                holding = self._held.get((record.topic, record.partition))
                if holding is not None and holding.done <= record.offset < holding.position:
                    holding.done = record.offset + 1
                    holding.pass_over()
            self._changed.notify_all()

    def to_commit(self, places: Iterable[Place] | None = None) -> dict[Place, int]:
        """Offsets that are done and that the broker has not been told yet; they count as told from now on."""
        with self._changed:
            offsets: dict[Place, int] = {}
            for place in self._held if places is None else places:
                holding = self._held.get(place)
                if holding is not None and holding.done > holding.committed:
                    offsets[place] = holding.committed = holding.done
            return offsets

    def commit_failed(self, offsets: Mapping[Place, int]) -> None:
        """Say these again, unless something newer has been said since."""
        with self._changed:
            for place, offset in offsets.items():
                holding = self._held.get(place)
                if holding is not None and holding.committed == offset:
                    holding.committed = NEVER

    def drop_records(self, places: frozenset[Place]) -> None:
        """Forget what was fetched of these partitions and not taken."""
        with self._changed:
            kept = [r for r in self._records if (r.topic, r.partition) not in places]
            self._records = deque(kept)
            self._weights = deque(map(weight_of, kept))
            self._bytes = sum(self._weights)
            self._changed.notify_all()

    def wait_done(self, places: Iterable[Place], timeout_s: float) -> None:
        """Wait until everything taken of these partitions is done, but no longer than the timeout."""
        holdings = [self._held[place] for place in places if place in self._held]
        with self._changed:
            self._changed.wait_for(lambda: all(h.done >= h.position for h in holdings), timeout_s)

    def release(self, places: Iterable[Place]) -> None:
        with self._changed:
            for place in places:
                self._held.pop(place, None)

    def is_full(self) -> bool:
        with self._changed:
            return len(self._records) >= MAX_RECORDS or self._bytes >= MAX_BYTES

    def has_room(self) -> bool:
        """Half empty: worth fetching again."""
        with self._changed:
            return self._has_room()

    def wait_for_room(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(self._has_room, timeout_s)

    def _has_room(self) -> bool:
        return len(self._records) <= MAX_RECORDS // 2 and self._bytes <= MAX_BYTES // 2


def weight_of(record: ConsumerRecord) -> int:
    """About the memory that it takes."""
    return size_of(record) + HEADER_BYTES * len(record.headers)


UNJOINED_PATIENCE_S = 8.0
PATIENCE_FACTOR_MAX = 8
STEP_MAX_S = 5.0


class MemberState(Enum):
    """WELL; WAITING: not a member at this moment, as in every rebalance; STUCK: longer than that; LOST: for good."""

    WELL = "well"
    WAITING = "waiting"
    STUCK = "stuck"
    LOST = "lost"


class _Group(msgspec.Struct, frozen=True):
    state: str = ""
    join_state: str = ""


class _Statistics(msgspec.Struct, frozen=True):
    cgrp: _Group = _Group()


_STATISTICS = msgspec.json.Decoder(_Statistics)


@dataclass(frozen=True, slots=True)
class GroupState:
    """What librdkafka's statistics say (STATISTICS.md, `cgrp`)."""

    state: str
    join_state: str

    @classmethod
    def of(cls, statistics: str) -> GroupState:
        group = _STATISTICS.decode(statistics).cgrp
        return cls(group.state, group.join_state)

    @property
    def joined(self) -> bool:
        """It has a coordinator and an assignment, which may be empty: there can be more members than partitions."""
        return self.state == "up" and self.join_state == "steady"

    def __str__(self) -> str:
        return f"coordinator {self.state or 'unknown'}, {self.join_state or 'not joined'}"


class MembershipWatch:
    """Judges one client after the other.

    `lost_after_s` is longer than a rebalance takes, which waits a session timeout for members that died. It doubles
    with every client that is lost: the cause may be one that no new client heals.
    """

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._factor = 1
        self._unjoined_s = 0.0
        self._looked_at: float | None = None

    def judge(self, now: float, *, joined: bool, answered: bool, holds: bool) -> MemberState:
        """`answered`: the brokers answer others. While they do not, nothing is the client's fault."""
        before, self._looked_at = self._looked_at, now
        if joined:
            self._factor = 1
        if joined or not answered:
            self._unjoined_s = 0.0
            return MemberState.WELL if joined else MemberState.WAITING
        if before is not None:
            # A process that was stopped looks long after: its client has not had that time.
            self._unjoined_s += min(now - before, STEP_MAX_S)
        if self._unjoined_s >= self._lost_after_s * self._factor:
            self._factor = min(2 * self._factor, PATIENCE_FACTOR_MAX)
            self._unjoined_s = 0.0
            return MemberState.LOST
        return MemberState.STUCK if self._unjoined_s >= UNJOINED_PATIENCE_S and not holds else MemberState.WAITING


POLL_S = 0.2
COMMIT_EVERY_S = 0.5
COMMIT_AGAIN_S = 1.0
REACH_EVERY_S = 1.0
BATCH = 500
BACK_PRESSURE_S = 1.0
REVOKE_PATIENCE_S = 2.0
LEAVE_TIMEOUT_S = 5.0
# Statistics come from the library's main thread: when they fail to come, that hangs.
STATISTICS_PATIENCE_S = 5 * STATISTICS_S
TOPIC_ID = "topic-id="
MADE_AGAIN = "it was deleted and made again"

# Their public names.
_PASSING = frozenset({KafkaError._PARTITION_EOF, KafkaError._MAX_POLL_EXCEEDED})  # noqa: SLF001
_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001


class LogMovedError(Exception):
    """What was to be read next is not in the log any more: a new client reads what is `moved` from its beginning."""

    def __init__(self, moved: Callable[[Place], bool], replaced: TopicReplacedError | None) -> None:
        super().__init__(str(replaced or "the next record has expired"))
        self.moved = moved
        self.replaced = replaced


class KafkaMember:
    """`turn` again and again, then `leave`.

    `topic_id` tells the topic from a later one of the same name. It is kept beside every offset that is committed:
    an offset of another topic says nothing about this one. What is `moved` is read from the beginning whatever was
    committed, at the first assignment. `fail` hears what is wrong, `well` that something works, `replaced` of a
    topic that is another one.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topic: str,
        topic_id: str,
        moved: Callable[[Place], bool],
        buffer: FetchBuffer,
        *,
        fail: Callable[[Exception], None],
        well: Callable[[], None],
        replaced: Callable[[TopicReplacedError], None],
    ) -> None:
        self._topic = topic
        self._topic_id = topic_id
        self.moved = moved
        self._buffer = buffer
        self._fail = fail
        self._well = well
        self._replaced = replaced
        self._timeout_s = settings.request_timeout_s
        self._refusals = settings.refusals
        self._group_state = GroupState("", "")
        self._group_state_at = time.monotonic()
        self._paused = False
        self._commit_at = 0.0
        self._reach_at = 0.0
        self._held: set[Place] = set()
        self._fed: set[Place] = set()
        self._over = False
        self._consumer = Consumer(
            {
                **settings.consumer(group),
                "error_cb": self._on_error,
                "on_commit": self._on_commit,
                "stats_cb": self._on_statistics,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    @property
    def holds(self) -> bool:
        """It has partitions."""
        return bool(self._held)

    @property
    def group_state(self) -> GroupState:
        """What the client last said of itself; unknown when it has said nothing for too long."""
        if time.monotonic() - self._group_state_at > STATISTICS_PATIENCE_S:
            return GroupState("", "silent")
        return self._group_state

    def turn(self) -> None:
        """Poll once, hand over what is there, commit what is done. Raises LogMovedError, KafkaException."""
        self._apply_back_pressure()
        first = self._consumer.poll(POLL_S)
        if first is not None:
            self._receive([first, *self._consumer.consume(BATCH - 1, 0)])
        now = time.monotonic()
        if now >= self._reach_at:
            self._reach_at = now + REACH_EVERY_S
            self._buffer.reach(self._positions())
        if now >= self._commit_at:
            self._commit(self._buffer.to_commit(self._held))

    def check_ends(self) -> None:
        """Raises LogMovedError when a partition ends before the place that was reached in it."""
        shrunk = set()
        for place, position in self._positions().items():
            if place not in self._fed:
                # What the library knows of its end may be from the last time that it was held.
                continue
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            if 0 <= end < position:
                shrunk.add(place)
        if shrunk:
            raise LogMovedError(shrunk.__contains__, _shrunk(self._topic, shrunk))

    def leave(self, *, commit: bool) -> None:
        """Leave the group, with a last commit of what is done if that is still true.

        A client that does not come back from that is left to itself: the group puts it out.
        """
        if commit:
            with suppress(KafkaException):
                self._commit(self._buffer.to_commit(self._held))
        self._over = True
        self._forget(self._held)
        closing = threading.Thread(target=self._close, name="kafka-leave", daemon=True)
        closing.start()
        closing.join(LEAVE_TIMEOUT_S)

    def _close(self) -> None:
        with suppress(KafkaException, RuntimeError):
            self._consumer.close()

    def _receive(self, messages: Iterable[Message]) -> None:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                record = from_message(message)
                records.append(record)
                self._fed.add((record.topic, record.partition))
            elif error.fatal() or error.code() in TOPIC_MISSING:
                # A topic that is gone may come back as another one: nothing more is read before that is known.
                raise KafkaException(error)
            elif error.code() in _OUT_OF_RANGE:
                self._out_of_range(message)
            elif error.code() not in _PASSING:
                self._fail(translate(error, self._topic, refusals=self._refusals))
        if records:
            self._buffer.put(records)
            self._well()

    def _out_of_range(self, message: Message) -> None:
        """What was to be read next is not in the log: it has expired, or the log has lost its end."""
        place = self._topic, message.partition() or 0
        _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=self._timeout_s)
        shrunk = (message.offset() or 0) > end
        raise LogMovedError({place}.__contains__, _shrunk(self._topic, [place]) if shrunk else None)

    def _positions(self) -> dict[Place, int]:
        asked = [TopicPartition(*place) for place in self._held]
        found = self._consumer.position(asked) if asked else []
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def _apply_back_pressure(self) -> None:
        """Pausing throws away what was fetched ahead: first wait a little for the reader."""
        if self._paused:
            if self._buffer.has_room():
                self._consumer.resume(self._consumer.assignment())
                self._paused = False
        elif self._buffer.is_full() and not self._buffer.wait_for_room(BACK_PRESSURE_S):
            self._consumer.pause(self._consumer.assignment())
            self._paused = True

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._over:
            return
        again: dict[Place, int] = {}
        starts = [self._start(each, again) for each in consumer.committed(partitions, timeout=self._timeout_s)]
        self.moved = nothing
        self._held.update(_places(partitions))
        self._buffer.assign(_places(partitions), again=again)
        consumer.incremental_assign(starts)
        if self._paused:
            consumer.pause(partitions)
        self._well()

    def _start(self, committed: TopicPartition, again: dict[Place, int]) -> TopicPartition:
        """Where to read on: at what was committed, if that was said of this log and is still in it."""
        place = committed.topic, committed.partition
        beginning = TopicPartition(*place, OFFSET_BEGINNING)
        if committed.offset < 0:
            return beginning
        first, end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=self._timeout_s)
        _, said, topic_id = (committed.metadata or "").partition(TOPIC_ID)
        another = bool(said and self._topic_id) and topic_id != self._topic_id
        if another:
            self._replaced(TopicReplacedError(self._topic, MADE_AGAIN))
        elif committed.offset < first:
            return beginning
        elif committed.offset > end:
            self._replaced(_shrunk(self._topic, [place]))
        elif not self.moved(place):
            return TopicPartition(*place, committed.offset)
        again[place] = first
        return beginning

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._over:
            return
        reached(Point.PARTITIONS_REVOKED)
        places = frozenset(_places(partitions))
        self._buffer.drop_records(places)
        self._buffer.wait_done(places, REVOKE_PATIENCE_S)
        with suppress(KafkaException):
            # The library gives the partitions up after this commit, so whoever holds them next finds it.
            self._commit(self._buffer.to_commit(places))
        self._forget(places)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not self._over:
            self._forget(_places(partitions))

    def _on_error(self, error: KafkaError) -> None:
        if self._over:
            return
        self._refusals.hear(error)
        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            self._fail(translate(error, self._topic, refusals=self._refusals))

    def _on_statistics(self, statistics: str) -> None:
        self._group_state = GroupState.of(statistics)
        self._group_state_at = time.monotonic()

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failed = [partition for partition in partitions if error is not None or partition.error is not None]
        if not failed:
            reached(Point.OFFSETS_WRITTEN)
        elif not self._over:
            self._buffer.commit_failed({(p.topic, p.partition): p.offset for p in failed})
            self._commit_at = time.monotonic() + COMMIT_AGAIN_S

    def _commit(self, offsets: Mapping[Place, int]) -> None:
        """Best effort: whoever holds the partition next gets the records again, and drops them.

        Never waits for the answer: a commit that is not answered must not stop the thread.
        """
        if offsets:
            self._commit_at = time.monotonic() + COMMIT_EVERY_S
            metadata = f"{TOPIC_ID}{self._topic_id}" if self._topic_id else ""
            reached(Point.OFFSETS_WRITING)
            self._consumer.commit(
                offsets=[TopicPartition(*place, offset, metadata) for place, offset in offsets.items()],
                asynchronous=True,
            )

    def _forget(self, places: Iterable[Place]) -> None:
        gone = frozenset(places)
        self._held -= gone
        self._fed -= gone
        self._buffer.drop_records(gone)
        self._buffer.release(gone)


def _shrunk(topic: str, places: Collection[Place]) -> TopicReplacedError:
    numbers = ", ".join(str(partition) for _, partition in sorted(places))
    return TopicReplacedError(topic, f"it ends before the place that was read up to (partition {numbers})")


def nothing(_: Place) -> bool:
    """Nothing is moved."""
    return False


def _places(partitions: Iterable[TopicPartition]) -> list[Place]:
    return [(partition.topic, partition.partition) for partition in partitions]


LOOK_EVERY_S = 4.0
LOOK_AGAIN_S = 1.0
REBUILD_S = 1.0
# How long a broker may take to say what a topic's id is, the busy event loop between us included.
ANSWER_TIMEOUT_S = 15.0


class Poller:
    """Reads one topic for a group.

    `topic_id` asks the brokers, on another thread. `wake` is called from this thread whenever there is something new
    to see: records, `problem`, one of `notices`, the end.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topic: str,
        buffer: FetchBuffer,
        *,
        topic_id: Callable[[], Future[str]],
        wake: Callable[[], None],
    ) -> None:
        self.problem: Exception | None = None
        self.notices: deque[TopicReplacedError] = deque()
        self._settings = settings
        self._group = group
        self._topic = topic
        self._buffer = buffer
        self._ask_topic_id = topic_id
        self._wake = wake
        self._stopping = threading.Event()
        self._membership = MembershipWatch(settings.lost_after_s)
        self._moved: Callable[[Place], bool] = nothing
        # What a client died of, until it is known whether the topic is another one altogether.
        self._suspected: TopicReplacedError | None = None
        self._topic_id = ""
        self._told: set[tuple[str, str]] = set()
        self._asked: Future[str] | None = None
        self._asked_at = 0.0
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"kafka-poll-{group}-{topic}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to commit what is done, leave the group, and end."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._live()
            except LogMovedError as error:
                self._moved, self._suspected = error.moved, error.replaced
            except KafkaException as error:
                # Fatal for this client, not for us: librdkafka wants a new one.
                self._fail(translate(error.args[0], self._topic, refusals=self._settings.refusals))
                self._stopping.wait(REBUILD_S)
            except Exception as error:  # noqa: BLE001  # whatever it is, this thread must not end with it
                self._fail(error)
                self._stopping.wait(REBUILD_S)
        self._wake()

    def _live(self) -> None:
        """The life of one client. Raises what ends it; returns when we are to stop."""
        topic_id = self._wait_for_topic_id()
        if topic_id is None:
            return
        if self._topic_id and topic_id != self._topic_id:
            self._moved, self._suspected = _everything, TopicReplacedError(self._topic, MADE_AGAIN)
        self._topic_id = topic_id
        if self._suspected is not None:
            self._announce(self._suspected)
            self._suspected = None
        member = KafkaMember(
            self._settings,
            self._group,
            self._topic,
            topic_id,
            self._moved,
            self._buffer,
            fail=self._fail,
            well=self._well,
            replaced=self._announce,
        )
        moved = False
        try:
            while not self._stopping.is_set():
                member.turn()
                self._look(member)
        except LogMovedError:
            moved = True
            raise
        finally:
            self._moved = member.moved
            member.leave(commit=not moved)
            self._wake()

    def _wait_for_topic_id(self) -> str | None:
        """None when we are to stop. Raises TopicMissingError, TransportUnavailableError."""
        asked = self._ask_topic_id()
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not self._stopping.is_set():
            if asked.done() or time.monotonic() >= deadline:
                return self._answer(asked)
            wait([asked], POLL_S)
        return None

    def _look(self, member: KafkaMember) -> None:
        """From time to time: is the topic still the one that it was, and are we a working member of the group?

        Raises LogMovedError, TransportUnavailableError (the client is lost), TopicMissingError.
        """
        now = time.monotonic()
        if self._asked is None:
            if now >= self._look_at:
                self._asked, self._asked_at = self._ask_topic_id(), now
            return
        if not self._asked.done() and now - self._asked_at < ANSWER_TIMEOUT_S:
            return
        answered = self._take_answer()
        quiet = self.problem is None and member.group_state.joined
        self._look_at = now + (LOOK_EVERY_S if quiet else LOOK_AGAIN_S)
        if answered:
            member.check_ends()
        self._judge(member, now, answered=answered)

    def _take_answer(self) -> bool:
        """Whether the brokers answered. Raises LogMovedError."""
        asked, self._asked = self._asked, None
        assert asked is not None
        try:
            topic_id = self._answer(asked)
        except (TopicMissingError, TransportUnavailableError) as error:
            self._fail(error)
            return False
        if topic_id != self._topic_id:
            raise LogMovedError(_everything, TopicReplacedError(self._topic, MADE_AGAIN))
        return True

    def _answer(self, asked: Future[str]) -> str:
        try:
            return asked.result(0)
        except (TimeoutError, CancelledError) as error:
            asked.cancel()
            raise TransportUnavailableError(f"Kafka does not say what has become of topic {self._topic}") from error

    def _judge(self, member: KafkaMember, now: float, *, answered: bool) -> None:
        state = member.group_state
        verdict = self._membership.judge(now, joined=state.joined, answered=answered, holds=member.holds)
        trouble = f"no working member of group {self._group!r} for {self._topic}, though Kafka answers ({state})"
        if verdict is MemberState.WELL and self.problem is not None:
            self._well()
        elif verdict is MemberState.STUCK:
            self._fail(TransportUnavailableError(f"{trouble}: waiting"))
        elif verdict is MemberState.LOST:
            raise TransportUnavailableError(f"{trouble}: joining anew")

    def _announce(self, replaced: TopicReplacedError) -> None:
        """Once for each topic of the name, and for each way in which it was replaced."""
        told = self._topic_id, replaced.how
        if told not in self._told:
            self._told.add(told)
            self.notices.append(replaced)
        self._fail(replaced)

    def _fail(self, error: Exception) -> None:
        self.problem = error
        self._wake()

    def _well(self) -> None:
        self.problem = None
        self._wake()


def _everything(_: Place) -> bool:
    return True
