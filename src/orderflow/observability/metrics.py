"""What Prometheus sees of one process: a registry of its own, filled by signals and by the HTTP frame."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orderflow.core.identity import uuid7_ms
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
    Stalled,
    StallOver,
    TaskFailed,
    TopicReplaced,
    Waiting,
)
from orderflow.core.timing import SystemClock
from orderflow.observability.logs import clean

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
Gauges = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
_TYPE_MAX = 80
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
AGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
SYSTEM = SystemClock()
HANDLED_AGE = "orderflow_handled_age_seconds"
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
Labels = tuple[str, ...]


class Metrics(Collector):
    """A subscriber of signals and an observer of HTTP requests."""

    def __init__(self, service: str, wall_ms: Callable[[], int] = SYSTEM.wall_ms) -> None:
        self._service = service
        self._wall_ms = wall_ms
        self.registry = CollectorRegistry(auto_describe=False)
        self._waiting: set[str] = set()
        self._stalled: set[str] = set()
        self._outages: set[tuple[str, str]] = set()
        self._alarms: set[str] = set()
        self._slots = 0
        self._faults = 0
        self._gauges: Gauges = {}
        self._make_families()
        self._readers: dict[type[Any], Callable[[Any], None]] = {
            BatchCommitted: self._batch,
            BatchSplit: lambda signal: self._splits.add((signal.consumer,)),
            KeyReopened: lambda signal: self._reopened.add((signal.consumer,)),
            OutageJudged: lambda signal: self._outages.add((signal.consumer, signal.event_type)),
            OutageOver: lambda signal: self._outages.discard((signal.consumer, signal.event_type)),
            Waiting: lambda signal: self._waiting.add(signal.component),
            Resumed: lambda signal: self._waiting.discard(signal.component),
            Stalled: lambda signal: self._stalled.add(signal.component),
            StallOver: lambda signal: self._stalled.discard(signal.component),
            BegunAnew: lambda signal: self._anew.add((signal.component,)),
            Hopeless: lambda _: None,
            RecordsExpired: lambda _: None,
            TopicReplaced: lambda signal: self._replaced.add((signal.topic,)),
            Relayed: self._relay,
            SlotsChanged: self._slots_changed,
            IntentAsked: self._intent,
            OutboxPurged: lambda signal: self._purged.add((), signal.segments),
            Alerted: lambda signal: self._alerts.add((signal.outcome.value,)),
            AlarmRaised: lambda signal: self._alarms.add(signal.alarm),
            AlarmCleared: lambda signal: self._alarms.discard(signal.alarm),
            TaskFailed: lambda signal: self._failures.add((signal.component,)),
            FaultsSet: lambda signal: self._count_faults(len(signal.faults)),
            FaultsCleared: lambda _: self._count_faults(0),
            FaultsIgnored: lambda _: None,
        }
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def _make_families(self) -> None:
        self._messages = Counts("orderflow_messages", "Messages that came in", ("consumer", "event_type", "outcome"))
        self._batch_size = Histograms("orderflow_batch_size", "Messages a batch", ("consumer",), SIZES)
        self._batch_time = Histograms(
            "orderflow_batch_seconds", "Duration of a batch's transaction", ("consumer",), SECONDS
        )
        self._handled_age = Histograms(
            HANDLED_AGE, "Age of the order when an event of it was handled", ("consumer", "event_type"), AGES
        )
        self._splits = Counts("orderflow_batch_splits", "Batches that the database refused", ("consumer",))
        self._reopened = Counts("orderflow_keys_reopened", "Parked keys that flow again", ("consumer",))
        self._anew = Counts("orderflow_begun_anew", "Parts that stood still and were begun anew", ("component",))
        self._replaced = Counts(
            "orderflow_topics_replaced", "Topics found deleted and made again, or without their end", ("topic",)
        )
        self._relayed = Counts("orderflow_outbox_relayed", "Outbox rows acknowledged by the log", ())
        self._relay_age = Histograms(
            "orderflow_outbox_relay_age_seconds", "Age of the oldest row of a relayed batch", (), SECONDS
        )
        self._intents = Counts("orderflow_intents", "Questions to the outside world", ("kind", "outcome"))
        self._intent_time = Histograms(
            "orderflow_intent_seconds", "Time until the outside world answered", ("kind",), SECONDS
        )
        self._dead = Counts(
            "orderflow_dead_letters", "Messages that were given up", ("consumer", "event_type", "failure")
        )
        self._alerts = Counts("orderflow_alerts", "Alerts about dead letters", ("outcome",))
        self._purged = Counts("orderflow_outbox_segments_purged", "Outbox segments that were emptied", ())
        self._failures = Counts("orderflow_task_failures", "Unexpected errors of the core", ("component",))
        self._requests = Counts("orderflow_http_requests", "HTTP requests", ("route", "method", "status"))
        self._refused = Counts(
            "orderflow_http_refused", "HTTP requests that were answered with a problem", ("problem",)
        )
        self._request_time = Histograms(
            "orderflow_http_request_seconds", "Duration of HTTP requests", ("route", "method"), SECONDS
        )

    def __call__(self, signal: Signal) -> None:
        self._readers[type(signal)](signal)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is the declared path, never the one that was asked for."""
        self._requests.add((route, method, str(status)))
        self._request_time.add((route, method), seconds)

    def observe_refusal(self, problem: str) -> None:
        """`problem` is the name of the problem's type."""
        self._refused.add((problem,))

    def expose(self, gauges: Gauges) -> bytes:
        """The text of a scrape. `gauges` (name → labels → value) were read for it, just now."""
        self._gauges = gauges
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        for family in self._families():
            yield from family.families()
        yield from self._read_components()
        outages = GaugeMetricFamily(
            "orderflow_outage",
            "Event types that wait because many keys failed alike",
            labels=["consumer", "event_type"],
        )
        for labels in sorted(self._outages):
            outages.add_metric(labels, 1)
        yield outages
        alarms = GaugeMetricFamily("orderflow_alarm", "What an operator has to see to", labels=["alarm"])
        for alarm in sorted(self._alarms):
            alarms.add_metric([alarm], 1)
        yield alarms
        yield GaugeMetricFamily("orderflow_outbox_slots", "Outbox slots of this relay", value=self._slots)
        yield GaugeMetricFamily("orderflow_faults", "Faults of a game day that are set", value=self._faults)
        yield from self._read_gauges()

    def _read_components(self) -> Iterator[Metric]:
        told = (
            ("orderflow_waiting", "Components that wait for infrastructure", self._waiting),
            ("orderflow_stalled", "Components with work that is due and does not move", self._stalled),
        )
        for name, meaning, components in told:
            family = GaugeMetricFamily(name, meaning, labels=["component"])
            for component in sorted(components):
                family.add_metric([component], 1)
            yield family

    def _families(self) -> tuple[Counts | Histograms, ...]:
        return tuple(each for each in vars(self).values() if isinstance(each, Counts | Histograms))

    def _read_gauges(self) -> Iterator[Metric]:
        for name, values in self._gauges.items():
            labels = [label for label, _ in next(iter(values), ())]
            family = GaugeMetricFamily(f"orderflow_{name}", name.replace("_", " ").capitalize(), labels=labels)
            for key, value in values.items():
                family.add_metric([text for _, text in key], value)
            yield family

    def _batch(self, batch: BatchCommitted) -> None:
        consumer = batch.consumer
        counted = Counter((consumer, _type_of(each), each.outcome.value) for each in batch.handled)
        for labels, count in counted.items():
            self._messages.add(labels, count)
        for each in batch.handled:
            if each.outcome is Outcome.DEAD and each.failure is not None:
                self._dead.add((consumer, _type_of(each), each.failure.kind))
            elif each.outcome is Outcome.HANDLED and (placed_ms := uuid7_ms(each.key)) is not None:
                self._handled_age.add((consumer, _type_of(each)), max(0.0, self._wall_ms() - placed_ms) / 1000)
        self._batch_size.add((consumer,), len(batch.handled))
        self._batch_time.add((consumer,), batch.duration_s)

    def _relay(self, signal: Relayed) -> None:
        self._relayed.add((), signal.count)
        self._relay_age.add((), signal.oldest_ms / 1000)

    def _slots_changed(self, signal: SlotsChanged) -> None:
        self._slots = len(signal.slots)

    def _count_faults(self, count: int) -> None:
        self._faults = count

    def _intent(self, signal: IntentAsked) -> None:
        self._intents.add((signal.kind, signal.outcome))
        self._intent_time.add((signal.kind,), signal.duration_s)


def _type_of(handled: Handled) -> str:
    """A type that nobody here knows is text from outside: it must not make new time series."""
    return clean(handled.event_type)[:_TYPE_MAX] if handled.message else "undecodable"


class Counts:
    """A family of counters by label values. `name` is without `_total`."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        self._values[labels] = self._values.get(labels, 0) + amount

    def families(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


class Histograms:
    """A family of histograms by label values; `bounds` are upper bounds, inclusive."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._bounds = bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def add(self, labels: Labels, value: float) -> None:
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def families(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, counts in self._counts.items():
            family.add_metric(labels, list(self._cumulated(counts)), self._sums[labels])
        yield family

    def _cumulated(self, counts: Iterable[int]) -> Iterator[tuple[str, float]]:
        total = 0
        for bound, count in zip([*self._bounds, None], counts, strict=True):
            total += count
            yield ("+Inf" if bound is None else str(bound)), total
