"""Tells the operators of dead letters and alarms by a webhook: the first of a kind at once, then one a minute with a
count.

Alerts are kept in memory only: the dead letter itself is in the database, whatever becomes of its alert.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec

from orderflow.messaging.clock import Clock
from orderflow.messaging.cloudevents import rfc3339
from orderflow.messaging.identity import uuid7
from orderflow.messaging.retry import Backoff
from orderflow.messaging.signals import (
    Alerted,
    AlertOutcome,
    BatchCommitted,
    Handled,
    Outcome,
    Overdue,
    Signal,
    Signals,
    TaskFailed,
)
from orderflow.runtime.webhook import NotTakenError, Webhook
from orderflow.settings import Settings

TYPE = "orderflow.dead_letter"
ALARM_TYPE = "orderflow.alarm"
EVERY_S = 60.0
POSTS_MAX = 4
GAP_S = 1.0
BUSY_GAP_S = 5.0
KINDS_MAX = 1_000
IDLE_S = 60.0
STOP_S = 1.0
BACKOFF = Backoff(500, 60_000)


Kind = tuple[str, str]


class DeadLetters(msgspec.Struct):
    """The data of an alert: `count` dead letters that failed alike at one consumer; all else is of the first."""

    service: str
    consumer: str
    fingerprint: str
    error: str
    message: str
    count: int
    event_id: str
    key: str
    event_type: str
    topic: str

    @property
    def kind(self) -> Kind:
        return self.consumer, self.fingerprint


class Alarm(msgspec.Struct, frozen=True):
    """The data of an alert: what an operator has to see to, by the service's name for it and in a sentence."""

    service: str
    alarm: str
    message: str

    @property
    def kind(self) -> Kind:
        return self.alarm, "alarm"


class Alert(msgspec.Struct, frozen=True):
    """The body of a message: type, time of the first dead letter or of the alarm (RFC 3339, UTC), data."""

    type: str
    timestamp: str
    data: DeadLetters | Alarm


@dataclass(slots=True)
class _Waiting:
    """Dead letters of a kind, or an alarm, that are told once it is time."""

    data: DeadLetters | Alarm
    due_at: float


@dataclass(slots=True)
class _Gathered(_Waiting):
    """They were not told yet: more may come, and an alarm is told as it stands then."""

    since_ms: int


@dataclass(slots=True)
class _Message(_Waiting):
    """What is told of them until it is taken; the same id and body whenever it is posted."""

    id: str
    body: bytes
    attempts: int = 0


