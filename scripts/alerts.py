"""What is made of metrics and log lines: which signal is which line, what is recorded, what alerts, the dashboard.

`scripts/signals.py` writes the page, the rules and the dashboard from it. Tests hold it to what the code tells.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from orderflow.observability.catalogue import HANDLED_AGE


class LogInfo(NamedTuple):
    """A log line: its action, the level at which it is written, and the signal that it tells of."""

    action: str
    level: Literal["debug", "info", "warning", "error"]
    signal: str


class AlertInfo(NamedTuple):
    """An alert rule. `page` wakes somebody; `ticket` can wait until the morning. `runbook` is a section's anchor."""

    name: str
    expression: str
    lasting: str
    severity: Literal["page", "ticket"]
    summary: str
    runbook: str


class RecordInfo(NamedTuple):
    """A recording rule: what the dashboard and the alerts ask often."""

    name: str
    expression: str


LOG_LINES: tuple[LogInfo, ...] = (
    LogInfo("message-handled", "info", "BatchCommitted"),
    LogInfo("message-duplicate", "info", "BatchCommitted"),
    LogInfo("message-ignored", "debug", "BatchCommitted"),
    LogInfo("message-held", "info", "BatchCommitted"),
    LogInfo("message-parked", "warning", "BatchCommitted"),
    LogInfo("message-dead", "error", "BatchCommitted"),
    LogInfo("message-refused", "info", "BatchCommitted"),
    LogInfo("message-deferred", "debug", "BatchCommitted"),
    LogInfo("batch-split", "warning", "BatchSplit"),
    LogInfo("key-reopened", "info", "KeyReopened"),
    LogInfo("outage-judged", "error", "OutageJudged"),
    LogInfo("outage-over", "info", "OutageOver"),
    LogInfo("waiting", "warning", "Waiting"),
    LogInfo("resumed", "info", "Resumed"),
    LogInfo("stalled", "error", "Stalled"),
    LogInfo("moving-again", "info", "StallOver"),
    LogInfo("begun-anew", "warning", "BegunAnew"),
    LogInfo("hopeless", "error", "Hopeless"),
    LogInfo("records-expired", "error", "RecordsExpired"),
    LogInfo("topic-replaced", "error", "TopicReplaced"),
    LogInfo("outbox-relayed", "debug", "Relayed"),
    LogInfo("slots-changed", "info", "SlotsChanged"),
    LogInfo("intent-asked", "info", "IntentAsked"),
    LogInfo("outbox-purged", "info", "OutboxPurged"),
    LogInfo("alert-sent", "info", "Alerted"),
    LogInfo("alert-retried", "warning", "Alerted"),
    LogInfo("alert-failed", "error", "Alerted"),
    LogInfo("alert-dropped", "error", "Alerted"),
    LogInfo("spans-sent-again", "info", "SpansSent"),
    LogInfo("spans-lost", "warning", "SpansLost"),
    LogInfo("task-failed", "error", "TaskFailed"),
    LogInfo("alarm-raised", "error", "AlarmRaised"),
    LogInfo("alarm-cleared", "info", "AlarmCleared"),
    LogInfo("faults-set", "warning", "FaultsSet"),
    LogInfo("faults-cleared", "warning", "FaultsCleared"),
    LogInfo("faults-ignored", "warning", "FaultsIgnored"),
)

_ENDS = "orderflow.StockReserved.v1|orderflow.PaymentFailed.v1|orderflow.StockRejected.v1"
_STATES = {
    "PAID": "orderflow.PaymentSucceeded.v1",
    "COMPLETED": "orderflow.StockReserved.v1",
    "FAILED": "orderflow.PaymentFailed.v1|orderflow.StockRejected.v1",
}


def _p99(histogram: str, labels: str = "", by: str = "le") -> str:
    chosen = f"{{{labels}}}" if labels else ""
    return f"histogram_quantile(0.99, sum by ({by}) (rate({histogram}_bucket{chosen}[5m])))"


RECORDS: tuple[RecordInfo, ...] = (
    RecordInfo(
        "orderflow:orders_placed:rate5m", 'sum(rate(orderflow_http_requests_total{route="/orders",status="201"}[5m]))'
    ),
    RecordInfo(
        "orderflow:orders_ended:rate5m",
        f'sum(rate(orderflow_messages_total{{consumer="order",event_type=~"{_ENDS}",outcome="handled"}}[5m]))',
    ),
    *(
        RecordInfo(
            f"orderflow:placed_to_{state.lower()}_seconds:p99_5m",
            _p99(HANDLED_AGE, f'consumer="order",event_type=~"{types}"'),
        )
        for state, types in _STATES.items()
    ),
    RecordInfo(
        "orderflow:requests_failed:ratio5m",
        'sum(rate(orderflow_http_requests_total{status=~"5.."}[5m])) / sum(rate(orderflow_http_requests_total[5m]))',
    ),
)

