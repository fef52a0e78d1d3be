"""What Prometheus sees of one process: a registry of its own, filled by signals and by the HTTP frame."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orderflow.core.identity import uuid7_ms
from orderflow.core.inbox import Failure
from orderflow.core.service import IllegalTransitionError
from orderflow.core.telemetry import (
    AlarmCleared,
    AlarmRaised,
    Alerted,
    BatchCommitted,
    BatchSplit,
    BegunAnew,
    FaultsCleared,
    FaultsIgnored,
    FaultsSet,
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
from orderflow.core.timing import SystemClock
from orderflow.observability import catalogue
from orderflow.observability.catalogue import HANDLED_AGE, METRICS, MetricInfo
from orderflow.observability.logs import clean

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
Gauges = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
_TYPE_MAX = 80
SYSTEM = SystemClock()
PREFIX = "orderflow_"
MARKS = frozenset(PREFIX + name for name in ("outage", "waiting", "stalled", "alarm"))
"""Gauges that are 1 from one signal on until another."""

Labels = tuple[str, ...]


class Metrics(Collector):
    """A subscriber of signals and an observer of HTTP requests."""

    def __init__(self, service: str, wall_ms: Callable[[], int] = SYSTEM.wall_ms, version: str = "") -> None:
        self._service = service
        self._wall_ms = wall_ms
        self._version = version
        self.registry = CollectorRegistry(auto_describe=False)
        self._marks: dict[str, set[Labels]] = {}
        self._slots = 0
        self._faults = 0
        self._gauges: Gauges = {}
        self._counts = {each.name: Counts(each) for each in METRICS if each.kind == "counter"}
        self._histograms = {each.name: Histograms(each) for each in METRICS if each.kind == "histogram"}
        self._readers: dict[type[Any], Callable[[Any], None]] = {
            BatchCommitted: self._batch,
            BatchSplit: lambda signal: self._count("orderflow_batch_splits", signal.consumer),
            KeyReopened: lambda signal: self._count("orderflow_keys_reopened", signal.consumer),
            OutageJudged: lambda signal: self._mark("orderflow_outage", signal.consumer, signal.event_type),
            OutageOver: lambda signal: self._unmark("orderflow_outage", signal.consumer, signal.event_type),
            Waiting: lambda signal: self._mark("orderflow_waiting", signal.component),
            Resumed: lambda signal: self._unmark("orderflow_waiting", signal.component),
            Stalled: lambda signal: self._mark("orderflow_stalled", signal.component),
            StallOver: lambda signal: self._unmark("orderflow_stalled", signal.component),
            BegunAnew: lambda signal: self._count("orderflow_begun_anew", signal.component),
            Hopeless: lambda _: None,
            RecordsExpired: lambda _: None,
            TopicReplaced: lambda signal: self._count("orderflow_topics_replaced", signal.topic),
            Relayed: self._relay,
            SlotsChanged: self._slots_changed,
            IntentAsked: self._intent,
            OutboxPurged: lambda signal: self._count("orderflow_outbox_segments_purged", amount=signal.segments),
            Alerted: lambda signal: self._count("orderflow_alerts", signal.outcome.value),
            SpansSent: lambda signal: self._count("orderflow_spans", "sent", amount=signal.count),
            SpansLost: lambda signal: self._count("orderflow_spans", "lost", amount=signal.count),
            AlarmRaised: lambda signal: self._mark("orderflow_alarm", signal.alarm),
            AlarmCleared: lambda signal: self._unmark("orderflow_alarm", signal.alarm),
            TaskFailed: lambda signal: self._count("orderflow_task_failures", signal.component),
            FaultsSet: lambda signal: self._count_faults(len(signal.faults)),
            FaultsCleared: lambda _: self._count_faults(0),
            FaultsIgnored: lambda _: None,
        }
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def __call__(self, signal: Signal) -> None:
        self._readers[type(signal)](signal)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is the declared path, never the one that was asked for."""
        self._count("orderflow_http_requests", route, method, str(status))
        self._histograms["orderflow_http_request_seconds"].add((route, method), seconds)

    def observe_refusal(self, problem: str) -> None:
        """`problem` is the name of the problem's type."""
        self._count("orderflow_http_refused", problem)

    def observe_timeout(self, state: str) -> None:
        """`state` is what a connection was at when its time was over."""
        self._count("orderflow_http_timed_out", state)

    def expose(self, gauges: Gauges) -> bytes:
        """The text of a scrape. `gauges` (name → labels → value) were read for it, just now."""
        self._gauges = gauges
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """In the order of the catalogue. A gauge of which nothing is known now is left out."""
        for info in METRICS:
            if info.kind == "gauge":
                yield from self._gauge(info)
            else:
                yield (self._counts.get(info.name) or self._histograms[info.name]).family()

    def _gauge(self, info: MetricInfo) -> Iterator[Metric]:
        values = self._values_of(info)
        if values is not None:
            family = GaugeMetricFamily(info.name, info.meaning, labels=info.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family

    def _values_of(self, info: MetricInfo) -> Mapping[Labels, float] | None:
        """What this process knows by its signals, else what was read for this scrape."""
        match info.name:
            case catalogue.BUILD_INFO:
                return {(self._version, platform.python_version()): 1}
            case "orderflow_outbox_slots":
                return {(): self._slots}
            case "orderflow_faults":
                return {(): self._faults}
            case name if name in MARKS:
                return dict.fromkeys(sorted(self._marks.get(name, ())), 1)
        read = self._gauges.get(info.name.removeprefix(PREFIX))
        return None if read is None else {tuple(text for _, text in key): value for key, value in read.items()}

    def _count(self, name: str, *labels: str, amount: float = 1) -> None:
        self._counts[name].add(labels, amount)

    def _mark(self, name: str, *labels: str) -> None:
        self._marks.setdefault(name, set()).add(labels)

    def _unmark(self, name: str, *labels: str) -> None:
        self._marks.get(name, set()).discard(labels)

    def _batch(self, batch: BatchCommitted) -> None:
        consumer = batch.consumer
        counted = Counter((each.event_type, each.message is None, each.outcome) for each in batch.handled)
        for (event_type, unreadable, outcome), count in counted.items():
            told = _told(event_type, unreadable=unreadable)
            self._count("orderflow_messages", consumer, told, outcome.value, amount=count)
        for each in batch.handled:
            if each.failure is not None:
                told = _told(each.event_type, unreadable=each.message is None)
                self._failed(consumer, told, each.outcome, each.failure)
        self._ages(consumer, {each.event_type: each.key for each in batch.handled if each.outcome is Outcome.HANDLED})
        self._histograms["orderflow_batch_size"].add((consumer,), len(batch.handled))
        self._histograms["orderflow_batch_seconds"].add((consumer,), batch.duration_s)

    def _failed(self, consumer: str, told: str, outcome: Outcome, failure: Failure) -> None:
        if outcome is Outcome.DEAD:
            self._count("orderflow_dead_letters", consumer, told, failure.kind)
        if failure.error == IllegalTransitionError.__name__:
            self._count("orderflow_refused_transitions", consumer, told)

    def _ages(self, consumer: str, handled: Mapping[str, str]) -> None:
        """One key of each type is enough, and a batch may have hundreds."""
        now = self._wall_ms()
        for event_type, key in handled.items():
            placed_ms = uuid7_ms(key)
            if placed_ms is not None:
                labels = (consumer, _told(event_type, unreadable=False))
                self._histograms[HANDLED_AGE].add(labels, max(0.0, now - placed_ms) / 1000)

    def _relay(self, signal: Relayed) -> None:
        self._count("orderflow_outbox_relayed", amount=signal.count)
        self._histograms["orderflow_outbox_relay_age_seconds"].add((), signal.oldest_ms / 1000)

    def _slots_changed(self, signal: SlotsChanged) -> None:
        self._slots = len(signal.slots)

    def _count_faults(self, count: int) -> None:
        self._faults = count

    def _intent(self, signal: IntentAsked) -> None:
        self._count("orderflow_intents", signal.kind, signal.outcome)
        self._histograms["orderflow_intent_seconds"].add((signal.kind,), signal.duration_s)


class LagAges:
    """For how long records have been unread: from how the ends of partitions were seen to grow, look by look.

    What was there before the first look counts from that look on.
    """

    def __init__(self, kept: int = 240) -> None:
        self._ends: dict[tuple[str, str, int], deque[tuple[float, int]]] = {}
        self._kept = kept

    def look(self, now: float, rows: Iterable[tuple[str, str, int, int, int]]) -> Mapping[tuple[str, str], float]:
        """By consumer and topic, in seconds: that of the partition which is worst. A row is consumer, topic,
        partition, the next offset to read and the next to be appended. `now` is in seconds, by a clock that only goes
        on.
        """
        ages: dict[tuple[str, str], float] = {}
        for consumer, topic, partition, position, end in rows:
            seen = self._ends.setdefault((consumer, topic, partition), deque(maxlen=self._kept))
            seen.append((now, end))
            while len(seen) > 1 and seen[0][1] <= position:
                seen.popleft()
            age = now - seen[0][0] if seen[0][1] > position else 0.0
            ages[consumer, topic] = max(age, ages.get((consumer, topic), 0.0))
        return ages


def _told(event_type: str, *, unreadable: bool) -> str:
    """A type that nobody here knows is text from outside: it must not make new time series."""
    return "undecodable" if unreadable else clean(event_type)[:_TYPE_MAX]


class Counts:
    """A family of counters by label values."""

    def __init__(self, info: MetricInfo) -> None:
        self._info = info
        self._values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        self._values[labels] = self._values.get(labels, 0) + amount

    def family(self) -> Metric:
        family = CounterMetricFamily(self._info.name, self._info.meaning, labels=self._info.labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return family


class Histograms:
    """A family of histograms by label values."""

    def __init__(self, info: MetricInfo) -> None:
        self._info = info
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def add(self, labels: Labels, value: float) -> None:
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._info.bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self._info.bounds, value)] += 1
        self._sums[labels] += value

    def family(self) -> Metric:
        family = HistogramMetricFamily(self._info.name, self._info.meaning, labels=self._info.labels)
        for labels, counts in self._counts.items():
            family.add_metric(labels, list(self._cumulated(counts)), self._sums[labels])
        return family

    def _cumulated(self, counts: Iterable[int]) -> Iterator[tuple[str, float]]:
        total = 0
        for bound, count in zip([*self._info.bounds, None], counts, strict=True):
            total += count
            yield ("+Inf" if bound is None else str(bound)), total