class Alerts:
    """A subscriber of signals. `start`, then `close`: each once. The flow never waits for it.

    Each kind of dead letter, and each alarm, has its own message, back-off and Retry-After, and waits for no other:
    POSTS_MAX are posted side by side. After one that was not taken the next begins `gap_s` later, or `busy_gap_s`
    while the receiver says that it is busy: one that is away is asked at a bounded rate, however many kinds there
    are, and one that refuses a single message gets the others. It is asked for as long as the process runs. At most
    `kinds_max` kinds wait; beyond that the oldest is dropped, which is counted.
    """

    def __init__(
        self,
        webhook: Webhook,
        signals: Signals,
        clock: Clock,
        chance: random.Random,
        *,
        backoff: Backoff = BACKOFF,
        every_s: float = EVERY_S,
        gap_s: float = GAP_S,
        busy_gap_s: float = BUSY_GAP_S,
        kinds_max: int = KINDS_MAX,
    ) -> None:
        self._webhook = webhook
        self._signals = signals
        self._clock = clock
        self._chance = chance
        self._backoff = backoff
        self._every_s = every_s
        self._gap_s = gap_s
        self._busy_gap_s = busy_gap_s
        self._kinds_max = kinds_max
        self._gathered: dict[Kind, _Gathered] = {}
        self._messages: dict[Kind, _Message] = {}
        self._posts: dict[Kind, asyncio.Task[None]] = {}
        self._sent_at: dict[Kind, float] = {}
        self._not_before = 0.0
        self._busy_until = 0.0
        self._was_again = False
        self._moved = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, signal: Signal) -> None:
        if isinstance(signal, BatchCommitted):
            for handled in signal.handled:
                if handled.outcome is Outcome.DEAD:
                    self._note(signal, handled)
        elif isinstance(signal, Overdue):
            alarm = Alarm(signal.service, signal.component, signal.why)
            known = self._gathered.get(alarm.kind)
            if known is not None:
                known.data = alarm
            else:
                self._gather(alarm)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, timeout_s: float) -> None:
        """Send what waits, without more ado, for at most `timeout_s`; the rest is dropped."""
        self._closing.set()
        self._moved.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout_s)
            tasks = [self._task, *self._posts.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        left: list[_Waiting] = [*self._messages.values(), *self._gathered.values()]
        for waiting in left:
            self._tell(AlertOutcome.DROPPED, waiting.data, "the process ends")
        await self._webhook.close()

    def _note(self, batch: BatchCommitted, handled: Handled) -> None:
        failure = handled.failure
        assert failure is not None
        known = self._gathered.get((batch.consumer, failure.fingerprint))
        if known is not None and isinstance(known.data, DeadLetters):
            known.data.count += 1
            return
        letters = DeadLetters(
            service=batch.service,
            consumer=batch.consumer,
            fingerprint=failure.fingerprint,
            error=failure.error,
            message=failure.message,
            count=1,
            event_id=str(handled.event_id),
            key=handled.key,
            event_type=handled.event_type,
            topic=handled.topic,
        )
        self._gather(letters)

    def _gather(self, data: DeadLetters | Alarm) -> None:
        """To be told as soon as its kind may be."""
        if len(self._gathered) + len(self._messages) >= self._kinds_max:
            self._drop_oldest()
        now = self._clock.monotonic()
        due_at = self._sent_at.get(data.kind, now - self._every_s) + self._every_s
        self._gathered[data.kind] = _Gathered(data, due_at, self._clock.wall_ms())
        self._moved.set()

    def _drop_oldest(self) -> None:
        """A message that was refused already goes before one that was never told; one that is under way stays."""
        idle = next((kind for kind in self._messages if kind not in self._posts), None)
        if idle is not None:
            dropped = self._messages.pop(idle).data
        elif self._gathered:
            dropped = self._gathered.pop(next(iter(self._gathered))).data
        else:
            return
        self._tell(AlertOutcome.DROPPED, dropped, "too many kinds of alerts wait")

    async def _run(self) -> None:
        while self._gathered or self._messages or not self._closing.is_set():
            self._moved.clear()
            now = self._clock.monotonic()
            self._sent_at = {kind: at for kind, at in self._sent_at.items() if at + self._every_s > now}
            last = self._closing.is_set()
            for kind in self._due(now, last=last):
                self._begin(kind, now)
            await _until(self._moved, self._rest_s(now, last=last))

    def _due(self, now: float, *, last: bool) -> list[Kind]:
        """The kinds to post now, `last`: whenever they are due. While the receiver takes nothing it is one at a time,
        in turn one that was refused before and one that was not.
        """
        room = POSTS_MAX - len(self._posts)
        if room == 0 or (now < self._not_before and not last):
            return []
        fresh = [kind for kind, each in self._fresh() if last or each.due_at <= now]
        again = [kind for kind, each in self._again(last=last) if last or each.due_at <= now]
        again = sorted(again, key=lambda kind: self._messages[kind].due_at)[: room if last else room - 1]
        in_turn = [*fresh, *again] if self._was_again else [*again, *fresh]
        return in_turn[: 1 if self._not_before and not last else room]

    def _fresh(self) -> list[tuple[Kind, _Gathered]]:
        """Kinds to tell of that have no message out."""
        return [(kind, each) for kind, each in self._gathered.items() if kind not in self._messages]

    def _again(self, *, last: bool) -> list[tuple[Kind, _Message]]:
        """Messages that were refused. All of them may hang, so the last place is left to those that were not."""
        if not last and len(self._posts) >= POSTS_MAX - 1:
            return []
        return [(kind, each) for kind, each in self._messages.items() if kind not in self._posts]

    def _begin(self, kind: Kind, now: float) -> None:
        self._was_again = kind in self._messages
        if not self._was_again:
            gathered = self._gathered.pop(kind)
            about = TYPE if isinstance(gathered.data, DeadLetters) else ALARM_TYPE
            body = msgspec.json.encode(Alert(about, rfc3339(gathered.since_ms).decode(), gathered.data))
            message_id = f"msg_{uuid7(self._clock.wall_ms(), self._chance).hex}"
            self._messages[kind] = _Message(gathered.data, now, message_id, body)
            self._sent_at[kind] = now
        if self._not_before:
            self._keep_distance(now)
        self._posts[kind] = asyncio.get_running_loop().create_task(self._post(kind, self._messages[kind]))

    def _rest_s(self, now: float, *, last: bool) -> float:
        """How long until something more may be due. The end of a post is told by itself."""
        if last or len(self._posts) == POSTS_MAX:
            return IDLE_S
        due = [each.due_at for _, each in self._fresh()] + [each.due_at for _, each in self._again(last=last)]
        return max(min(due, default=now + IDLE_S), self._not_before) - now

    async def _post(self, kind: Kind, message: _Message) -> None:
        """Post it once, and say what became of it."""
        message.attempts += 1
        last = self._closing.is_set()
        try:
            await self._webhook.post(message.id, message.body)
        except NotTakenError as error:
            self._not_taken(kind, message, error, last=last)
        except Exception as error:  # noqa: BLE001  # a defect must not end the alerts; it is told
            self._signals.emit(TaskFailed(message.data.service, "alerts", error))
            self._end(kind, AlertOutcome.FAILED, type(error).__name__)
        else:
            self._not_before = self._busy_until = 0.0
            self._end(kind, AlertOutcome.SENT, "")
        finally:
            del self._posts[kind]
            self._moved.set()

    def _not_taken(self, kind: Kind, message: _Message, error: NotTakenError, *, last: bool) -> None:
        if error.final:
            self._end(kind, AlertOutcome.FAILED, str(error))
            return
        now = self._clock.monotonic()
        if error.busy:
            self._busy_until = max(self._busy_until, now + error.after_s)
        self._keep_distance(now)
        if last:
            self._end(kind, AlertOutcome.DROPPED, str(error))
            return
        delay_s = self._backoff.delay_ms(message.attempts, self._chance) / 1000
        message.due_at = now + max(delay_s, error.after_s)
        self._tell(AlertOutcome.RETRIED, message.data, str(error))

    def _keep_distance(self, now: float) -> None:
        """The receiver has not taken the last one: what comes next does not follow at once."""
        self._not_before = now + (self._busy_gap_s if now < self._busy_until else self._gap_s)

    def _end(self, kind: Kind, outcome: AlertOutcome, error: str) -> None:
        self._tell(outcome, self._messages.pop(kind).data, error)

    def _tell(self, outcome: AlertOutcome, data: DeadLetters | Alarm, error: str) -> None:
        consumer, fingerprint = data.kind
        count = data.count if isinstance(data, DeadLetters) else 1
        self._signals.emit(Alerted(data.service, consumer, fingerprint, count, outcome, error))


@asynccontextmanager
async def alerting(settings: Settings, signals: Signals, clock: Clock, chance: random.Random) -> AsyncIterator[None]:
    """While the block runs, dead letters and alarms are told to `alert_url`, if any; at its end, what still waits."""
    if settings.alert_url is None:
        yield
        return
    alerts = Alerts(Webhook(settings.alert_url.reveal(), settings.alert_key(), clock), signals, clock, chance)
    signals.subscribe(alerts)
    alerts.start()
    try:
        yield
    finally:
        await alerts.close(STOP_S)


async def _until(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