ALERTS: tuple[AlertInfo, ...] = (
    AlertInfo(
        "OrdersEndTooLate",
        "orderflow:placed_to_completed_seconds:p99_5m > 30",
        "5m",
        "page",
        "One order in a hundred takes more than 30 s to COMPLETED.",
        "look-first",
    ),
    AlertInfo(
        "OrdersDoNotEnd",
        "orderflow:orders_placed:rate5m > 0.01 unless orderflow:orders_ended:rate5m > 0",
        "5m",
        "page",
        "Orders are placed, but none has ended for 5 minutes.",
        "look-first",
    ),
    AlertInfo(
        "RequestsFail",
        "orderflow:requests_failed:ratio5m > 0.05",
        "5m",
        "page",
        "More than 5 % of the requests fail with a server error.",
        "look-first",
    ),
    AlertInfo(
        "ServiceAway",
        'up{job="orderflow"} == 0',
        "1m",
        "page",
        "The service {{ $labels.service }} at {{ $labels.instance }} cannot be scraped.",
        "look-first",
    ),
    AlertInfo(
        "OutboxStandsStill",
        "max by (service) (orderflow_outbox_oldest_seconds) > 60",
        "2m",
        "page",
        "Events of {{ $labels.service }} have been waiting to be published for more than a minute.",
        "look-first",
    ),
    AlertInfo(
        "NobodyPublishes",
        "sum by (service) (orderflow_outbox_slots) == 0 and sum by (service) (orderflow_outbox_unsent) > 0",
        "1m",
        "page",
        "Events of {{ $labels.service }} wait, and no relay owns a slot.",
        "look-first",
    ),
    AlertInfo(
        "ConsumerBehind",
        "max by (service, consumer, topic) (orderflow_consumer_lag_seconds) > 60",
        "2m",
        "page",
        "{{ $labels.consumer }} is more than a minute behind on {{ $labels.topic }}.",
        "look-first",
    ),
    AlertInfo(
        "OutageJudged",
        "max by (service, consumer, event_type) (orderflow_outage) == 1",
        "1m",
        "page",
        "Many orders fail alike at {{ $labels.consumer }} with {{ $labels.event_type }}: they wait.",
        "outage",
    ),
    AlertInfo(
        "InfrastructureAway",
        "max by (service, component) (orderflow_waiting) == 1",
        "2m",
        "page",
        "{{ $labels.component }} of {{ $labels.service }} waits for infrastructure.",
        "outage",
    ),
    AlertInfo(
        "PartStandsStill",
        "max by (service, component) (orderflow_stalled) == 1",
        "1m",
        "page",
        "{{ $labels.component }} of {{ $labels.service }} has due work that does not move.",
        "look-first",
    ),
    AlertInfo(
        "EventsGivenUp",
        "sum by (service, consumer) (orderflow_stuck_dead) > 0",
        "1m",
        "ticket",
        "{{ $value }} events were given up at {{ $labels.consumer }}; their orders wait for an operator.",
        "poison",
    ),
    AlertInfo(
        "RecordsExpired",
        "sum by (service, consumer, topic) (orderflow_expired_records) > 0",
        "0m",
        "page",
        "{{ $value }} records of {{ $labels.topic }} were dropped before {{ $labels.consumer }} read them.",
        "records-that-expired-unread",
    ),
    AlertInfo(
        "OperatorNeeded",
        "max by (service, alarm) (orderflow_alarm) == 1",
        "1m",
        "ticket",
        "{{ $labels.service }} needs an operator: {{ $labels.alarm }}.",
        "look-first",
    ),
    AlertInfo(
        "BankDoesNotAnswer",
        'sum(rate(orderflow_intents_total{outcome=~"unavailable|.*Unknown"}[5m]))'
        " > 0.2 * sum(rate(orderflow_intents_total[5m]))",
        "5m",
        "page",
        "The bank leaves more than one question in five unanswered.",
        "a-charge-that-the-bank-leaves-open",
    ),
    AlertInfo(
        "StatesRuleEventsOut",
        "sum by (service, event_type) (increase(orderflow_refused_transitions_total[15m])) > 0",
        "0m",
        "ticket",
        "{{ $labels.event_type }} reached orders whose state rules it out.",
        "poison",
    ),
    AlertInfo(
        "UnexpectedErrors",
        "sum by (service, component) (increase(orderflow_task_failures_total[15m])) > 0",
        "0m",
        "ticket",
        "{{ $labels.component }} of {{ $labels.service }} met unexpected errors.",
        "look-first",
    ),
    AlertInfo(
        "ConnectionsRunOut",
        "max by (service, pool) (orderflow_pool_waiting) > 0",
        "5m",
        "ticket",
        "Callers in {{ $labels.service }} have been waiting for a connection from the pool {{ $labels.pool }}.",
        "look-first",
    ),
    AlertInfo(
        "QueueNearlyFull",
        "max by (service, queue) (orderflow_queue_length / orderflow_queue_limit) > 0.9",
        "5m",
        "page",
        "The queue {{ $labels.queue }} of {{ $labels.service }} is nearly full: what comes next is refused or waits.",
        "look-first",
    ),
    AlertInfo(
        "FaultsAreSet",
        "max by (service) (orderflow_faults) > 0",
        "1h",
        "ticket",
        "Faults of a game day have been set at {{ $labels.service }} for an hour.",
        "practise-it",
    ),
)


