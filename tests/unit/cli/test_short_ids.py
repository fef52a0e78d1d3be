"""Short ids: what every command shows on a narrow terminal, every command takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orderflow.cli.values import digits, ends_with, short
from tests.support.shop import Asked
from tests.unit.cli.calls import ORDER_ID
from tests.unit.cli.fleet import Fleet, fleet
from tests.unit.cli.orders import order
from tests.unit.cli.test_dlt import DETAILS

EVENT_ID = "8ec9495d-610d-5954-a202-3d44caf9480b"
DIGITS_ONLY = "8ec9495d-610d-5954-a202-3d4412345678"
REASON = ("--yes", "--reason", "r")
PAYMENT = {
    "order_id": ORDER_ID,
    "status": "CAPTURED",
    "amount": 5,
    "captured": 5,
    "refunded": 0,
    "currency": "EUR",
    "payment_method": "pm_card_visa",
    "customer_id": "ada",
    "changed_at": "2026-01-02T03:04:05Z",
    "changed": True,
}
SETTLE = ("payment", "settle", "456789ab", "--as", "charged", *REASON)
PUBLISHED = [{"topic": "order-events", "count": 1, "oldest": None, "newest": None}]


def shop(home: Path, **more: Any) -> Any:
    """Four services that know one order and one event."""
    known = {f"/ops/dead-letters/{EVENT_ID}": DETAILS, f"/ops/event-ids/{EVENT_ID[-8:]}": [EVENT_ID]}
    return fleet(
        home,
        order={
            "/orders": {"orders": [order()], "next": None},
            f"/orders/{ORDER_ID}": order(),
            **more.get("order", {}),
        },
        payment={
            **known,
            f"/payments/{ORDER_ID}": PAYMENT,
            f"POST /payments/{ORDER_ID}/settlement": PAYMENT,
            "POST /ops/rehearsals": [],
            "/ops/outbox/published": PUBLISHED,
            **more.get("payment", {}),
        },
    )


def asked(services: Fleet, service: str) -> list[Asked]:
    return [each for each in services.asked[service] if "id_ends" not in each.path and "event-ids" not in each.path]


def test_the_end_of_an_id_is_short_for_it() -> None:
    assert (short(ORDER_ID), short("not an id"), short("")) == ("456789ab", "not an id", "")
    assert digits("456789AB") == digits("...456789ab") == "456789ab"
    assert digits("0123-456789ab") == "0123456789ab"
    assert [digits(words) for words in ("45678", "456789xy", "", ORDER_ID)] == [None, None, None, None]
    assert ends_with(ORDER_ID, "0123456789ab")


@pytest.mark.parametrize(
    "words",
    [
        ("order", "show", "456789ab"),
        ("order", "watch", "0123-456789AB"),
        ("payment", "show", "456789ab"),
        SETTLE,
        ("dlt", "list", "--order", "456789ab"),
        ("outbox", "republish", "--order", "456789ab", "--rehearse"),
    ],
    ids=" ".join,
)
def test_a_command_takes_a_short_id_of_an_order(words: tuple[str, ...], tmp_path: Path) -> None:
    with shop(tmp_path) as services:
        shown = services.call(*words)
        requests = [each for name in services.asked for each in asked(services, name)]

    assert shown.exit_code == 0, shown.stderr
    assert any(ORDER_ID in each.path for each in requests)
    assert not any(each.path.rstrip("/").endswith("/456789ab") for each in requests)


@pytest.mark.parametrize(
    "words",
    [("dlt", "show", "caf9480b"), ("dlt", "rehearse", "caf9480b"), ("dlt", "discard", "caf9480b", *REASON)],
    ids=" ".join,
)
def test_a_command_takes_a_short_id_of_an_event(words: tuple[str, ...], tmp_path: Path) -> None:
    with shop(tmp_path, payment={"POST /ops/dead-letters/3/discard": {}}) as services:
        shown = services.call(*words)
        requests = asked(services, "payment")

    assert shown.exit_code == 0, shown.stderr
    assert any(EVENT_ID in each.path or EVENT_ID in json.dumps(each.body) for each in requests)


def test_a_short_id_of_digits_alone_is_no_position(tmp_path: Path) -> None:
    known = {"/ops/event-ids/12345678": [DIGITS_ONLY], f"/ops/dead-letters/{DIGITS_ONLY}": DETAILS}
    with shop(tmp_path, payment=known) as services:
        assert services.call("dlt", "show", "12345678").exit_code == 0
        assert services.call("dlt", "show", "1234567").exit_code == 2


def test_what_could_mean_several_is_refused_with_all_of_them(tmp_path: Path) -> None:
    other = ORDER_ID.replace("7000", "7001", 1)
    both = {"orders": [order(), order(id=other)], "next": None}
    with shop(tmp_path, order={"/orders": both}) as services:
        shown = services.call("order", "show", "456789ab")

    assert shown.exit_code == 2
    assert ORDER_ID in shown.stderr
    assert other in shown.stderr


def test_what_means_nothing_is_not_found(tmp_path: Path) -> None:
    with shop(tmp_path, order={"/orders": {"orders": [], "next": None}}) as services:
        unknown = services.call("order", "show", "456789ab")
    with fleet(tmp_path, **{name: {"/ops/event-ids/caf9480b": []} for name in ("order", "payment")}) as services:  # type: ignore[arg-type]
        event = services.call("dlt", "show", "caf9480b")

    assert (unknown.exit_code, event.exit_code) == (4, 4)
    assert "No order has an id that ends with 456789ab" in unknown.stderr
    assert "No event has an id that ends with caf9480b" in event.stderr
