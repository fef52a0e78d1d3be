"""Signals as spans of OpenTelemetry: one trace from the HTTP request through outbox, topic and consumers to the last.

A span's id is derived from the message that it is about. So the process that handles an event names the span of the
one that published it, and nothing more has to go along with an event than its `traceparent` (W3C Trace Context). The
packages of OpenTelemetry (the extra `otel`) turn spans into OTLP and send them; without a receiver none is imported.
No payload, no text of an error and no header is in a span: ids, keys, names of types, places, numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from orderflow.core.dead_letters import SUFFIX
from orderflow.core.envelopes import header_text, traceparent_of
from orderflow.core.identity import answer_id, uuid_text
from orderflow.core.messages import Command
from orderflow.core.store import OutboxRecord
from orderflow.core.telemetry import (
    UNAVAILABLE,
    BatchCommitted,
    Handled,
    IntentAsked,
    Outcome,
    Relayed,
    Signal,
    Signals,
    SpansLost,
    SpansSent,
)
from orderflow.observability.catalogue import (
    ASK,
    HANDLE,
    OUTBOX_WAIT,
    PROCESS,
    PROCESS_BATCH,
    REQUEST,
    SEND,
    SEND_BATCH,
    TOPIC_WAIT,
    SpanInfo,
)
from orderflow.observability.logs import clean

OURS = "/orderflow/"
"""What the source of an event begins with that a service of ours has published."""

LINKS_MAX = 128
"""OTEL_SPAN_LINK_COUNT_LIMIT, as the specification has it."""

_UNTOLD = frozenset({Outcome.IGNORED, Outcome.DEFERRED})
_READ_ONLY = frozenset({"GET", "HEAD"})
_SPAN_IDS = 1 << 64
Context = tuple[int, int]
"""A trace, and a span in it."""


class TraceSpan(msgspec.Struct, frozen=True):
    """What is told of something that began and ended (ns since the epoch), and what it is `about`, for its name.

    `parent` 0: it has none. `error` is the class of what went wrong. `links` are spans that it has to do with.
    """

    info: SpanInfo
    about: Sequence[str]
    context: Context
    parent: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, str | int] = {}
    error: str = ""
    links: Sequence[Context] = ()

    @property
    def name(self) -> str:
        return self.info.name.format(*self.about)


class RequestSpan(NamedTuple):
    """A request that is under way. `traceparent` names its span: it goes along with what the request causes."""

    traceparent: str
    parent: int
    start_ns: int


class Names(msgspec.Struct, frozen=True):
    """What carries the events (`messaging.system`), and what stands there before the names of topics and groups."""

    system: str
    topics: str = ""
    groups: str = ""


class Tracing:
    """A subscriber of signals, and an observer of HTTP requests, that makes spans of them and has `take` take them.

    A trace that comes from outside is kept or not as its flag says; of those that begin here the share `ratio` is
    kept, chosen by the trace's id as OpenTelemetry's TraceIdRatioBased does.
    """

    def __init__(
        self,
        names: Names,
        take: Callable[[TraceSpan], None],
        rng: random.Random,
        *,
        ratio: float = 1.0,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._names = names
        self._take = take
        self._rng = rng
        self._kept_below = round(ratio * _SPAN_IDS)
        self._wall_ns = wall_ns
        self._offset_name = "messaging.kafka.offset" if names.system == "kafka" else "orderflow.offset"
        self._readers: Mapping[type[Any], Callable[[Any], None]] = {
            BatchCommitted: self._batch,
            Relayed: self._relayed,
            IntentAsked: self._asked,
        }

    def __call__(self, signal: Signal) -> None:
        read = self._readers.get(type(signal))
        if read is not None:
            read(signal)

    def begin(self, method: str, header: bytes | None, trace: str) -> RequestSpan | None:
        """A request comes. `trace` is the traceparent that it brought with its `header`, else one that was made.

        None: it begins no trace, for it only reads.
        """
        if header is not None and header.startswith(trace.encode()):
            _, trace_id, parent, flags = trace.split("-")
            own, kept = self._new_id(), int(flags, 16) & 1
            return RequestSpan(f"00-{trace_id}-{own:016x}-{kept:02x}", int(parent, 16), self._wall_ns())
        if method in _READ_ONLY:
            return None
        kept = int(trace[19:35], 16) < self._kept_below
        return RequestSpan(f"{trace[:53]}{kept:02x}", 0, self._wall_ns())

    def end(self, request: RequestSpan, route: str, method: str, status: int) -> None:
        """It is answered. `route` is the declared path, never the one that was asked for."""
        own = sampled(request.traceparent)
        if own is None:
            return
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        error = str(status) if status >= 500 else ""
        end = self._wall_ns()
        self._take(TraceSpan(REQUEST, (method, route), own, request.parent, request.start_ns, end, attributes, error))

    def _batch(self, batch: BatchCommitted) -> None:
        told = [
            (each, trace)
            for each in batch.handled
            if (trace := sampled(each.traceparent)) is not None and each.outcome not in _UNTOLD
        ]
        if not told:
            return
        end = self._wall_ns()
        start = end - _ns(batch.duration_s)
        shared = self._shared(len(told))
        own = [self._handled(batch, each, trace, start, end, shared) for each, trace in told]
        for context in shared:
            attributes = {
                "messaging.system": self._names.system,
                "messaging.consumer.group.name": self._names.groups + batch.consumer,
                **_operation("process", len(batch.handled)),
            }
            self._take(TraceSpan(PROCESS_BATCH, (), context, 0, start, end, attributes, links=own[:LINKS_MAX]))

    def _handled(
        self, batch: BatchCommitted, each: Handled, trace: Context, start: int, end: int, links: Sequence[Context]
    ) -> Context:
        """One message: how it waited in its topic, and what was made of it. The span of the latter."""
        parent = _origin_of(each, trace)
        attributes: dict[str, str | int] = {
            **_message(each.event_id, each.key, each.event_type),
            "orderflow.outcome": each.outcome.value,
        }
        if each.attempts:
            attributes["orderflow.attempts"] = each.attempts
        info, about = HANDLE, each.message.TYPE if each.message is not None else ""
        if each.topic:
            info, about = PROCESS, self._names.topics + each.topic
            place = self._place(batch.consumer, about)
            if each.appended_at and each.outcome is not Outcome.DUPLICATE:
                appended = min(each.appended_at * 1_000_000, start)
                self._take(TraceSpan(TOPIC_WAIT, (about,), self._new_in(trace), parent, appended, start, place))
            attributes |= {
                **place,
                **_operation("process"),
                "messaging.destination.partition.id": str(each.partition),
                self._offset_name: each.offset,
            }
        own = trace[0], self._id_of(batch.service, each)
        error = each.failure.error if each.failure is not None else ""
        self._take(TraceSpan(info, (about,), own, parent, start, end, attributes, error, links))
        return own

    def _place(self, consumer: str, topic: str) -> dict[str, str | int]:
        return {
            "messaging.system": self._names.system,
            "messaging.destination.name": topic,
            "messaging.consumer.group.name": self._names.groups + consumer,
        }

    def _id_of(self, service: str, each: Handled) -> int:
        """What a message causes has its span for its parent; what had no effect is nobody's parent."""
        if each.outcome is Outcome.HANDLED:
            return decision_span(service, each.event_id)
        if each.outcome is Outcome.DEAD:
            return letter_span(service, each.event_id, each.attempts)
        return self._new_id()

    def _relayed(self, signal: Relayed) -> None:
        told = [(row, trace) for row in signal.rows if (trace := sampled(traceparent_of(row.headers))) is not None]
        if not told:
            return
        end = self._wall_ns()
        start = end - _ns(signal.duration_s)
        shared = self._shared(len(told))
        own = [self._sent(signal.service, row, trace, start, end, shared) for row, trace in told]
        for context in shared:
            attributes = {"messaging.system": self._names.system, **_operation("send", len(signal.rows))}
            self._take(TraceSpan(SEND_BATCH, (), context, 0, start, end, attributes, links=own[:LINKS_MAX]))

    def _sent(
        self, service: str, row: OutboxRecord, trace: Context, start: int, end: int, links: Sequence[Context]
    ) -> Context:
        """One event: how it waited in the outbox, as a part of how it came into its topic. The span of the latter."""
        is_letter = row.topic.endswith(SUFFIX)
        own = trace[0], self._new_id() if is_letter else event_span(row.event_id)
        parent = _cause_of(service, row, trace, is_letter=is_letter)
        written = min(row.created_at * 1_000_000, start)
        topic = self._names.topics + row.topic
        attributes: dict[str, str | int] = {
            "messaging.system": self._names.system,
            "messaging.destination.name": topic,
            **_operation("send"),
            **_message(row.event_id, (row.key or b"").decode(errors="replace"), header_text(row.headers, "ce_type")),
        }
        self._take(TraceSpan(OUTBOX_WAIT, (), self._new_in(trace), own[1], written, start))
        self._take(TraceSpan(SEND, (topic,), own, parent, written, end, attributes, links=links))
        return own

    def _asked(self, signal: IntentAsked) -> None:
        trace = sampled(signal.traceparent)
        if trace is None or signal.cause is None:
            return
        end = self._wall_ns()
        is_away = signal.outcome == UNAVAILABLE
        # What was not asked has no answer: the next try is the answer's origin.
        own = self._new_id() if is_away else event_span(answer_id(signal.intent, signal.cause, signal.attempts - 1))
        attributes: dict[str, str | int] = {
            "messaging.message.conversation_id": clean(signal.key),
            "orderflow.outcome": signal.outcome,
            "orderflow.attempts": signal.attempts,
        }
        parent, error = decision_span(signal.service, signal.cause), UNAVAILABLE if is_away else ""
        start = end - _ns(signal.duration_s)
        self._take(TraceSpan(ASK, (signal.kind,), (trace[0], own), parent, start, end, attributes, error))

    def _shared(self, count: int) -> Sequence[Context]:
        """The span of a batch of several, which theirs are linked with; none of a message alone."""
        return ((self._rng.getrandbits(128) or 1, self._new_id()),) if count > 1 else ()

    def _new_in(self, trace: Context) -> Context:
        """A span that nobody has to find."""
        return trace[0], self._new_id()

    def _new_id(self) -> int:
        return self._rng.getrandbits(64) or 1


