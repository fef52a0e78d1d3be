"""`orderflow order`, against a server that answers as the order service does."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from orderflow.cli import order as orders
from orderflow.cli.http import ServiceClient
from tests.support.shop import Asked, Says, shop
from tests.unit.cli.calls import NOBODY, ORDER_ID, call
from tests.unit.cli.orders import Life, failed, order, problem


@pytest.fixture(autouse=True)
def time_passes_where_one_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nowhere else. The server of these tests never holds an answer."""
    slept_s: list[float] = []
    monkeypatch.setattr(orders, "time", SimpleNamespace(monotonic=lambda: sum(slept_s)))
    monkeypatch.setattr(orders, "pause", slept_s.append)
    monkeypatch.setattr(orders, "HELD_S", 30.0)


def test_placing_sends_what_was_asked_for_and_shows_the_order(tmp_path: Path) -> None:
    with shop(lambda _: Says(201, order(1))) as server:
        asked_for = ("--customer", "ada", "--item", "SKU-A:2:1250", "--item", "SKU-B:1:5", "--currency", "USD")
        result = call(tmp_path, "order", "place", *asked_for, "--idempotency-key", "cart 1", ORDER_URL=server.url)

    assert result.exit_code == 0, result.stderr
    assert ORDER_ID in result.stdout
    assert "25.00 EUR" in result.stdout
    assert server.asked[0].headers["idempotency-key"] == '"cart 1"'
    assert server.asked[0].body == {
        "customer_id": "ada",
        "currency": "USD",
        "items": [
            {"sku": "SKU-A", "quantity": 2, "unit_price": 1250},
            {"sku": "SKU-B", "quantity": 1, "unit_price": 5},
        ],
        "payment_method": "pm_card_visa",
    }


def test_placing_without_options_makes_up_a_key_of_its_own_each_time(tmp_path: Path) -> None:
    with shop(lambda _: Says(201, order(1))) as server:
        for _ in range(2):
            assert call(tmp_path, "order", "place", ORDER_URL=server.url).exit_code == 0

    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


def test_an_order_that_was_placed_before_is_said_to_be(tmp_path: Path) -> None:
    with shop(lambda _: Says(201, order(1), {"idempotency-replayed": "true"})) as server:
        shown = call(tmp_path, "order", "place", "--json", ORDER_URL=server.url)

    assert json.loads(shown.stdout)["replayed"] is True


@pytest.mark.parametrize(
    ("end", "code"),
    [(order(3), 0), (failed("done"), 1), (order(2), 6), (failed("due"), 6)],
    ids=["completed", "refunded", "unfinished", "refund due"],
)
def test_the_exit_code_says_how_an_order_that_was_waited_for_ended(
    end: dict[str, Any], code: int, tmp_path: Path
) -> None:
    with shop(Life(order(1), end)) as server:
        result = call(tmp_path, "order", "place", "--wait", "60", "--json", ORDER_URL=server.url)

    assert result.exit_code == code, result.stderr
    assert json.loads(result.stdout)["status"] == end["status"]


def test_an_answer_that_is_lost_is_told_with_the_key_to_ask_again(tmp_path: Path) -> None:
    with shop(lambda _: Says(0)) as server:
        result = call(tmp_path, "order", "place", "--idempotency-key", "cart-1", ORDER_URL=server.url)

    assert result.exit_code == 3
    assert "may or may not have been placed" in result.stderr
    assert "--idempotency-key cart-1" in result.stderr


