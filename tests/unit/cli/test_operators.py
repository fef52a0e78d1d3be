"""`outbox`, `lag` and `health`: four services side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orderflow.registry import SAGA
from tests.support.shop import Says
from tests.unit.cli.calls import NOBODY, call
from tests.unit.cli.fleet import fleet

FAULT = {"id": 1, "event_type": "PaymentSucceeded", "field": "sku", "value": "A", "error": "hang", "share": 0.3}


def test_what_waits_to_be_published_is_shown_of_all_services(tmp_path: Path) -> None:
    with fleet(tmp_path, payment={"/ops/outbox": {"unsent": 12, "oldest_ms": 90_000}}) as services:
        shown = services.call("outbox", "status")
        document = json.loads(services.call("outbox", "status", "--json").stdout)

    assert shown.exit_code == 0
    assert ["payment", "12", "2", "min"] in [line.split() for line in shown.stdout.splitlines()]
    assert [each["unsent"] for each in document["services"].values()] == [0, 12, 0, 0]


@pytest.mark.parametrize("command", [("outbox", "status"), ("lag",), ("dlt", "list")])
def test_a_service_that_is_away_is_told_and_the_others_are_shown(command: tuple[str, ...], tmp_path: Path) -> None:
    with fleet(tmp_path, away="inventory") as services:
        shown = services.call(*command)
        document = services.call(*command, "--json")

    assert shown.exit_code == document.exit_code == 3
    assert f"Nothing answers at {NOBODY} (the inventory service)" in shown.stdout
    assert "inventory did not answer" in shown.stderr
    assert list(json.loads(document.stdout)["unreachable"]) == ["inventory"]


def test_when_all_are_away_it_is_one_sentence(tmp_path: Path) -> None:
    result = call(tmp_path, "lag", **{f"{name.upper()}_URL": NOBODY for name in SAGA})

    assert result.exit_code == 3
    assert "No service answers" in result.stderr
    assert result.stdout == ""


def test_lag_is_summed_by_topic_and_shown_by_partition_when_asked_for(tmp_path: Path) -> None:
    place = {"consumer": "payment", "topic": "order-events", "committed": 5}
    rows = [{**place, "partition": number, "end": 5 + number, "lag": number} for number in range(4)]
    stuck = {"consumer": "payment", "keys": 2, "retrying": 1, "dead": 1, "held": 7, "oldest": "2026-01-02T03:04:05Z"}
    with fleet(tmp_path, payment={"/ops/lag": rows, "/ops/stuck": [stuck]}) as services:
        summed = services.call("lag").stdout
        detailed = services.call("lag", "--partitions").stdout
        document = json.loads(services.call("lag", "--json").stdout)

    lines = [line.split() for line in summed.splitlines()]
    assert ["payment", "payment", "order-events", "6"] in lines
    assert ["payment", "payment", "2", "1", "1", "7"] in [line[:6] for line in lines]
    assert "orderflow dlt list" in summed
    assert ["payment", "payment", "order-events", "3", "5", "8", "3"] in [
        line.split() for line in detailed.splitlines()
    ]
    assert sum(row["lag"] for row in document["lag"]) == 6
    assert document["stuck"] == [{"service": "payment", **stuck}]


def test_health_tells_what_hinders_a_service_and_what_was_set_on_purpose(tmp_path: Path) -> None:
    outage = "60 of 80 keys of orderflow.OrderPlaced.v1 fail alike \x1b[31m"
    unwell = Says(503, {"ready": False, "problems": {"consumer payment": outage}})
    with fleet(
        tmp_path,
        payment={"/health/ready": unwell, "/ops/stuck": Says(503, {"title": "away"})},
        inventory={"/ops/faults": {"faults": [FAULT], "processes": 1}},
    ) as services:
        shown = services.call("health")
        document = json.loads(services.call("health", "--json").stdout)

    assert shown.exit_code == 1
    assert "consumer payment: 60 of 80 keys" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "fault set: inventory-1: hang at PaymentSucceeded with sku=A, 30% of the keys" in shown.stdout
    assert "orderflow fault clear inventory-1" in shown.stdout
    assert document["healthy"] is False
    assert document["services"]["payment"] == {
        "ready": False,
        "problems": {"consumer payment": outage},
        "stuck": [],
        "faults": [],
    }
    assert document["services"]["inventory"]["faults"] == [{**FAULT, "service": "inventory", "id": "inventory-1"}]


@pytest.mark.parametrize(
    "answers",
    [
        {"/ops/faults": {"faults": [FAULT], "processes": 1}},
        {"/ops/stuck": [{"consumer": "payment", "keys": 1, "retrying": 0, "dead": 1, "held": 0}]},
        {"/health/ready": Says(503, {"ready": False, "problems": {"database": "away"}})},
        {"/health/ready": {"ready": True, "problems": {}, "alarms": {"expired payment": "90 records expired"}}},
        {"/health/ready": {"ready": True, "problems": {}, "alarms": {"refunds": "1 refund refused"}}},
    ],
)
def test_each_of_these_alone_is_wrong(answers: dict[str, object], tmp_path: Path) -> None:
    with fleet(tmp_path, payment=answers) as services:
        assert services.call("health").exit_code == 1


def test_health_tells_what_an_operator_has_to_see_to(tmp_path: Path) -> None:
    alarmed = {"ready": True, "problems": {}, "alarms": {"refunds": "1 refund refused \x1b"}}
    with fleet(tmp_path, payment={"/health/ready": alarmed}) as services:
        shown = services.call("health").stdout

    assert "alarm, refunds: 1 refund refused \\x1b" in shown


def test_health_is_good_when_all_is_well_and_not_when_one_is_away(tmp_path: Path) -> None:
    with fleet(tmp_path) as services:
        well = services.call("health")
    with fleet(tmp_path, away="order") as services:
        away = services.call("health", "--json")

    assert well.exit_code == 0
    assert well.stdout.split() == [word for name in SAGA for word in (name, "ready")]
    assert away.exit_code == 1
    assert list(json.loads(away.stdout)["unreachable"]) == ["order"]


LOSS = {
    "consumer": "payment",
    "topic": "order-events",
    "partition": 3,
    "first_lost": 10,
    "next_kept": 100,
    "count": 90,
    "noticed_at": "2026-01-02T03:04:05Z",
}


def test_an_alarm_is_shown_beside_a_service_that_is_ready(tmp_path: Path) -> None:
    alarm = "90 records expired before payment read them"
    answer = {"ready": True, "problems": {}, "alarms": {"expired payment": alarm}}
    with fleet(tmp_path, payment={"/health/ready": answer}) as services:
        shown = services.call("health").stdout

    assert f"alarm, expired payment: {alarm}" in shown


def test_records_that_expired_unread_are_listed_and_acknowledged_with_a_reason(tmp_path: Path) -> None:
    done = {"consumer": "payment", "records": 90}
    with fleet(tmp_path, payment={"/ops/expired": [LOSS], "POST /ops/expired/payment/acknowledge": done}) as services:
        listed = services.call("expired", "list")
        document = json.loads(services.call("expired", "list", "--json").stdout)
        told = services.call("expired", "acknowledge", "payment", "--reason", "ticket 4711")
        (asked,) = (each for each in services.asked["payment"] if each.method == "POST")
        unknown = services.call("expired", "acknowledge", "notification", "--reason", "ticket 4711")

    assert ["payment", "payment", "order-events", "3", "10", "100", "90"] in [
        line.split()[:7] for line in listed.stdout.splitlines()
    ]
    assert document["expired"] == [{"service": "payment", **LOSS}]
    assert "Acknowledged at payment: 90 lost records of payment." in told.stdout
    assert asked.body == {"reason": "ticket 4711"}
    assert asked.headers["x-orderflow-operator"]
    assert unknown.exit_code == 4


def test_without_a_loss_nothing_is_listed_and_a_reason_is_asked_for(tmp_path: Path) -> None:
    with fleet(tmp_path) as services:
        assert services.call("expired", "list").stdout == "No record expired unread.\n"
        assert services.call("expired", "acknowledge", "payment").exit_code == 2
        assert services.call("expired", "acknowledge", "payment", "--reason", " ").exit_code == 2
