"""`orderflow payment`, against a server that answers as the payment service does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.shop import Says, shop
from tests.unit.cli.calls import ORDER_ID, call
from tests.unit.cli.orders import problem

SETTLE = ("payment", "settle", ORDER_ID, "--as", "charged", "--reason", "it is booked")
SETTLED: dict[str, Any] = {
    "order_id": ORDER_ID,
    "status": "CAPTURED",
    "captured": 2500,
    "refunded": 0,
    "currency": "EUR",
}
SETTLED |= {"changed": True}


def payment(status: str) -> dict[str, Any]:
    return {
        "order_id": ORDER_ID,
        "customer_id": "ada",
        "currency": "EUR",
        "amount": 2500,
        "payment_method": "pm_card_visa",
        "status": status,
        "captured": 2500 if status in ("CAPTURED", "REFUND_DUE", "REFUND_REFUSED") else 0,
        "refunded": 0,
        "reason": None,
        "charge_reference": "ch_\x1b[31m1" if status == "CAPTURED" else None,
        "refund_reference": None,
        "refund_refusal": "charge_missing\x1b" if status == "REFUND_REFUSED" else None,
        "created_at": "2026-01-02T03:04:05.000Z",
        "changed_at": "2026-01-02T03:04:05.000Z",
    }


def test_showing_a_payment_tells_amounts_and_references_and_what_can_be_done(tmp_path: Path) -> None:
    for status, words in (
        ("CAPTURED", "ch_\\x1b[31m1"),
        ("UNKNOWN", "orderflow payment settle"),
        ("REFUND_DUE", "orderflow payment settle"),
        ("REFUND_REFUSED", "refund refused by the bank: charge_missing\\x1b"),
        ("REFUND_REFUSED", "--as refunded|not-charged|ask-again"),
    ):
        with shop(lambda _, status=status: Says(200, payment(status))) as server:  # type: ignore[misc]
            result = call(tmp_path, "payment", "show", ORDER_ID, PAYMENT_URL=server.url)
        assert result.exit_code == 0, result.stderr
        assert status in result.stdout
        assert "25.00 EUR" in result.stdout
        assert words in result.stdout
        assert "\x1b[31m" not in result.stdout


def test_settling_sends_who_what_and_why(tmp_path: Path) -> None:
    with shop(lambda _: Says(200, SETTLED)) as server:
        shown = call(tmp_path, *SETTLE, "--yes", PAYMENT_URL=server.url)
        as_json = call(tmp_path, *SETTLE, "--yes", "--json", PAYMENT_URL=server.url)

    assert shown.exit_code == 0, shown.stderr
    assert "is CAPTURED, captured 25.00 EUR, refunded 0.00 EUR" in shown.stdout
    assert json.loads(as_json.stdout) == SETTLED
    asked = server.asked[0]
    assert asked.path == f"/payments/{ORDER_ID}/settlement"
    assert asked.body == {"outcome": "charged", "reason": "it is booked", "confirmed": True}
    assert "@" in asked.headers["x-orderflow-operator"]


def test_payments_of_a_state_are_listed_page_by_page(tmp_path: Path) -> None:
    pages = [
        {"payments": [payment("REFUND_REFUSED")] * 100, "next": ORDER_ID},
        {"payments": [payment("REFUND_REFUSED")], "next": None},
    ] * 2
    with shop(lambda _: Says(200, pages.pop(0))) as server:
        shown = call(
            tmp_path, "payment", "list", "--state", "refund_refused", "--limit", "500", PAYMENT_URL=server.url
        )
        document = call(tmp_path, "payment", "list", "--limit", "500", "--json", PAYMENT_URL=server.url)

    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.count("REFUND_REFUSED") == len(json.loads(document.stdout)["payments"]) == 101
    assert "charge_missing\\x1b" in shown.stdout
    queries = [parse_qs(urlsplit(asked.path).query) for asked in server.asked]
    assert queries[0] == {"status": ["REFUND_REFUSED"], "limit": ["100"]}
    assert queries[1] == {"status": ["REFUND_REFUSED"], "limit": ["100"], "cursor": [ORDER_ID]}


def test_where_no_payment_stands_so_the_list_says_so(tmp_path: Path) -> None:
    with shop(lambda _: Says(200, {"payments": [], "next": None})) as server:
        assert call(tmp_path, "payment", "list", PAYMENT_URL=server.url).stdout == "No matching payments.\n"


def test_nothing_is_settled_by_mistake(tmp_path: Path) -> None:
    with shop(lambda _: Says(200, SETTLED)) as server:
        unconfirmed = call(tmp_path, *SETTLE, PAYMENT_URL=server.url)
        no_reason = call(tmp_path, *SETTLE[:-1], " ", "--yes", PAYMENT_URL=server.url)
        no_outcome = call(tmp_path, "payment", "settle", ORDER_ID, "--as", "perhaps", PAYMENT_URL=server.url)

    assert (unconfirmed.exit_code, no_reason.exit_code, no_outcome.exit_code) == (5, 2, 2)
    assert "--yes" in unconfirmed.stderr
    assert "--reason" in no_reason.stderr
    assert server.asked == []


def test_a_refusal_is_told_as_the_service_says_it(tmp_path: Path) -> None:
    with shop(lambda _: problem(409, "the charge is not open any more")) as server:
        result = call(tmp_path, *SETTLE, "--yes", PAYMENT_URL=server.url)

    assert result.exit_code == 5
    assert "the charge is not open any more" in result.stderr