def test_a_refusal_names_the_field(tmp_path: Path) -> None:
    errors = [{"pointer": "/items/0/quantity", "detail": "expected a whole number of at least 1"}]
    with shop(lambda _: problem(422, "the order does not fit", errors=errors)) as server:
        result = call(tmp_path, "order", "place", "--item", "SKU-A:0:1", ORDER_URL=server.url)

    assert result.exit_code == 5
    assert "/items/0/quantity: expected a whole number of at least 1" in result.stderr


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        (problem(404, "there is no order"), 4, "there is no order"),
        (problem(503, "the database cannot be reached"), 3, "Try again in 2 s."),
        (problem(500, "the request hit a bug"), 1, "orderflow logs order"),
        (Says(200, b"<html>hello</html>"), 3, "is not the order service"),
        (Says(404, b"<html>not here</html>"), 3, "is not the order service"),
        (Says(0), 3, "broke before it answered"),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(says: Says, code: int, words: str, tmp_path: Path) -> None:
    with shop(lambda _: says) as server:
        result = call(tmp_path, "order", "show", ORDER_ID, ORDER_URL=server.url)

    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_showing_an_order_tells_its_history_its_refund_and_where_it_is_stuck(tmp_path: Path) -> None:
    obstacle = {
        "state": "dead",
        "event_type": "orderflow.StockRejected",
        "event_id": ORDER_ID,
        "error": "Boom [red]\x1b[31m",
        "attempts": 6,
    }
    stuck = failed("due") | {"stuck": {"payment": obstacle}, "stuck_since": "2026-01-02T03:04:06Z"}
    with shop(lambda _: Says(200, stuck)) as server:
        result = call(tmp_path, "order", "show", ORDER_ID, ORDER_URL=server.url)

    for words in ("out_of_stock", "refund due", "PaymentSucceeded", "+50 ms", "Stuck at payment", "after 6 attempts"):
        assert words in result.stdout
    assert "Boom [red]\\x1b[31m" in result.stdout
    assert f"orderflow dlt show {ORDER_ID}" in result.stdout


def test_showing_an_order_tells_each_step_of_its_refund_with_its_cause(tmp_path: Path) -> None:
    found = failed("due", "refused")
    found["history"][-1]["reason"] = "charge_missing\x1b"
    with shop(lambda _: Says(200, found)) as server:
        result = call(tmp_path, "order", "show", ORDER_ID, ORDER_URL=server.url)

    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["refund", "refused", "RefundFailed", "(charge_missing\\x1b)", ORDER_ID] in [line[-5:] for line in lines]
    assert ["refund", "due", "StockRejected", ORDER_ID] in [line[-4:] for line in lines]
    assert "the bank refuses the refund" in result.stdout
    assert f"orderflow payment show {ORDER_ID}" in result.stdout


def test_an_order_that_is_not_final_says_what_it_waits_for(tmp_path: Path) -> None:
    with shop(lambda _: Says(200, order(2))) as server:
        result = call(tmp_path, "order", "show", ORDER_ID, ORDER_URL=server.url)

    assert "Waits for the inventory service" in result.stdout


def test_watching_tells_each_step_once_and_ends_with_the_order(tmp_path: Path) -> None:
    with shop(Life(order(1), order(2), order(2), order(3))) as server:
        result = call(tmp_path, "order", "watch", ORDER_ID, "--json", ORDER_URL=server.url)

    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["PENDING", "PAID", "COMPLETED"]


def test_watching_goes_on_until_the_refund_is_done_and_over_a_restart(tmp_path: Path) -> None:
    lives = [failed("due"), failed("due", "done")]
    answers = [Says(200, order(1)), Says(0), *(Says(200, each) for each in lives)]
    with shop(lambda _: answers.pop(0)) as server:
        result = call(tmp_path, "order", "watch", ORDER_ID, ORDER_URL=server.url)

    assert result.exit_code == 1, result.stderr
    for words in ("does not answer", "FAILED", "(out_of_stock)", "refund due", "refund done"):
        assert result.stdout.count(words) == 1


