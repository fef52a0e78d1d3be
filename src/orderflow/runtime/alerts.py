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
from orderflow.runtime.webhook import NotTakenError, Webhook
from orderflow.settings import Settings

TYPE = "orderflow.dead_letter"
ALARM_TYPE = "orderflow.alarm"
EVERY_S = 60.0
GROUPS_MAX = 1_000
IDLE_S = 60.0
STOP_S = 1.0
BACKOFF = Backoff(500, 60_000)


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
    def kind(self) -> tuple[str, str]:
        return self.consumer, self.fingerprint


class Alarm(msgspec.Struct):
    """The data of an alert: what an operator has to see to, by the service's name for it and in a sentence."""

    service: str
    alarm: str
    message: str

    @property
    def kind(self) -> tuple[str, str]:
        return self.alarm, "alarm"


class Alert(msgspec.Struct, frozen=True):
    """The body of a message: type, time of the first dead letter or of the alarm (RFC 3339, UTC), data."""

    type: str
    timestamp: str
    data: msgspec.Struct


@dataclass(slots=True)
class _Waiting:
    data: DeadLetters | Alarm
    since_ms: int
    due_at: float


class Alerts:
    """A subscriber of signals. `start`, then `close`: each once. The flow never waits for it.

    A receiver that is away is asked again for as long as the process runs. At most `groups_max` kinds wait meanwhile;
    beyond that the oldest is dropped, which is counted.
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
        groups_max: int = GROUPS_MAX,
    ) -> None:
        self._webhook = webhook
        self._signals = signals
        self._clock = clock
        self._chance = chance
        self._backoff = backoff
        self._every_s = every_s
        self._groups_max = groups_max
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._sent_at: dict[tuple[str, str], float] = {}
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
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for waiting in self._waiting.values():
            self._tell(AlertOutcome.DROPPED, waiting.data, "the process ends")
        await self._webhook.close()

    def _note(self, batch: BatchCommitted, handled: Handled) -> None:
        failure = handled.failure
        assert failure is not None
        known = self._waiting.get((batch.consumer, failure.fingerprint))
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
        known = self._waiting.get(kind)
        if known is not None:
            known.data = data
            return
        if len(self._waiting) >= self._groups_max:
            oldest = self._waiting.pop(next(iter(self._waiting)))
            self._tell(AlertOutcome.DROPPED, oldest.data, "too many kinds of alerts wait")
        now = self._clock.monotonic()
        due_at = self._sent_at.get(kind, now - self._every_s) + self._every_s
        self._waiting[kind] = _Waiting(data, self._clock.wall_ms(), due_at)
        self._moved.set()

    async def _run(self) -> None:
        while self._waiting or not self._closing.is_set():
            self._moved.clear()
            kind, left_s = self._next()
            if kind is not None and (left_s <= 0 or self._closing.is_set()):
                await self._send(kind)
            else:
                await _until(self._moved, left_s)

    def _next(self) -> tuple[tuple[str, str] | None, float]:
        """The kind that is due first, and in how many seconds."""
        now = self._clock.monotonic()
        self._sent_at = {kind: at for kind, at in self._sent_at.items() if at + self._every_s > now}
        kind = min(self._waiting, key=lambda each: self._waiting[each].due_at, default=None)
        return kind, IDLE_S if kind is None else self._waiting[kind].due_at - now

    async def _send(self, kind: tuple[str, str]) -> None:
        waiting = self._waiting.pop(kind)
        self._sent_at[kind] = self._clock.monotonic()
        try:
            await self._until_taken(waiting)
        except asyncio.CancelledError:
            self._tell(AlertOutcome.DROPPED, waiting.data, "the process ends")
            raise
        except Exception as error:  # noqa: BLE001  # a defect must not end the alerts; it is told
            self._signals.emit(TaskFailed(waiting.data.service, "alerts", error))
            self._tell(AlertOutcome.FAILED, waiting.data, type(error).__name__)

    async def _until_taken(self, waiting: _Waiting) -> None:
        """Post it until it is taken, refused for good, or the process ends."""
        message_id = f"msg_{uuid7(self._clock.wall_ms(), self._chance).hex}"
        about = TYPE if isinstance(waiting.data, DeadLetters) else ALARM_TYPE
        body = msgspec.json.encode(Alert(about, rfc3339(waiting.since_ms).decode(), waiting.data))
        attempt = 0
        while True:
            attempt += 1
            last = self._closing.is_set()
            try:
                await self._webhook.post(message_id, body)
            except NotTakenError as error:
                if error.final or last:
                    outcome = AlertOutcome.FAILED if error.final else AlertOutcome.DROPPED
                    self._tell(outcome, waiting.data, str(error))
                    return
                self._tell(AlertOutcome.RETRIED, waiting.data, str(error))
                delay_s = self._backoff.delay_ms(attempt, self._chance) / 1000
                await _until(self._closing, max(delay_s, error.after_s))
            else:
                self._tell(AlertOutcome.SENT, waiting.data, "")
                return

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
