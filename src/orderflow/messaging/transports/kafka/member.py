"""One life of a librdkafka consumer: a member of a group for one topic, polled by one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from orderflow.messaging.crash_points import Point, reached
from orderflow.messaging.transport import TopicReplacedError
from orderflow.messaging.transports.kafka.errors import TOPIC_MISSING, translate
from orderflow.messaging.transports.kafka.inbox import Inbox, Place
from orderflow.messaging.transports.kafka.membership import GroupState
from orderflow.messaging.transports.kafka.records import from_message
from orderflow.messaging.transports.kafka.settings import STATISTICS_S, KafkaSettings

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


class Member:
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
        inbox: Inbox,
        *,
        fail: Callable[[Exception], None],
        well: Callable[[], None],
        replaced: Callable[[TopicReplacedError], None],
    ) -> None:
        self._topic = topic
        self._topic_id = topic_id
        self.moved = moved
        self._inbox = inbox
        self._fail = fail
        self._well = well
        self._replaced = replaced
        self._timeout_s = settings.request_timeout_s
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
        """Poll once, hand over what is there, commit what is settled. Raises LogMovedError, KafkaException."""
        self._apply_back_pressure()
        first = self._consumer.poll(POLL_S)
        if first is not None:
            self._receive([first, *self._consumer.consume(BATCH - 1, 0)])
        now = time.monotonic()
        if now >= self._reach_at:
            self._reach_at = now + REACH_EVERY_S
            self._inbox.reach(self._positions())
        if now >= self._commit_at:
            self._commit(self._inbox.to_commit(self._held))

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
        """Leave the group, with a last commit of what is settled if that is still true.

        A client that does not come back from that is left to itself: the group puts it out.
        """
        if commit:
            with suppress(KafkaException):
                self._commit(self._inbox.to_commit(self._held))
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
                self._fail(translate(error, self._topic))
        if records:
            self._inbox.put(records)
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
            if self._inbox.has_room():
                self._consumer.resume(self._consumer.assignment())
                self._paused = False
        elif self._inbox.is_full() and not self._inbox.wait_for_room(BACK_PRESSURE_S):
            self._consumer.pause(self._consumer.assignment())
            self._paused = True

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._over:
            return
        again: dict[Place, int] = {}
        starts = [self._start(each, again) for each in consumer.committed(partitions, timeout=self._timeout_s)]
        self.moved = nothing
        self._held.update(_places(partitions))
        self._inbox.assign(_places(partitions), again=again)
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
        self._inbox.drop_records(places)
        self._inbox.wait_settled(places, REVOKE_PATIENCE_S)
        with suppress(KafkaException):
            # The library gives the partitions up after this commit, so whoever holds them next finds it.
            self._commit(self._inbox.to_commit(places))
        self._forget(places)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not self._over:
            self._forget(_places(partitions))

    def _on_error(self, error: KafkaError) -> None:
        if self._over:
            return
        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            self._fail(translate(error))

    def _on_statistics(self, statistics: str) -> None:
        self._group_state = GroupState.of(statistics)
        self._group_state_at = time.monotonic()

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failed = [partition for partition in partitions if error is not None or partition.error is not None]
        if not failed:
            reached(Point.OFFSETS_WRITTEN)
        elif not self._over:
            self._inbox.commit_failed({(p.topic, p.partition): p.offset for p in failed})
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
        self._inbox.drop_records(gone)
        self._inbox.release(gone)


def _shrunk(topic: str, places: Collection[Place]) -> TopicReplacedError:
    numbers = ", ".join(str(partition) for _, partition in sorted(places))
    return TopicReplacedError(topic, f"it ends before the place that was read up to (partition {numbers})")


def nothing(_: Place) -> bool:
    """Nothing is moved."""
    return False


def _places(partitions: Iterable[TopicPartition]) -> list[Place]:
    return [(partition.topic, partition.partition) for partition in partitions]
