"""Every metric and every span that there is. `Metrics` and `Tracing` make theirs from these lists, and
`scripts/signals.py` the documents.

Names and units of metrics are those of prometheus.io/docs/practices/naming; names, kinds and attributes of spans
those of OpenTelemetry's semantic conventions for messaging and HTTP, as far as these have one.
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
    MetricInfo(BUILD_INFO, "gauge", "Always 1; its labels name release and Python", ("version", "python")),
    MetricInfo(
        HANDLED_AGE,
        "histogram",
        "Age of an order when one of its events was handled; one sample per type in a batch",
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
    MetricInfo("orderflow_keys_reopened", "counter", "Parked keys that were reopened", ("consumer",)),
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
        "How long the oldest unread record has waited, as far as this process has seen",
        ("consumer", "topic"),
    ),
    MetricInfo("orderflow_outbox_unsent", "gauge", "Events that are written but not published"),
    MetricInfo("orderflow_outbox_oldest_seconds", "gauge", "Age of the oldest of them"),
    MetricInfo("orderflow_outbox_relayed", "counter", "Outbox rows that the log has acknowledged"),
    MetricInfo(
        "orderflow_outbox_relay_age_seconds", "histogram", "Age of the oldest row of a published batch", (), SECONDS
    ),
    MetricInfo("orderflow_outbox_segments_purged", "counter", "Outbox segments that were emptied"),
    MetricInfo("orderflow_outbox_slots", "gauge", "Outbox slots of this process's relay"),
    MetricInfo("orderflow_stuck_keys", "gauge", "Keys with a waiting event", ("consumer",)),
    MetricInfo("orderflow_stuck_retrying", "gauge", "Events that failed and are being retried", ("consumer",)),
    MetricInfo("orderflow_stuck_dead", "gauge", "Events that were given up and wait for an operator", ("consumer",)),
    MetricInfo("orderflow_stuck_held", "gauge", "Events that wait behind another of their key", ("consumer",)),
    MetricInfo(
        "orderflow_dead_by_cause",
        "gauge",
        "Events that were given up, by fingerprint: the largest groups, and the rest together",
        ("fingerprint", "error"),
    ),
    MetricInfo(
        "orderflow_expired_records",
        "gauge",
        "Records that the log dropped before they were read, and that no operator has acknowledged",
        ("consumer", "topic", "partition"),
    ),
    MetricInfo(
        "orderflow_outage",
        "gauge",
        "1: events of this type wait, because many keys failed alike",
        ("consumer", "event_type"),
    ),
    MetricInfo("orderflow_waiting", "gauge", "1: the component waits for infrastructure", ("component",)),
    MetricInfo("orderflow_stalled", "gauge", "1: the component has due work that does not move", ("component",)),
    MetricInfo("orderflow_begun_anew", "counter", "Components that stalled and were restarted", ("component",)),
    MetricInfo("orderflow_task_failures", "counter", "Unexpected errors of the core", ("component",)),
    MetricInfo("orderflow_topics_replaced", "counter", "Topics that were deleted and made again", ("topic",)),
    MetricInfo("orderflow_alarm", "gauge", "1: needs an operator", ("alarm",)),
    MetricInfo("orderflow_intents", "counter", "Questions to the outside world", ("kind", "outcome")),
    MetricInfo("orderflow_intent_seconds", "histogram", "Time until the outside world answered", ("kind",), SECONDS),
    MetricInfo("orderflow_alerts", "counter", "Alerts about dead letters, by outcome", ("outcome",)),
    MetricInfo("orderflow_spans", "counter", "Spans of traces, by outcome", ("outcome",)),
    MetricInfo("orderflow_faults", "gauge", "Faults of a game day that are set"),
    MetricInfo("orderflow_pool_used", "gauge", "Connections to PostgreSQL in use", ("pool",)),
    MetricInfo("orderflow_pool_waiting", "gauge", "Callers that wait for a connection", ("pool",)),
    MetricInfo("orderflow_pool_limit", "gauge", "Connections that may be in use at once", ("pool",)),
    MetricInfo(
        "orderflow_queue_length",
        "gauge",
        "Items that wait in this process: commands and answers for the next batch, questions to the outside world, "
        "records that a consumer keeps back",
        ("queue",),
    ),
    MetricInfo("orderflow_queue_limit", "gauge", "How many items may wait there", ("queue",)),
    MetricInfo("orderflow_http_requests", "counter", "HTTP requests", ("route", "method", "status")),
    MetricInfo("orderflow_http_refused", "counter", "HTTP requests that were answered with a problem", ("problem",)),
    MetricInfo(
        "orderflow_http_request_seconds", "histogram", "Duration of HTTP requests", ("route", "method"), SECONDS
    ),
    MetricInfo("orderflow_http_connections", "gauge", "Connections at a door", ("door",)),
    MetricInfo("orderflow_http_under_way", "gauge", "Unanswered requests at a door", ("door",)),
    MetricInfo("orderflow_http_limit", "gauge", "Limits of a door", ("door", "limit")),
    MetricInfo(
        "orderflow_http_timed_out", "counter", "Connections that exceeded the time limit of their state", ("state",)
    ),
    MetricInfo(
        "orderflow_tls_expiry_timestamp_seconds",
        "gauge",
        "When the first certificate in a door's chain expires (Unix time)",
        ("door",),
    ),
)


class SpanInfo(NamedTuple):
    """A span: its name, in which `{}` stands for what it is about, its kind, and the signal that it is made of."""

    name: str
    kind: Literal["server", "client", "producer", "consumer", "internal"]
    signal: str
    meaning: str
    attributes: tuple[str, ...] = ()


_MESSAGE = ("messaging.message.id", "messaging.message.conversation_id", "cloudevents.event_type")
_READ = ("messaging.system", "messaging.destination.name", "messaging.consumer.group.name")
_OPERATION = ("messaging.operation.name", "messaging.operation.type")
_BATCH = (*_OPERATION, "messaging.batch.message_count")
_OUTCOME = ("orderflow.outcome", "orderflow.attempts", "error.type")

REQUEST = SpanInfo(
    "{} {}",
    "server",
    "",
    "An HTTP request that changes something, or whose caller traces it",
    ("http.request.method", "http.route", "http.response.status_code", "error.type"),
)
HANDLE = SpanInfo(
    "handle {}",
    "internal",
    "BatchCommitted",
    "A command, or an answer from the outside world, is decided and written",
    (*_MESSAGE, *_OUTCOME),
)
OUTBOX_WAIT = SpanInfo("wait in outbox", "internal", "Relayed", "A written event waits to be published")
SEND = SpanInfo(
    "send {}",
    "producer",
    "Relayed",
    "An event, from its writing until the log has it",
    ("messaging.system", "messaging.destination.name", *_OPERATION, *_MESSAGE),
)
TOPIC_WAIT = SpanInfo(
    "wait in {}",
    "internal",
    "BatchCommitted",
    "An event in its topic waits for its consumer",
    _READ,
)
PROCESS = SpanInfo(
    "process {}",
    "consumer",
    "BatchCommitted",
    "A consumer decides on an event and writes the outcome",
    (*_READ, *_OPERATION, *_MESSAGE, "messaging.destination.partition.id", "messaging.kafka.offset", *_OUTCOME),
)
ASK = SpanInfo(
    "ask {}",
    "client",
    "IntentAsked",
    "The outside world (the bank) is asked",
    ("messaging.message.conversation_id", *_OUTCOME),
)
PROCESS_BATCH = SpanInfo(
    "process batch",
    "internal",
    "BatchCommitted",
    "A transaction that several messages share, in its own trace; linked to the span of each",
    (*_BATCH, "messaging.system", "messaging.consumer.group.name"),
)
SEND_BATCH = SpanInfo(
    "send batch",
    "client",
    "Relayed",
    "Events that are published together, in their own trace; linked to the span of each",
    (*_BATCH, "messaging.system"),
)
SPANS: tuple[SpanInfo, ...] = (
    REQUEST,
    HANDLE,
    OUTBOX_WAIT,
    SEND,
    TOPIC_WAIT,
    PROCESS,
    ASK,
    PROCESS_BATCH,
    SEND_BATCH,
)
