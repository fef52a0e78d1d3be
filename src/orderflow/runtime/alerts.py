"""Tells the operators of dead letters and alarms by a webhook: the first of a kind at once, then one a minute.

Alerts are kept in memory only: the dead letter itself is in the database, whatever becomes of its alert. The
receiver is spoken to as the Standard Webhooks specification has it (standardwebhooks.com).
"""

from __future__ import annotations

import asyncio
import hmac
import random
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
import msgspec

from orderflow.core.envelopes import rfc3339
from orderflow.core.identity import uuid7
from orderflow.core.retry import Backoff
from orderflow.core.telemetry import (
    AlarmRaised,
    Alerted,
    AlertOutcome,
    BatchCommitted,
    Handled,
    Outcome,
    Signal,
    Signals,
    TaskFailed,
)
from orderflow.core.timing import Clock
from orderflow.settings import Settings

CONNECT_S = 3.0
ANSWER_S = 10.0
RETRY_AFTER_MAX_S = 600.0
_OF_ITSELF = frozenset({429, 503})
_TRY_AGAIN = frozenset({408, 425, 429})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class NotTakenError(Exception):
    """The receiver did not take the message. `final`: it never will. `after_s`: when it wants to be asked again;
    `busy`: with anything, not with this message alone (429 and 503, RFC 6585 and RFC 9110).
    """

    def __init__(self, why: str, *, final: bool, after_s: float = 0.0, busy: bool = False) -> None:
        super().__init__(why)
        self.final = final
        self.after_s = after_s
        self.busy = busy


class Webhook:
    """Posts JSON to `url`; with a `key` each message is signed. The url may hold secrets: no error names it."""

    def __init__(self, url: str, key: bytes | None, clock: Clock) -> None:
        self._url = url
        self._key = key
        self._clock = clock
        # A proxy of the surroundings is for the world outside, not for this machine.
        outside = urlsplit(url).hostname not in _LOOPBACK
        self._http = httpx2.AsyncClient(timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S), trust_env=outside)

    async def post(self, message_id: str, body: bytes) -> None:
        """One attempt. The same `message_id` is the same message, whenever it is posted. Raises NotTakenError."""
        headers = {
            "content-type": "application/json",
            "user-agent": "orderflow",
            **signed(message_id, self._clock.wall_ms() // 1000, body, self._key),
        }
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self._http.stream("POST", self._url, content=body, headers=headers) as reply,
            ):
                status, after = reply.status_code, reply.headers.get("retry-after", "")
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise NotTakenError(type(error).__name__, final=False) from error
        if not 200 <= status < 300:
            final = status < 500 and status not in _TRY_AGAIN
            after_s = self._seconds(after)
            busy = after_s > 0 and status in _OF_ITSELF
            raise NotTakenError(f"HTTP {status}", final=final, after_s=after_s, busy=busy)

    async def close(self) -> None:
        await self._http.aclose()

    def _seconds(self, retry_after: str) -> float:
        """Until the moment that the header names (RFC 9110, 10.2.3: seconds, or a date); 0 if it names none. It is no
        more than RETRY_AFTER_MAX_S: who waits for the news of a dead letter does not wait for hours.
        """
        if retry_after.isascii() and retry_after.isdigit():
            return min(float(retry_after[:9]), RETRY_AFTER_MAX_S)
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return 0.0
        wait_s = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - self._clock.wall_ms() / 1000
        return min(max(0.0, wait_s), RETRY_AFTER_MAX_S)


def signed(message_id: str, timestamp_s: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """The headers of one attempt; without a `key` there is no signature."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s)}
    if key is not None:
        content = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
        headers["webhook-signature"] = f"v1,{b64encode(hmac.digest(key, content, 'sha256')).decode()}"
    return headers


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


class Alarm(msgspec.Struct):
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
    data: msgspec.Struct


@dataclass(slots=True)
class _Waiting:
    """What is told once it is time: dead letters of a kind, or an alarm."""

    data: DeadLetters | Alarm
    due_at: float


@dataclass(slots=True)
class _Gathered(_Waiting):
    """They were not told yet: more may come."""

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
        rng: random.Random,
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
        self._rng = rng
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
        elif isinstance(signal, AlarmRaised):
            self._keep(Alarm(signal.service, signal.alarm, signal.message))

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
        self._keep(letters)

    def _keep(self, data: DeadLetters | Alarm) -> None:
        """An alarm that waits already is told as it stands now."""
        kind = data.kind
        known = self._gathered.get(kind)
        if known is not None:
            known.data = data
            return
        if len(self._gathered) + len(self._messages) >= self._kinds_max:
            self._drop_oldest()
        now = self._clock.monotonic()
        due_at = self._sent_at.get(kind, now - self._every_s) + self._every_s
        self._gathered[kind] = _Gathered(data, due_at, self._clock.wall_ms())
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
        self._tell(AlertOutcome.DROPPED, dropped, "too many kinds of alerts are waiting")

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
            message_id = f"msg_{uuid7(self._clock.wall_ms(), self._rng).hex}"
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
        delay_s = self._backoff.delay_ms(message.attempts, self._rng) / 1000
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
async def alerting(settings: Settings, signals: Signals, clock: Clock, rng: random.Random) -> AsyncIterator[None]:
    """While the block runs, dead letters and alarms are told to `alert_url`, if any; at its end, what still waits."""
    if settings.alert_url is None:
        yield
        return
    alerts = Alerts(Webhook(settings.alert_url.reveal(), settings.alert_key(), clock), signals, clock, rng)
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
