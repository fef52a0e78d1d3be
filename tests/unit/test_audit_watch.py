"""What `orderflow audit --watch` goes over and tells, look by look."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from orderflow.audit.findings import Finding, Kind, Report
from orderflow.cli.audit_report import RECENT_MS, WHOLE_EVERY, Watching
from orderflow.cli.output import Output
from orderflow.cli.tables import now_ms

STOCK = Finding(Kind.STOCK_NEGATIVE, "mug", ">= 0 on hand", "-1", "inventory")
FORGED = Finding(Kind.RECORD_FORGED, "order-1", "a row of an outbox", "e", "payment-status/0@7")


def report(*findings: Finding, suspects: frozenset[str] = frozenset()) -> Report:
    made = Report(at_rest=True, orders=3, suspects=suspects)
    made.add(findings)
    return made


@pytest.fixture
def watching() -> Watching:
    return Watching(Output(as_json=True), topics=True)


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {"new": [each["kind"] for each in line["new"]], "gone": [each["kind"] for each in line["gone"]]}


def test_what_is_new_and_what_is_gone_is_told_once(watching: Watching, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for found in ((STOCK,), (STOCK,), (), ()):
        watching.scope()
        watching.tell(report(*found))
        told.append(said(capsys))

    nothing: dict[str, list[str]] = {"new": [], "gone": []}
    assert told == [
        {"new": ["stock-negative"], "gone": []},
        nothing,
        {"new": [], "gone": ["stock-negative"]},
        nothing,
    ]


def test_a_look_at_new_orders_forgets_nothing_of_the_topics(
    watching: Watching, capsys: pytest.CaptureFixture[str]
) -> None:
    for found in ((FORGED,), ()):
        watching.scope()
        watching.tell(report(*found))
    capsys.readouterr()

    assert list(watching.known.values()) == [FORGED]


def test_every_twentieth_look_is_whole_and_the_others_go_over_what_may_have_changed(watching: Watching) -> None:
    before = now_ms()
    scopes = []
    for _ in range(WHOLE_EVERY + 1):
        scopes.append(watching.scope())
        watching.tell(report(suspects=frozenset({"order-1"})))

    whole = [number for number, scope in enumerate(scopes) if scope.after is None]
    assert whole == [0, WHOLE_EVERY]
    assert [number for number, scope in enumerate(scopes) if scope.topics] == whole
    assert all(scopes[number].also == {"order-1"} for number in range(1, WHOLE_EVERY))
    assert isinstance(scopes[1].after, UUID)
    assert int(before - RECENT_MS) <= scopes[1].after.int >> 80 <= now_ms() - RECENT_MS