def sampled(traceparent: str | None) -> Context | None:
    """The trace and the span that a traceparent names; None if nothing is to be told of it (W3C, 3.2.2)."""
    if traceparent is None:
        return None
    try:
        kept, context = int(traceparent[53:55], 16) & 1, (int(traceparent[3:35], 16), int(traceparent[36:52], 16))
    except ValueError:
        return None
    return context if kept and all(context) else None


def event_span(event_id: UUID) -> int:
    """The span in which an event came into its topic, or an answer from outside: the parent of who takes it."""
    return _derived(b"origin", event_id)


def decision_span(service: str, event_id: UUID) -> int:
    """The span in which a service handled a message: the parent of what it caused."""
    return _derived(b"decision" + service.encode(), event_id)


def letter_span(service: str, event_id: UUID, attempts: int) -> int:
    """The span in which a service gave an event up: the parent of its dead letter."""
    return _derived(b"dead%d" % attempts + service.encode(), event_id)


def _derived(what: bytes, event_id: UUID) -> int:
    return int.from_bytes(hashlib.blake2b(what + event_id.bytes, digest_size=8).digest()) or 1


def _origin_of(each: Handled, trace: Context) -> int:
    """Where a message comes from: a command and an event of somebody else's from the span that their trace names."""
    if isinstance(each.message, Command) or not each.source.startswith(OURS):
        return trace[1]
    return event_span(each.event_id)


