"""Every metric that there is. `Metrics` makes its families from this list, `scripts/signals.py` the documents.

Names and units are those of prometheus.io/docs/practices/naming.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
AGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
HANDLED_AGE = "orderflow_handled_age_seconds"
BUILD_INFO = "orderflow_build_info"


class MetricInfo(NamedTuple):
    """A family. `name` is without `_total`, `_bucket` and so on; a histogram has `bounds`, inclusive."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def exposed(self) -> str:
        """The name in an expression: a counter's ends with `_total`."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


METRICS: tuple[MetricInfo, ...] = (
    MetricInfo(BUILD_INFO, "gauge", "Always 1: the release and the Python", ("version", "python")),
    MetricInfo(
        HANDLED_AGE,
        "histogram",
        "Age of an order when an event of it was handled: of one of each type in a batch",
        ("consumer", "event_type"),
        AGES,
    ),
    MetricInfo("orderflow_messages", "counter", "Messages that came in", ("consumer", "event_type", "outcome")),
    MetricInfo(
        "orderflow_refused_transitions",
        "counter",
        "Events that the state of their order rules out",
        ("consumer", "event_type"),
    ),
    MetricInfo("orderflow_batch_size", "histogram", "Messages in a batch", ("consumer",), SIZES),
    MetricInfo("orderflow_batch_seconds", "histogram", "Duration of a batch's transaction", ("consumer",), SECONDS),
    MetricInfo("orderflow_batch_splits", "counter", "Batches that the database refused", ("consumer",)),
    MetricInfo("orderflow_keys_reopened", "counter", "Parked keys that flow again", ("consumer",)),
    MetricInfo(
        "orderflow_dead_letters",
        "counter",
        "Messages that were given up",
        ("consumer", "event_type", "failure"),
    ),
    MetricInfo("orderflow_consumer_lag", "gauge", "Records not read yet", ("consumer", "topic", "partition")),
    MetricInfo(
        "orderflow_consumer_lag_seconds",
        "gauge",
        "For how long the oldest unread record has been there, as far as this process has seen",
        ("consumer", "topic"),
    ),
    MetricInfo("orderflow_outbox_unsent", "gauge", "Events that are written and not published"),
    MetricInfo("orderflow_outbox_oldest_seconds", "gauge", "Age of the oldest of them"),
    MetricInfo("orderflow_outbox_relayed", "counter", "Outbox rows that the log has acknowledged"),
    MetricInfo(
        "orderflow_outbox_relay_age_seconds", "histogram", "Age of the oldest row of a published batch", (), SECONDS
    ),
    MetricInfo("orderflow_outbox_segments_purged", "counter", "Outbox segments that were emptied"),
    MetricInfo("orderflow_outbox_slots", "gauge", "Outbox slots of this process's relay"),
    MetricInfo("orderflow_parked_keys", "gauge", "Keys of which an event waits", ("consumer",)),
    MetricInfo("orderflow_parked_retrying", "gauge", "Events that failed and are tried again", ("consumer",)),
    MetricInfo("orderflow_parked_dead", "gauge", "Events that were given up and wait for an operator", ("consumer",)),
    MetricInfo("orderflow_parked_held", "gauge", "Events that wait behind another of their key", ("consumer",)),
    MetricInfo(
        "orderflow_dead_by_cause",
        "gauge",
        "Events that were given up, by what failed alike: the largest groups, and the others together",
        ("fingerprint", "error"),
    ),
    MetricInfo(
        "orderflow_expired_records",
        "gauge",
        "Records that the log dropped before they were read, not acknowledged",
        ("consumer", "topic", "partition"),
    ),
    MetricInfo(
        "orderflow_outage",
        "gauge",
        "1: events of this type wait, because many keys failed alike",
        ("consumer", "event_type"),
    ),
    MetricInfo("orderflow_waiting", "gauge", "1: the component waits for infrastructure", ("component",)),
    MetricInfo("orderflow_stalled", "gauge", "1: work of the component is due and does not move", ("component",)),
    MetricInfo("orderflow_begun_anew", "counter", "Parts that stood still and were begun anew", ("component",)),
    MetricInfo("orderflow_task_failures", "counter", "Unexpected errors of the core", ("component",)),
    MetricInfo("orderflow_topics_replaced", "counter", "Topics that were deleted and made again", ("topic",)),
    MetricInfo("orderflow_alarm", "gauge", "1: an operator has to see to it", ("alarm",)),
    MetricInfo("orderflow_intents", "counter", "Questions to the outside world", ("kind", "outcome")),
    MetricInfo("orderflow_intent_seconds", "histogram", "Time until the outside world answered", ("kind",), SECONDS),
    MetricInfo("orderflow_alerts", "counter", "Alerts about dead letters, by what became of them", ("outcome",)),
    MetricInfo("orderflow_faults", "gauge", "Faults of a game day that are set"),
    MetricInfo("orderflow_http_requests", "counter", "HTTP requests", ("route", "method", "status")),
    MetricInfo("orderflow_http_refused", "counter", "HTTP requests that were answered with a problem", ("problem",)),
    MetricInfo(
        "orderflow_http_request_seconds", "histogram", "Duration of HTTP requests", ("route", "method"), SECONDS
    ),
    MetricInfo("orderflow_http_connections", "gauge", "Connections at a door", ("door",)),
    MetricInfo("orderflow_http_under_way", "gauge", "Requests at a door that have no answer yet", ("door",)),
    MetricInfo("orderflow_http_limit", "gauge", "Bounds of a door, by what they are of", ("door", "limit")),
)
