"""The catalogue of signals is what the code tells, and what is made of it is up to date."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest

from orderflow.core.inbox import Failure
from orderflow.core.telemetry import (
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
from orderflow.events.order import OrderFailed
from orderflow.observability.catalogue import METRICS
from orderflow.observability.logs import Level, LogWriter
from orderflow.observability.metrics import Gauges, LagAges, Metrics
from orderflow.observability.signal_log import SignalLog
from scripts.alerts import ALERTS, LOG_LINES, PANELS, RECORDS
from scripts.signals import files
from tests.support.records import written
from tests.unit.observability.test_logs import Kept, still

PROJECT = Path(__file__).parents[3]
RULES = PROJECT / "deploy" / "prometheus"
ORDER = "01a219b4-b91b-7869-839f-15c4265e383d"
SCRAPED: Gauges = {
    "outbox_unsent": {(): 1},
    "outbox_oldest_seconds": {(): 1},
    "consumer_lag": {(("consumer", "c"), ("topic", "t"), ("partition", "0")): 1},
    "consumer_lag_seconds": {(("consumer", "c"), ("topic", "t")): 1},
    "stuck_keys": {(("consumer", "c"),): 1},
    "stuck_retrying": {(("consumer", "c"),): 1},
    "stuck_dead": {(("consumer", "c"),): 1},
    "stuck_held": {(("consumer", "c"),): 1},
    "dead_by_cause": {(("fingerprint", "f"), ("error", "KeyError")): 1},
    "expired_records": {(("consumer", "c"), ("topic", "t"), ("partition", "0")): 1},
    "pool_used": {(("pool", "work"),): 1},
    "pool_waiting": {(("pool", "work"),): 1},
    "pool_limit": {(("pool", "work"),): 6},
    "queue_length": {(("queue", "commands"),): 1},
    "queue_limit": {(("queue", "commands"),): 1000},
    "http_connections": {(("door", "public"),): 1},
    "http_under_way": {(("door", "public"),): 1},
    "http_limit": {(("door", "public"), ("limit", "waiting")): 1},
    "tls_expiry_timestamp_seconds": {(("door", "public"),): 1},
}


def message(outcome: Outcome) -> Handled:
    told = OrderFailed(order_id=UUID(ORDER), customer_id="c", reason="r")
    failure = Failure("permanent", "IllegalTransitionError", "no", "f") if outcome is Outcome.DEAD else None
    return Handled(outcome, ORDER, UUID(int=1), "orderflow.OrderFailed.v1", told, failure=failure)


SIGNALS: tuple[Signal, ...] = (
    BatchCommitted("order", "order", [message(outcome) for outcome in Outcome], 0.01),
    BatchSplit("order", "order", 3, "no"),
    KeyReopened("order", "order", ORDER, 2),
    OutageJudged("order", "order", "T", "f", "KeyError: no", 9, 9),
    Waiting("order", "database", "away", 1.0),
    Stalled("order", "relay", ["0"], 3, 9.0),
    BegunAnew("order", "relay", 9.0),
    Hopeless("order", "relay", "no"),
    RecordsExpired("order", "order", "t", 0, 1, 4),
    TopicReplaced("order", "relay", "t", "deleted"),
    Relayed("order", [written()] * 3, 20, 0.01),
    SlotsChanged("order", [1]),
    IntentAsked("order", "charge:1", "charge", ORDER, "ChargeUnknown", 2, 0.1),
    OutboxPurged("order", 1),
    *(Alerted("order", "order", "f", 1, outcome, "") for outcome in AlertOutcome),
    SpansSent("order", 3, 2),
    SpansLost("order", 2, "away", first=True),
    TaskFailed("order", "relay", KeyError("no")),
    AlarmRaised("order", "refunds", "one"),
    FaultsSet("order", ["one"]),
    FaultsIgnored("order", ["one"]),
)
ENDS: tuple[Signal, ...] = (
    OutageOver("order", "order", "T", 1.0),
    Resumed("order", "database", 1.0),
    StallOver("order", "relay", 1.0),
    AlarmCleared("order", "refunds"),
    FaultsCleared("order"),
)


def test_the_samples_are_every_signal_that_there_is() -> None:
    assert {type(each) for each in (*SIGNALS, *ENDS)} == set(get_args(Signal))


def test_each_signal_is_told_by_the_log_lines_of_the_catalogue() -> None:
    sink = Kept()
    log = SignalLog(LogWriter("order", sink, level=Level.DEBUG, text=False, colour=False, clock=still()))
    told: set[tuple[str, str, str]] = set()
    for signal in (*SIGNALS, *ENDS):
        before = len(sink.lines())
        log(signal)
        told |= {(line["action"], line["level"], type(signal).__name__) for line in sink.lines()[before:]}

    assert told == {tuple(each) for each in LOG_LINES}


def exposed() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name, kind and labels of every family of ours in a scrape in which there is something of each."""
    metrics = Metrics("order")
    for signal in SIGNALS:
        metrics(signal)
    metrics.observe_request("/orders", "POST", 201, 0.01)
    metrics.observe_refusal("forbidden")
    metrics.observe_timeout("head")
    metrics.expose(SCRAPED)
    for family in metrics.collect():
        labels = {name: None for sample in family.samples for name in sample.labels if name != "le"}
        yield family.name, family.type, tuple(labels)


