"""The thread that keeps one membership alive, with one client after the other. It never stops polling."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait

from confluent_kafka import KafkaException

from orderflow.messaging.transport import (
    TopicMissingError,
    TopicReplacedError,
    TransportUnavailableError,
)
from orderflow.messaging.transports.kafka.errors import translate
from orderflow.messaging.transports.kafka.inbox import Inbox, Place
from orderflow.messaging.transports.kafka.member import MADE_AGAIN, POLL_S, LogMovedError, Member, nothing
from orderflow.messaging.transports.kafka.membership import Membership, Verdict
from orderflow.messaging.transports.kafka.settings import KafkaSettings

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
        inbox: Inbox,
        *,
        topic_id: Callable[[], Future[str]],
        wake: Callable[[], None],
    ) -> None:
        self.problem: Exception | None = None
        self.notices: deque[TopicReplacedError] = deque()
        self._settings = settings
        self._group = group
        self._topic = topic
        self._inbox = inbox
        self._ask_topic_id = topic_id
        self._wake = wake
        self._stopping = threading.Event()
        self._membership = Membership(settings.lost_after_s)
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
        """Ask the thread to commit what is settled, leave the group, and end."""
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
                self._fail(translate(error.args[0], self._topic))
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
        member = Member(
            self._settings,
            self._group,
            self._topic,
            topic_id,
            self._moved,
            self._inbox,
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

    def _look(self, member: Member) -> None:
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

    def _judge(self, member: Member, now: float, *, answered: bool) -> None:
        state = member.group_state
        verdict = self._membership.judge(now, joined=state.joined, answered=answered, holds=member.holds)
        trouble = f"no working member of group {self._group!r} for {self._topic}, though Kafka answers ({state})"
        if verdict is Verdict.WELL and self.problem is not None:
            self._well()
        elif verdict is Verdict.STUCK:
            self._fail(TransportUnavailableError(f"{trouble}: waiting"))
        elif verdict is Verdict.LOST:
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
