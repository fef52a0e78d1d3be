"""`orderflow outage`: four services side by side."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.cli.fleet import fleet

SAID = {"verdict": "outage", "who": "ada@desk", "reason": "known \x1b[31m", "until": "2026-01-02T03:04:05Z"}
OUTAGE = {
    "consumer": "order",
    "event_type": "orderflow.PaymentSucceeded.v1",
    "state": "outage",
    "for_ms": 12_300,
    "failing": 9,
    "tried": 10,
    "error": "Boom: no \x1b[31m",
    "fingerprint": "f",
    "overruled": SAID,
}
DOUBT = {**OUTAGE, "state": "in doubt", "for_ms": None, "overruled": None}
LISTED = {"consumers": ["order", "order.flow"], "outages": [OUTAGE, DOUBT]}


def test_what_is_judged_and_what_is_in_doubt_is_listed(tmp_path: Path) -> None:
    with fleet(tmp_path, order={"/ops/outages": LISTED}) as services:
        shown = services.call("outage", "list")
        document = json.loads(services.call("outage", "list", "--json").stdout)

    assert shown.exit_code == 1
    words = " ".join(shown.stdout.split())
    assert "outage" in words
    assert "9 of 10" in words
    assert "\x1b[31m" not in shown.stdout
    assert [each["service"] for each in document["outages"]] == ["order", "order"]


def test_nothing_is_listed_in_one_sentence(tmp_path: Path) -> None:
    with fleet(tmp_path, order={"/ops/outages": {**LISTED, "outages": [DOUBT]}}) as services:
        assert services.call("outage", "list").exit_code == 0
    with fleet(tmp_path) as services:
        shown = services.call("outage", "list")
    assert (shown.exit_code, shown.stdout) == (0, "No outage.\n")


def test_the_service_that_owns_the_consumer_is_told(tmp_path: Path) -> None:
    made = {"consumer": "order.flow", "event_type": "orderflow.Parked.v1", "overruled": {**SAID, "verdict": "poison"}}
    known = {"/ops/outages": LISTED, "POST /ops/outages": made}
    with fleet(tmp_path, order=known) as services:
        shown = services.call("outage", "overrule", "order.flow", "Parked", "--as", "poison", "--reason", "forged")
        asked = [each.body for each in services.asked["order"] if each.method == "POST"]

    assert shown.exit_code == 0
    assert "orderflow.Parked.v1 at order.flow count as poison until" in shown.stdout
    assert asked == [{"consumer": "order.flow", "event_type": "Parked", "verdict": "poison", "reason": "forged"}]


def test_an_unknown_consumer_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    with fleet(tmp_path, order={"/ops/outages": LISTED}) as services:
        shown = services.call("outage", "overrule", "orders", "Parked", "--as", "poison", "--reason", "forged")

    assert shown.exit_code == 4
    assert "There is no consumer 'orders', only order, order.flow" in shown.stderr