@pytest.mark.parametrize("command", [("watch", ORDER_ID), ("place", "--wait", "3600")])
def test_a_refund_that_the_bank_refuses_ends_the_wait_and_says_who_goes_on(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    answers = [Says(200, order(1)), Says(200, failed("due")), Says(200, failed("due", "refused"))]
    with shop(lambda _: answers.pop(0) if len(answers) > 1 else answers[0]) as server:
        result = call(tmp_path, "order", *command, ORDER_URL=server.url)

    assert result.exit_code == 1
    assert "refund refused" in result.stdout
    assert "the bank refuses its refund: an operator has to settle it" in result.stderr
    assert f"orderflow payment show {ORDER_ID}" in result.stderr


def stuck_at(consumer: str, state: str) -> dict[str, Any]:
    obstacle = {"state": state, "event_type": "orderflow.OrderPlaced", "event_id": ORDER_ID, "error": "Boom"}
    return {"stuck": {consumer: obstacle | {"attempts": 6}}, "stuck_since": "2026-01-02T03:04:06Z"}


def test_waiting_ends_with_what_was_given_up_and_what_to_do(tmp_path: Path) -> None:
    with shop(Life(order(1), order(1), order(1, **stuck_at("payment", "dead")))) as server:
        home = ("--home", str(tmp_path))
        (tmp_path / "orderflow.toml").touch()
        result = call(tmp_path, "order", "place", "--wait", "3600", *home, ORDER_URL=server.url)

    assert result.exit_code == 1
    assert "is PENDING and stuck: orderflow.OrderPlaced was given up" in result.stderr
    assert f"orderflow order explain {ORDER_ID} --home {tmp_path}" in result.stderr
    assert f"orderflow dlt replay {ORDER_ID} --home {tmp_path}" in result.stderr


@pytest.mark.parametrize(("consumer", "state"), [("payment", "parked"), ("notification", "dead")])
def test_waiting_goes_on_past_what_may_still_end_the_order(consumer: str, state: str, tmp_path: Path) -> None:
    with shop(Life(order(1), order(1, **stuck_at(consumer, state)), order(3))) as server:
        result = call(tmp_path, "order", "place", "--wait", "3600", ORDER_URL=server.url)

    assert result.exit_code == 0, result.stderr


def test_watching_an_order_that_never_ends_stops_in_time(tmp_path: Path) -> None:
    with shop(lambda _: Says(200, order(2))) as server:
        result = call(tmp_path, "order", "watch", ORDER_ID, "--timeout", "60", ORDER_URL=server.url)

    assert result.exit_code == 6
    assert "is PAID after 60 s" in result.stderr


def test_a_list_is_read_page_by_page_up_to_the_limit(tmp_path: Path) -> None:
    def page(asked: Asked) -> Says:
        query = parse_qs(urlsplit(asked.path).query)
        following = None if query.get("cursor") == ["c2"] else ("c2" if "cursor" in query else "c1")
        return Says(200, {"orders": [order(3)] * int(query["limit"][0]), "next": following})

    with shop(page) as server:
        result = call(
            tmp_path, "order", "list", "--status", "failed", "--limit", "250", "--json", ORDER_URL=server.url
        )

    assert len(json.loads(result.stdout)["orders"]) == 250
    queries = [parse_qs(urlsplit(asked.path).query) for asked in server.asked]
    assert [query["limit"] for query in queries] == [["100"], ["100"], ["50"]]
    assert [query["status"] for query in queries] == [["FAILED"]] * 3
    assert [query.get("cursor") for query in queries] == [None, ["c1"], ["c2"]]


def test_an_empty_list_says_so(tmp_path: Path) -> None:
    with shop(lambda _: Says(200, {"orders": [], "next": None})) as server:
        assert call(tmp_path, "order", "list", ORDER_URL=server.url).stdout == "No matching orders.\n"


def test_a_proxy_of_the_surroundings_is_not_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    with shop(lambda _: Says(200, order(3))) as server:
        assert call(tmp_path, "order", "show", ORDER_ID, ORDER_URL=server.url).exit_code == 0


def test_a_proxy_of_the_surroundings_is_asked_for_the_world_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop(lambda _: Says(200, order(3))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://ada:s%40cret@"))
        shown = call(tmp_path, "order", "show", ORDER_ID, ORDER_URL="http://orders.example:81/shop")

    assert shown.exit_code == 0
    (asked,) = proxy.asked
    assert asked.path == f"http://orders.example:81/shop/orders/{ORDER_ID}"
    assert asked.headers["host"] == "orders.example:81"
    assert asked.headers["proxy-authorization"] == "Basic YWRhOnNAY3JldA=="


def test_a_connection_that_the_service_closes_is_opened_anew() -> None:
    with (
        shop(lambda _: Says(200, {}, {"Connection": "close"})) as server,
        ServiceClient("order", server.url) as client,
    ):
        assert [client.get("/orders") for _ in range(3)] == [{}, {}, {}]