def _cause_of(service: str, row: OutboxRecord, trace: Context, *, is_letter: bool) -> int:
    """The parent of an event on its way into the log: what was decided over the message that has caused it.

    A notice is caused by a message that may never be handled, so that it comes from where this comes from.
    """
    if is_letter:
        return letter_span(service, row.event_id, int(header_text(row.headers, "dlt_attempts") or 0))
    try:
        cause = UUID(header_text(row.headers, "ce_causationid"))
    except ValueError:
        return trace[1]
    return (
        event_span(cause)
        if header_text(row.headers, "ce_source").endswith("/flow")
        else decision_span(service, cause)
    )


def _message(event_id: UUID, key: str, event_type: str) -> dict[str, str | int]:
    return {
        "messaging.message.id": uuid_text(event_id),
        "messaging.message.conversation_id": clean(key),
        "cloudevents.event_type": clean(event_type),
    }


def _operation(name: str, count: int = 0) -> dict[str, str | int]:
    batch = {"messaging.batch.message_count": count} if count else {}
    return {"messaging.operation.name": name, "messaging.operation.type": name, **batch}


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


QUEUE_MAX = 8192
BATCH_MAX = 512
GATHER_S = 1.0
STOP_S = 2.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MISSING = "the packages that send traces are not installed: pip install 'orderflow[otel]'"


class SpanReceiver(Protocol):
    """Where spans go. Called by one thread, which it may keep as long as it likes."""

    def take(self, spans: Sequence[TraceSpan]) -> str:
        """Why they were not taken; "" when they were."""
        ...

    def close(self) -> None:
        """Give up what is under way. Called by another thread."""
        ...


