"""Signals as log lines, one a message that concerns an order; and the standard library's logging, led into them."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from orderflow.core.messages import Message
from orderflow.core.telemetry import (
    UNAVAILABLE,
    AlarmCleared,
    AlarmRaised,
    Alerted,
    AlertOutcome,
    BatchCommitted,
    BatchSplit,
    BegunAnew,
    FaultsCleared,
    FaultsIgnored,
    FaultsSet,
    Handled,
    Hopeless,
    IntentAsked,
    KeyReopened,
    OutageJudged,
    OutageOver,
    OutboxPurged,
    Outcome,
    RecordsExpired,
    Relayed,
    Resumed,
    Signal,
    SlotsChanged,
    SpansLost,
    SpansSent,
    Stalled,
    StallOver,
    TaskFailed,
    TopicReplaced,
    Waiting,
)
from orderflow.observability.logs import Level, Line, LogWriter, clean, redact

_LEVELS = dict.fromkeys(Outcome, Level.INFO) | {
    Outcome.PARKED: Level.WARNING,
    Outcome.DEAD: Level.ERROR,
    Outcome.IGNORED: Level.DEBUG,
    Outcome.DEFERRED: Level.DEBUG,
}
_ALERT_LEVELS = {
    AlertOutcome.SENT: Level.INFO,
    AlertOutcome.RETRIED: Level.WARNING,
    AlertOutcome.FAILED: Level.ERROR,
    AlertOutcome.DROPPED: Level.ERROR,
}
_ACTIONS = {outcome: f"message-{outcome.value}" for outcome in Outcome}
_LEVEL_NAMES = {outcome: level.name.lower() for outcome, level in _LEVELS.items()}
_FRAMES_MAX = 12
_UUID_LENGTH = 36
NUMBERS = re.compile(r"0x[0-9a-f]+|[0-9]+")
TEMPLATE_MAX = 100


class SignalLog:
    """A subscriber: writes the lines of one signal with one system call. `more` is what a service has to say
    in the line of a message that it has handled.
    """

    def __init__(self, log: LogWriter, more: Callable[[Message], Mapping[str, str]] | None = None) -> None:
        self._log = log
        self._more = more
        self._level = log.level
        self._writers: dict[type[Any], Callable[[Any], None]] = {
            BatchCommitted: self._batch,
            BatchSplit: self._split,
            KeyReopened: self._reopened,
            OutageJudged: self._outage_judged,
            OutageOver: self._outage_over,
            Waiting: self._waiting,
            Resumed: self._resumed,
            Stalled: self._stalled,
            StallOver: lambda signal: self._moved(Level.INFO, "moving-again", signal),
            BegunAnew: lambda signal: self._moved(Level.WARNING, "begun-anew", signal),
            Hopeless: self._hopeless,
            RecordsExpired: self._expired,
            TopicReplaced: self._topic_replaced,
            Relayed: self._relayed,
            SlotsChanged: self._slots,
            IntentAsked: self._intent,
            OutboxPurged: self._purged,
            Alerted: self._alerted,
            SpansSent: self._spans_sent,
            SpansLost: self._spans_lost,
            TaskFailed: self._failed,
            AlarmRaised: self._alarm_raised,
            AlarmCleared: lambda signal: self._log.write(Level.INFO, "alarm-cleared", {"alarm": signal.alarm}),
            FaultsSet: lambda signal: self._faults("faults-set", signal.faults),
            FaultsCleared: lambda _: self._faults("faults-cleared", ()),
            FaultsIgnored: lambda signal: self._faults("faults-ignored", signal.faults),
        }

    def __call__(self, signal: Signal) -> None:
        self._writers[type(signal)](signal)

    def _batch(self, batch: BatchCommitted) -> None:
        time = self._log.now()
        lines: list[Line] = []
        for handled in batch.handled:
            if _LEVELS[handled.outcome] >= self._level:
                line = self._message(time, batch, handled)
                plain = handled.message is not None and handled.outcome is not Outcome.REFUSED
                if plain or self._is_told(handled, line):
                    lines.append(line)
        self._log.write_lines(lines)

    def _is_told(self, handled: Handled, line: Line) -> bool:
        """What concerns an order is told whatever else is. What a stranger can cause without end is summed up:
        commands that are refused, and records that nobody can read and that are of no order.
        """
        if handled.outcome is not Outcome.REFUSED and "order_id" in line:
            return True
        return self._log.admits(line, handled.event_type if handled.message is not None else "")

    def _message(self, time: str, batch: BatchCommitted, handled: Handled) -> Line:
        line = _message_line(time, batch, handled)
        if self._more is not None and handled.message is not None and handled.outcome is Outcome.HANDLED:
            line.update((name, clean(value)) for name, value in self._more(handled.message).items())
        return line

    def _split(self, signal: BatchSplit) -> None:
        fields = {"consumer": signal.consumer, "size": signal.size, "error": redact(signal.error)}
        self._log.write(Level.WARNING, "batch-split", fields)

    def _reopened(self, signal: KeyReopened) -> None:
        fields = {"consumer": signal.consumer, "order_id": clean(signal.key), "drained": signal.drained}
        self._log.write(Level.INFO, "key-reopened", fields)

    def _outage_judged(self, signal: OutageJudged) -> None:
        fields = {
            "consumer": signal.consumer,
            "event_type": clean(signal.event_type),
            "error": redact(signal.error),
            "fingerprint": signal.fingerprint,
            "failing": signal.failing,
            "tried": signal.tried,
        }
        self._log.write(Level.ERROR, "outage-judged", fields)

    def _outage_over(self, signal: OutageOver) -> None:
        fields = {
            "consumer": signal.consumer,
            "event_type": clean(signal.event_type),
            "after_ms": round(signal.after_s * 1000),
            "poison": signal.poison,
        }
        self._log.write(Level.WARNING if signal.poison else Level.INFO, "outage-over", fields)

    def _waiting(self, signal: Waiting) -> None:
        fields = {
            "component": signal.component,
            "error": redact(signal.error),
            "retry_in_ms": round(signal.retry_in_s * 1000),
        }
        self._log.write(Level.WARNING, "waiting", fields)

    def _resumed(self, signal: Resumed) -> None:
        fields = {"component": signal.component, "after_ms": round(signal.after_s * 1000)}
        self._log.write(Level.INFO, "resumed", fields)

    def _stalled(self, signal: Stalled) -> None:
        fields = {
            "component": signal.component,
            "places": list(signal.places),
            "count": signal.count,
            "for_ms": round(signal.for_s * 1000),
        }
        self._log.write(Level.ERROR, "stalled", fields)

    def _moved(self, level: Level, action: str, signal: StallOver | BegunAnew) -> None:
        self._log.write(level, action, {"component": signal.component, "after_ms": round(signal.after_s * 1000)})

    def _hopeless(self, signal: Hopeless) -> None:
        self._log.write(Level.ERROR, "hopeless", {"component": signal.component, "detail": redact(signal.why)})

    def _expired(self, signal: RecordsExpired) -> None:
        fields = {
            "consumer": signal.consumer,
            "topic": signal.topic,
            "partition": signal.partition,
            "first_lost": signal.first_lost,
            "next_kept": signal.next_kept,
            "lost": signal.next_kept - signal.first_lost,
            "detail": f"bring back what the outbox still has: orderflow outbox republish --topic {signal.topic}",
        }
        self._log.write(Level.ERROR, "records-expired", fields)

    def _topic_replaced(self, signal: TopicReplaced) -> None:
        fields = {"component": signal.component, "topic": clean(signal.topic), "error": clean(signal.how)}
        self._log.write(Level.ERROR, "topic-replaced", fields)

    def _relayed(self, signal: Relayed) -> None:
        if self._level > Level.DEBUG:
            return
        fields = {
            "count": signal.count,
            "oldest_ms": signal.oldest_ms,
            "duration_ms": round(signal.duration_s * 1000, 1),
        }
        self._log.write(Level.DEBUG, "outbox-relayed", fields)

    def _slots(self, signal: SlotsChanged) -> None:
        self._log.write(Level.INFO, "slots-changed", {"slots": sorted(signal.slots)})

    def _intent(self, signal: IntentAsked) -> None:
        # What was answered at once is told by the line of its answer.
        level = Level.DEBUG if signal.attempts == 1 and signal.outcome != UNAVAILABLE else Level.INFO
        if level < self._level:
            return
        fields = {
            "order_id": clean(signal.key),
            "intent": clean(signal.intent),
            "outcome": signal.outcome,
            "attempts": signal.attempts,
            "duration_ms": round(signal.duration_s * 1000, 1),
        }
        self._log.write(level, "intent-asked", fields)

    def _purged(self, signal: OutboxPurged) -> None:
        self._log.write(Level.INFO, "outbox-purged", {"segments": signal.segments})

    def _alerted(self, signal: Alerted) -> None:
        fields: dict[str, object] = {
            "consumer": signal.consumer,
            "fingerprint": signal.fingerprint,
            "count": signal.count,
        }
        if signal.error:
            fields["error"] = clean(signal.error)
        self._log.write(_ALERT_LEVELS[signal.outcome], f"alert-{signal.outcome}", fields)

    def _spans_sent(self, signal: SpansSent) -> None:
        if signal.lost:
            self._log.write(Level.INFO, "spans-sent-again", {"lost": signal.lost})

    def _spans_lost(self, signal: SpansLost) -> None:
        if signal.first:
            self._log.write(Level.WARNING, "spans-lost", {"count": signal.count, "error": redact(signal.error)})

    def _alarm_raised(self, signal: AlarmRaised) -> None:
        fields = {"alarm": signal.alarm, "message": redact(signal.message)}
        self._log.write(Level.ERROR, "alarm-raised", fields)

    def _failed(self, signal: TaskFailed) -> None:
        fields = {"component": signal.component, **error_fields(signal.error)}
        self._log.write(Level.ERROR, "task-failed", fields)

    def _faults(self, action: str, faults: Sequence[str]) -> None:
        self._log.write(Level.WARNING, action, {"faults": [clean(each) for each in faults]})


def error_fields(error: BaseException) -> dict[str, object]:
    """An error in one line: class, redacted text, and where, innermost call last."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]
    where = [f"{frame.filename.replace(chr(92), '/').rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames]
    return {"error": type(error).__name__, "detail": redact(str(error)), "where": where}


def _message_line(time: str, batch: BatchCommitted, handled: Handled) -> Line:
    key = handled.key
    line: Line = {
        "time": time,
        "level": _LEVEL_NAMES[handled.outcome],
        "service": batch.service,
        "action": _ACTIONS[handled.outcome],
        "order_id" if len(key) == _UUID_LENGTH else "key": key if key.isprintable() else clean(key),
        "event_type": handled.event_type if handled.message is not None else clean(handled.event_type),
        "event_id": handled.event_id,
        "consumer": batch.consumer,
    }
    if handled.caused:
        line["caused"] = [message.TYPE for message in handled.caused]
    if handled.traceparent is not None:
        line["trace_id"] = clean(handled.traceparent[3:35])
    if handled.topic:
        line["topic"] = handled.topic
        line["partition"] = handled.partition
        line["offset"] = handled.offset
    if handled.error:
        line["attempts"] = handled.attempts
        line["error"] = redact(handled.error)
    return line


class WriterHandler(logging.Handler):
    """Writes records of warning level and above as lines with action `library`."""

    def __init__(self, log: LogWriter) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            detail = redact(record.getMessage().strip())
        except Exception:  # noqa: BLE001  (a wrong format string in a library must not become ours)
            detail = redact(str(record.msg))
        fields: dict[str, object] = {"logger": record.name, "message": detail}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= error_fields(record.exc_info[1])
        level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
        self._log.write(level, "library", fields, like=NUMBERS.sub("#", str(record.msg)[:TEMPLATE_MAX]))


@contextmanager
def routed_logging(log: LogWriter) -> Iterator[None]:
    """Within this block the root logger writes to `log` alone, warnings of the interpreter included."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = [WriterHandler(log)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        root.handlers[:] = before
