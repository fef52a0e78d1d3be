"""`dlt`, `outbox` and `lag`: four services side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from orderflow.settings import SERVICES
from tests.support.shop import Asked, Says, shop
from tests.unit.cli.calls import NOBODY, ORDER_ID, call
from tests.unit.cli.orders import problem

LETTER = {
    "position": 3,
    "consumer": "payment",
    "key": ORDER_ID,
    "event_id": ORDER_ID,
    "event_type": "orderflow.OrderPlaced.v1",
    "state": "dead",
    "attempts": 6,
    "kind": "decision",
    "error": "ZeroDivisionError",
    "message": "[red]\x1b[31m" + "x" * 200,
    "fingerprint": "abc",
    "topic": "order-events",
    "partition": 1,
    "offset": 9,
    "parked_at": "2026-01-02T03:04:05Z",
    "first_failed_at": "2026-01-02T03:04:05Z",
    "last_failed_at": "2026-01-02T03:05:05Z",
    "next_attempt_at": "2026-01-02T03:05:05Z",
}
NOTHING: Mapping[str, Any] = {
    "/ops/outbox": {"unsent": 0, "oldest_ms": 0},
    "/ops/lag": [],
    "/ops/parked": [],
    "/ops/dead-letters": {"dead_letters": [], "next": None},
}


class Fleet:
    """`urls` are settings for the command line; a service that is not named answers that it has nothing."""

    def __init__(self, urls: Mapping[str, str], home: Path) -> None:
        self._urls = urls
        self._home = home

    def call(self, *arguments: str) -> Result:
        return call(self._home, *arguments, **self._urls)


@contextmanager
def fleet(home: Path, away: str = "", **answers: Mapping[str, Any]) -> Iterator[Fleet]:
    with ExitStack() as stack:
        urls = {}
        for name in SERVICES:
            known = {**NOTHING, **answers.get(name, {})}

            def answer(asked: Asked, known: Mapping[str, Any] = known) -> Says:
                found = known.get(asked.path.partition("?")[0])
                return problem(404, "there is none") if found is None else Says(200, found)

            urls[f"{name.upper()}_URL"] = NOBODY if name == away else stack.enter_context(shop(answer)).url
        yield Fleet(urls, home)


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
    result = call(tmp_path, "lag", **{f"{name.upper()}_URL": NOBODY for name in SERVICES})

    assert result.exit_code == 3
    assert "None of the services answers" in result.stderr
    assert result.stdout == ""


def test_lag_is_summed_by_topic_and_shown_by_partition_when_asked_for(tmp_path: Path) -> None:
    place = {"consumer": "payment", "topic": "order-events", "committed": 5}
    rows = [{**place, "partition": number, "end": 5 + number, "lag": number} for number in range(4)]
    stuck = {"consumer": "payment", "keys": 2, "retrying": 1, "dead": 1, "held": 7, "oldest": "2026-01-02T03:04:05Z"}
    with fleet(tmp_path, payment={"/ops/lag": rows, "/ops/parked": [stuck]}) as services:
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


def test_dead_letters_are_listed_with_their_reason_made_harmless(tmp_path: Path) -> None:
    with fleet(tmp_path, payment={"/ops/dead-letters": {"dead_letters": [LETTER], "next": None}}) as services:
        shown = services.call("dlt", "list").stdout
        document = json.loads(services.call("dlt", "list", "--service", "payment", "--json").stdout)

    assert "decision: ZeroDivisionError: [red]\\x1b[31m" in shown
    assert "\x1b" not in shown
    assert document["dead_letters"] == [{"service": "payment", **LETTER}]


def test_no_dead_letters_is_said(tmp_path: Path) -> None:
    with fleet(tmp_path) as services:
        assert services.call("dlt", "list").stdout == "No dead letters.\n"


def test_a_dead_letter_is_shown_with_its_record_by_whoever_holds_it(tmp_path: Path) -> None:
    value = {"text": '{"total": 5}', "base64": None}
    header = ["ce_type", {"text": "orderflow.OrderPlaced.v1", "base64": None}]
    broken = ["x", {"text": None, "base64": "/w=="}]
    details = {"letter": LETTER, "value": value, "headers": [header, broken]}
    path = f"/ops/dead-letters/{ORDER_ID}"
    with fleet(tmp_path, payment={path: details}, order={path: details}) as services:
        shown = services.call("dlt", "show", ORDER_ID)
        document = json.loads(services.call("dlt", "show", ORDER_ID, "--json").stdout)

    assert shown.exit_code == 0, shown.stderr
    for words in ("consumer payment", "order-events/1@9", '"total": 5', "base64 /w==", "attempts"):
        assert words in shown.stdout
    assert [letter["service"] for letter in document["letters"]] == ["order", "payment"]


def test_an_event_that_nobody_holds_is_not_found_only_when_all_were_asked(tmp_path: Path) -> None:
    with fleet(tmp_path) as services:
        assert services.call("dlt", "show", ORDER_ID).exit_code == 4
    with fleet(tmp_path, away="order") as services:
        assert services.call("dlt", "show", ORDER_ID).exit_code == 3


def test_a_position_needs_its_service(tmp_path: Path) -> None:
    with fleet(
        tmp_path,
        payment={"/ops/dead-letters/3": {"letter": LETTER, "value": {"text": None, "base64": None}, "headers": []}},
    ) as services:
        assert services.call("dlt", "show", "3").exit_code == 2
        assert services.call("dlt", "show", "3", "--service", "payment").exit_code == 0