class SpanSender:
    """Hands spans to their receiver from a thread of its own. `start`, then `close`: each once, in a running loop.

    Nobody waits for it: beyond QUEUE_MAX spans the next are dropped, as are those that the receiver does not take.
    Both are counted, and told when it begins and when it is over.
    """

    def __init__(self, service: str, receiver: SpanReceiver, signals: Signals, *, queue_max: int = QUEUE_MAX) -> None:
        self._service = service
        self._receiver = receiver
        self._signals = signals
        self._queue_max = queue_max
        self._waiting: deque[TraceSpan] = deque()
        self._refused = self._refused_told = 0
        self._lost = 0
        self._filled = threading.Event()
        self._closing = threading.Event()
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, span: TraceSpan) -> None:
        """Never waits."""
        if len(self._waiting) >= self._queue_max:
            self._refused += 1
            return
        self._waiting.append(span)
        if not self._filled.is_set():
            self._filled.set()

    async def close(self, timeout_s: float = STOP_S) -> None:
        """Send what waits, for at most `timeout_s`; the rest is dropped."""
        self._closing.set()
        self._filled.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        self._receiver.close()
        if self._waiting:
            left = len(self._waiting)
            self._waiting.clear()
            self._tell(0, left, "the process ends")

    def _run(self) -> None:
        while not self._closing.is_set() or self._waiting:
            self._filled.wait()
            self._closing.wait(GATHER_S)
            self._filled.clear()
            while self._waiting:
                self._send([self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))])
        self._call(self._ended.set)

    def _send(self, batch: Sequence[TraceSpan]) -> None:
        error = self._receiver.take(batch)
        refused = self._refused - self._refused_told
        self._refused_told += refused
        if error:
            self._call(self._tell, 0, refused + len(batch), error)
        else:
            self._call(self._tell, len(batch), refused, f"more than {self._queue_max} wait")

    def _call(self, told: Callable[..., None], *arguments: object) -> None:
        """Signals are for the loop's thread. When the loop has ended there is nobody left to tell."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(told, *arguments)

    def _tell(self, sent: int, lost: int, error: str) -> None:
        before = self._lost
        self._lost += lost
        if lost:
            self._signals.emit(SpansLost(self._service, lost, error, first=not before))
        if sent:
            over = 0 if lost else before
            self._signals.emit(SpansSent(self._service, sent, over))
            self._lost -= over


class OtlpReceiver:
    """A receiver of OTLP over HTTP at a base URL, as OTEL_EXPORTER_OTLP_ENDPOINT has it; `/v1/traces` is added.

    Headers, certificates, compression and time-out are those of the standard variables OTEL_EXPORTER_OTLP_*.
    Raises ImportError: the extra `otel` is not installed.
    """

    def __init__(self, endpoint: str, service: str, version: str) -> None:
        import requests
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._words = _FirstWords()
        session = requests.Session()
        # A proxy of the surroundings is for the world outside, not for this machine.
        session.trust_env = urlsplit(endpoint).hostname not in _LOOPBACK
        self._exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", session=session)
        self._success = SpanExportResult.SUCCESS
        self._trace, self._span = trace, ReadableSpan
        self._sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        named = {"service.name": service, "service.namespace": "orderflow", "service.version": version}
        self._resource = Resource.create(named)
        self._scope = InstrumentationScope("orderflow", version)

    def take(self, spans: Sequence[TraceSpan]) -> str:
        self._words.first = ""
        try:
            done = self._exporter.export([self._readable(each) for each in spans])
        except Exception as error:  # noqa: BLE001  (whatever the exporter raises, the spans are lost and the flow goes on)
            return f"{type(error).__name__}: {error}"
        return "" if done is self._success else self._words.first or "the receiver did not take them"

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # OpenTelemetry has left it without types
        self._words.leave()

    def _readable(self, span: TraceSpan) -> Any:
        """What OpenTelemetry's own tracer would have made, had it been free to choose the ids."""
        trace, sampled = self._trace, self._sampled
        number, own = span.context
        return self._span(
            span.name,
            context=trace.SpanContext(number, own, False, sampled),
            parent=trace.SpanContext(number, span.parent, True, sampled) if span.parent else None,
            resource=self._resource,
            attributes={**span.attributes, "error.type": span.error} if span.error else span.attributes,
            links=[trace.Link(trace.SpanContext(*each, True, sampled)) for each in span.links],
            kind=trace.SpanKind[span.info.kind.upper()],
            status=trace.Status(trace.StatusCode.ERROR if span.error else trace.StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


class _FirstWords(logging.Handler):
    """OpenTelemetry says why an export failed in its log alone, and goes on to tell of each try. We say it once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self)
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()

    def leave(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True
