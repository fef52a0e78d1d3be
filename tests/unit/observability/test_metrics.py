"""What Prometheus is told."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from prometheus_client.parser import text_string_to_metric_families

from orderflow.core.inbox import Failure
from orderflow.core.messages import Event
from orderflow.core.telemetry import (
    AlarmCleared,
    AlarmRaised,
    Alerted,
    AlertOutcome,
    BatchCommitted,
    BatchSplit,
    FaultsCleared,
    FaultsIgnored,
    FaultsSet,
    Handled,
    IntentAsked,
    KeyReopened,
    OutageJudged,
    OutageOver,
    OutboxPurged,
    Outcome,
    Relayed,
    Resumed,
    SlotsChanged,
    TaskFailed,
    TopicReplaced,
    Waiting,
)
from orderflow.observability.metrics import Gauges, Metrics
from tests.support.records import written


class Paid(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "orderflow.Paid"
    TOPIC: ClassVar[str] = "payment-status"


def samples(metrics: Metrics, gauges: Gauges | None = None) -> dict[str, float]:
    text = metrics.expose(gauges or {}).decode()
    return {
        sample.name + "".join(f",{name}={sample.labels[name]}" for name in sorted(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def handled(outcome: Outcome, event_type: str = "orderflow.Paid.v1", *, known: bool = True) -> Handled:
    failure = Failure("unknown" if known else "permanent", "Boom", "x", "f1") if outcome is Outcome.DEAD else None
    return Handled(outcome, "k", UUID(int=1), event_type, Paid() if known else None, failure=failure)


def test_messages_are_counted_by_consumer_type_and_outcome() -> None:
    metrics = Metrics("order")
    batch = [handled(Outcome.HANDLED), handled(Outcome.HANDLED), handled(Outcome.PARKED)]
    metrics(BatchCommitted("order", "order", batch, 0.02))
    found = samples(metrics)
    name = "orderflow_messages_total,consumer=order,event_type=orderflow.Paid.v1,outcome"
    assert (found[f"{name}=handled"], found[f"{name}=parked"]) == (2, 1)
    assert found["orderflow_batch_size_bucket,consumer=order,le=2.0"] == 0
    assert found["orderflow_batch_size_bucket,consumer=order,le=5.0"] == 1
    assert found["orderflow_batch_seconds_sum,consumer=order"] == 0.02


def test_dead_letters_are_counted_by_what_failed_and_how() -> None:
    metrics = Metrics("order")
    batch = [handled(Outcome.DEAD), handled(Outcome.DEAD), handled(Outcome.DEAD, "evil", known=False)]
    metrics(BatchCommitted("order", "order", [*batch, handled(Outcome.PARKED)], 0.02))
    counted = {name: count for name, count in samples(metrics).items() if name.startswith("orderflow_dead_letters_t")}
    name = "orderflow_dead_letters_total,consumer=order,event_type"
    assert counted == {f"{name}=orderflow.Paid.v1,failure=unknown": 2, f"{name}=undecodable,failure=permanent": 1}


def test_types_from_outside_make_no_new_series() -> None:
    metrics = Metrics("order")
    batch = [handled(Outcome.DEAD, f"evil-{number}", known=False) for number in range(50)]
    metrics(BatchCommitted("order", "order", batch, 0.02))
    counted = [name for name in samples(metrics) if name.startswith("orderflow_messages_total")]
    assert counted == ["orderflow_messages_total,consumer=order,event_type=undecodable,outcome=dead"]


def test_every_signal_is_seen() -> None:
    metrics = Metrics("order")
    for signal in (
        BatchSplit("order", "order", 3, "x"),
        KeyReopened("order", "order", "k", 2),
        OutageJudged("order", "order", "orderflow.Paid.v1", "f1", "Boom: x", 9, 10),
        OutageJudged("order", "order", "orderflow.Placed.v1", "f1", "Boom: x", 9, 10),
        OutageOver("order", "order", "orderflow.Placed.v1", 12.0),
        Waiting("order", "relay", "x", 1.0),
        Waiting("order", "consumer", "x", 1.0),
        Resumed("order", "consumer", 1.0),
        TopicReplaced("order", "consumer order", "payment-status", "x"),
        Relayed("order", [written()] * 3, 5, 0.1),
        SlotsChanged("order", [1, 2]),
        IntentAsked("order", "charge:k", "charge", "k", "ChargeApproved", 1, 0.1),
        OutboxPurged("order", 2),
        Alerted("order", "order", "f1", 3, AlertOutcome.SENT, ""),
        TaskFailed("order", "relay", ValueError("x")),
        AlarmRaised("order", "refunds", "1 refund refused"),
        AlarmRaised("order", "bank", "1 charge without an answer"),
        AlarmCleared("order", "bank"),
        FaultsSet("order", ["fault 1", "fault 2"]),
        FaultsIgnored("order", ["fault 3"]),
    ):
        metrics(signal)
    found = samples(metrics)
    assert found["orderflow_batch_splits_total,consumer=order"] == 1
    assert found["orderflow_keys_reopened_total,consumer=order"] == 1
    assert [name for name in found if name.startswith("orderflow_outage")] == [
        "orderflow_outage,consumer=order,event_type=orderflow.Paid.v1"
    ]
    assert found["orderflow_alerts_total,outcome=sent"] == 1
    assert found["orderflow_waiting,component=relay"] == 1
    assert "orderflow_waiting,component=consumer" not in found
    assert found["orderflow_topics_replaced_total,topic=payment-status"] == 1
    assert found["orderflow_outbox_relayed_total"] == 3
    assert found["orderflow_outbox_relay_age_seconds_sum"] == 0.005
    assert found["orderflow_outbox_slots"] == 2
    assert found["orderflow_intents_total,kind=charge,outcome=ChargeApproved"] == 1
    assert found["orderflow_intent_seconds_count,kind=charge"] == 1
    assert found["orderflow_outbox_segments_purged_total"] == 2
    assert found["orderflow_task_failures_total,component=relay"] == 1
    assert [name for name in found if name.startswith("orderflow_alarm,")] == ["orderflow_alarm,alarm=refunds"]
    assert found["orderflow_faults"] == 2
    metrics(FaultsCleared("order"))
    assert samples(metrics)["orderflow_faults"] == 0


def test_requests_are_counted_by_declared_route() -> None:
    metrics = Metrics("order")
    metrics.observe_request("/orders/{order_id}", "GET", 200, 0.004)
    metrics.observe_request("/orders/{order_id}", "GET", 404, 0.004)
    found = samples(metrics)
    assert found["orderflow_http_requests_total,method=GET,route=/orders/{order_id},status=404"] == 1
    assert found["orderflow_http_request_seconds_count,method=GET,route=/orders/{order_id}"] == 2


def test_gauges_are_those_of_this_scrape_alone() -> None:
    metrics = Metrics("order")
    lag: dict[tuple[tuple[str, str], ...], float] = {(("consumer", "order"), ("topic", "t"), ("partition", "0")): 7.0}
    found = samples(metrics, {"outbox_unsent": {(): 3}, "consumer_lag": lag, "stuck_keys": {}})
    assert found["orderflow_outbox_unsent"] == 3
    assert found["orderflow_consumer_lag,consumer=order,partition=0,topic=t"] == 7
    assert "orderflow_outbox_unsent" not in samples(metrics)


def test_two_processes_share_nothing() -> None:
    first, second = Metrics("order"), Metrics("order")
    first(OutboxPurged("order", 2))
    assert "orderflow_outbox_segments_purged_total" not in samples(second)
