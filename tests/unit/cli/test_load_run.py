"""Placing and following many orders, against an order service in memory behind real sockets."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from orderflow.cli import load
from orderflow.cli.load import LoadOptions, Tally, perform, plan
from tests.support.orders import OrderServer, in_thread
from tests.unit.cli.until import perform_until


def wish(orders: int, **changes: object) -> LoadOptions:
    values: dict[str, object] = {"rate": None, "concurrency": 16, "seed": 1, "timeout_s": 60.0, **changes}
    return LoadOptions(orders=orders, **values)  # type: ignore[arg-type]  # values of the right types, by name


def run(server: OrderServer, asked: LoadOptions) -> Tally:
    """In the main thread, as it is where signals come."""
    with in_thread(server) as url:
        return perform(url, asked, quiet)


def quiet(_: Tally) -> None:
    return None


def lists(server: OrderServer) -> int:
    """How many times one was asked for."""
    return sum("status=" in path for path in server.gets)


def outcomes(tally: Tally) -> Counter[tuple[str | None, str]]:
    return Counter((order.status, order.reason) for order in tally.orders.values())


def expected(server: OrderServer) -> Counter[tuple[str | None, str]]:
    return Counter((order["status"], order["reason"] or "") for order in server.orders.values())


def test_every_order_is_placed_followed_and_its_end_is_known() -> None:
    server = OrderServer(delay_s=0.02)
    tally = run(server, wish(150))

    assert (tally.placed, tally.final, len(tally.final_s)) == (150, 150, 150)
    assert outcomes(tally) == expected(server)
    assert min(tally.final_s) >= 0.02
    assert not tally.errors
    assert not tally.refunds_due()


def test_beyond_the_sample_orders_are_found_final_by_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SAMPLES_MAX", 3)
    monkeypatch.setattr(load, "SAMPLES_PER_S", 0.0)
    server = OrderServer(delay_s=0.3)
    tally = run(server, wish(400))

    assert tally.final == 400
    assert len(tally.final_s) == 3
    assert outcomes(tally) == expected(server)
    assert len([path for path in server.gets if "wait=" in path]) <= 4


def test_an_order_that_is_still_listed_is_not_taken_for_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SAMPLES_MAX", 0)
    server = OrderServer(delay_s=None)
    with in_thread(server) as url:
        tally = perform_until(lambda tally: tally.placed == 130 and lists(server) >= 6)(url, wish(130), quiet)

    assert (tally.placed, tally.final) == (130, 0)
    assert tally.time_is_up
    assert not tally.interrupted


def test_a_service_that_stays_busy_is_asked_until_the_time_is_up() -> None:
    with in_thread(OrderServer(refuse=10**9)) as url:
        tally = perform_until(lambda tally: tally.retries["503"] >= 40)(url, wish(40), quiet)

    assert tally.time_is_up
    assert (tally.placed, tally.asked) == (0, 40)
    assert tally.retries["503"] >= 40


def test_an_order_whose_answer_was_lost_is_asked_again_and_placed_once() -> None:
    server = OrderServer(cut=5)
    tally = run(server, wish(40))

    assert tally.placed == len(server.orders) == 40
    assert server.posts == 45
    assert tally.retries["no answer"] == 5


def test_a_service_that_is_busy_is_asked_again() -> None:
    server = OrderServer(refuse=7)
    tally = run(server, wish(40))

    assert tally.placed == 40
    assert tally.retries["503"] == 7
    assert not tally.errors


def test_at_a_rate_orders_are_sent_at_that_rate() -> None:
    tally = run(OrderServer(), wish(30, rate=60.0))

    due_s = [number / 60 for number in range(30)]
    assert sorted(order.started - tally.began for order in tally.orders.values()) == pytest.approx(due_s)
    assert tally.placing_ended - tally.began >= due_s[-1], "none was sent before its time"


def test_when_nothing_answers_the_run_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PATIENCE_S", 0.1)
    tally = perform("http://127.0.0.1:9", wish(5), quiet)

    assert tally.lost_contact
    assert tally.placed == 0


def test_what_is_refused_is_counted_with_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    server = OrderServer()
    monkeypatch.setattr(server, "_place", lambda key, body: (422, {"title": "no such currency"}))
    tally = run(server, wish(10))

    assert tally.errors.total() == 10
    assert "no such currency" in next(iter(tally.errors))


def test_the_first_interrupt_ends_the_run_in_good_order() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[int] = []

    def told(tally: Tally) -> None:
        seen.append(tally.placed)
        if tally.placed and not tally.interrupted:
            os.kill(os.getpid(), signal.SIGINT)

    with in_thread(OrderServer(delay_s=None)) as url:
        tally = perform(url, wish(100_000), told)

    assert tally.interrupted
    assert 0 < tally.placed < 100_000
    assert signal.getsignal(signal.SIGINT) is before


def test_the_plan_is_made_as_it_is_needed() -> None:
    assert next(plan(10**12, 1)).body