_BATCH_SIZE = (
    "sum by (consumer) (rate(orderflow_batch_size_sum[5m])) / "
    "sum by (consumer) (rate(orderflow_batch_size_count[5m]))"
)


class PanelInfo(NamedTuple):
    """A panel of the dashboard: expressions with their legends, and the unit of Grafana."""

    title: str
    unit: str
    series: tuple[tuple[str, str], ...]


PANELS: tuple[tuple[str, tuple[PanelInfo, ...]], ...] = (
    (
        "Orders",
        (
            PanelInfo(
                "Orders a second",
                "ops",
                (("orderflow:orders_placed:rate5m", "placed"), ("orderflow:orders_ended:rate5m", "ended")),
            ),
            PanelInfo(
                "From placed to, 99 of 100",
                "s",
                tuple((f"orderflow:placed_to_{state.lower()}_seconds:p99_5m", state) for state in _STATES),
            ),
            PanelInfo(
                "Requests by status",
                "ops",
                (("sum by (status) (rate(orderflow_http_requests_total[5m]))", "{{status}}"),),
            ),
        ),
    ),
    (
        "Flow",
        (
            PanelInfo(
                "Outbox: not published", "short", (("max by (service) (orderflow_outbox_unsent)", "{{service}}"),)
            ),
            PanelInfo(
                "Behind, in seconds",
                "s",
                (
                    (
                        "max by (consumer, topic) (orderflow_consumer_lag_seconds)",
                        "{{consumer}}, {{topic}}",
                    ),
                ),
            ),
            PanelInfo(
                "Messages by outcome",
                "ops",
                (("sum by (outcome) (rate(orderflow_messages_total[5m]))", "{{outcome}}"),),
            ),
            PanelInfo(
                "The bank, by outcome",
                "ops",
                (("sum by (kind, outcome) (rate(orderflow_intents_total[5m]))", "{{kind}}: {{outcome}}"),),
            ),
        ),
    ),
    (
        "Trouble",
        (
            PanelInfo(
                "Events that wait",
                "short",
                (
                    ("sum by (consumer) (orderflow_stuck_dead)", "{{consumer}} dead"),
                    ("sum by (consumer) (orderflow_stuck_retrying)", "{{consumer}} retrying"),
                    ("sum by (consumer) (orderflow_stuck_held)", "{{consumer}} held"),
                ),
            ),
            PanelInfo("Given up, by cause", "short", (("sum by (error) (orderflow_dead_by_cause)", "{{error}}"),)),
            PanelInfo(
                "Waiting, stalled, in outage",
                "short",
                (
                    ("max by (service, component) (orderflow_waiting)", "{{service}} {{component}} waits"),
                    ("max by (service, component) (orderflow_stalled)", "{{service}} {{component}} stalled"),
                    ("max by (consumer, event_type) (orderflow_outage)", "{{consumer}} {{event_type}} outage"),
                ),
            ),
        ),
    ),
    (
        "Work",
        (
            PanelInfo(
                "Batch, 99 of 100",
                "s",
                (
                    (
                        _p99("orderflow_batch_seconds", by="le, consumer"),
                        "{{consumer}}",
                    ),
                ),
            ),
            PanelInfo("Messages in a batch, on average", "short", ((_BATCH_SIZE, "{{consumer}}"),)),
            PanelInfo(
                "CPU", "percentunit", (("sum by (service) (rate(process_cpu_seconds_total[5m]))", "{{service}}"),)
            ),
            PanelInfo("Memory", "bytes", (("sum by (service) (process_resident_memory_bytes)", "{{service}}"),)),
            PanelInfo(
                "Connections lent, of those that may be",
                "percentunit",
                (
                    (
                        "max by (service, pool) (orderflow_pool_used / orderflow_pool_limit)",
                        "{{service}} {{pool}}",
                    ),
                ),
            ),
            PanelInfo(
                "Queues: how full",
                "percentunit",
                (
                    (
                        "max by (service, queue) (orderflow_queue_length / orderflow_queue_limit)",
                        "{{service}} {{queue}}",
                    ),
                ),
            ),
        ),
    ),
)