def test_what_is_exposed_is_the_catalogue() -> None:
    assert list(exposed()) == [(each.name, each.kind, each.labels) for each in METRICS]


def names_in(expression: str) -> set[str]:
    known = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\borderflow[:_][a-z0-9_:]+", known))


def test_rules_and_panels_ask_only_for_what_there_is() -> None:
    there = {each.exposed for each in METRICS} | {each.name for each in RECORDS}
    there |= {f"{each.name}_{part}" for each in METRICS for part in ("bucket", "sum", "count") if each.bounds}
    asked = [each.expression for each in RECORDS] + [each.expression for each in ALERTS]
    asked += [expression for _, row in PANELS for panel in row for expression, _ in panel.series]

    assert {name for each in asked for name in names_in(each)} - there == set()


def test_each_alert_leads_to_a_section_of_the_runbook() -> None:
    headings = re.findall(r"^#+ (.+)$", (PROJECT / "docs" / "runbook.md").read_text("utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    assert {each.runbook for each in ALERTS} - anchors == set()


@pytest.mark.parametrize("path", files())
def test_what_is_made_of_the_catalogue_is_up_to_date(path: str) -> None:
    assert (PROJECT / path).read_text("utf-8") == files()[path], "python -m scripts.signals --write"


def promtool(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("there is no promtool (Debian's package prometheus has it)")
    return subprocess.run([program, *arguments], input=given, capture_output=True, timeout=60, cwd=RULES)


def test_promtool_finds_the_rules_to_fire_when_they_should() -> None:
    done = promtool("test", "rules", "rules_test.yml")

    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_promtool_has_nothing_against_the_metrics() -> None:
    metrics = Metrics("order")
    for signal in SIGNALS:
        metrics(signal)
    metrics.observe_request("/orders", "POST", 201, 0.01)
    metrics.observe_refusal("unavailable")
    done = promtool("check", "metrics", given=metrics.expose(SCRAPED))

    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def look(ages: LagAges, now: float, *rows: tuple[int, int]) -> Any:
    """One consumer of one topic; a row is a position and an end, by partition."""
    return ages.look(now, [("c", "t", number, *row) for number, row in enumerate(rows)])["c", "t"]


def test_lag_in_seconds_is_the_time_since_the_oldest_unread_record_was_first_seen() -> None:
    ages = LagAges()
    assert look(ages, 0.0, (5, 5)) == 0
    assert look(ages, 10.0, (5, 8)) == 0
    assert look(ages, 25.0, (5, 9)) == 15
    assert look(ages, 30.0, (8, 9)) == 5
    assert look(ages, 40.0, (9, 9)) == 0


def test_the_partition_that_is_worst_counts() -> None:
    ages = LagAges()
    look(ages, 0.0, (0, 4), (0, 0))

    assert look(ages, 7.0, (0, 4), (0, 3)) == 7
