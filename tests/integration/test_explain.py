"""`orderflow order explain` and `stuck` on a whole system in which something is really wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import pytest

from orderflow.cli.session import as_running
from orderflow.settings import Settings
from tests.e2e.shop import order_of
from tests.support.command_line import System, running
from tests.support.waiting import eventually

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("explain") / "home", "--game-day", retry_first_ms=100) as started:
        assert started.call("order", "place", "--wait", "100").returncode == 0
        yield started


def place(system: System, *options: str) -> str:
    placed: str = system.ask("order", "place", *options)["id"]
    return placed


def explained(system: System, order_id: str) -> dict[str, Any]:
    done = system.call("order", "explain", order_id, "--json")
    assert done.returncode in {0, 1}, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(found["causes"])
    return found


async def first_cause(system: System, order_id: str, kind: str) -> dict[str, Any]:
    """As soon as it is of this kind. What is told first on the way there must not be another certain one."""

    def look() -> dict[str, Any]:
        found: list[dict[str, Any]] = explained(system, order_id)["causes"]
        return found[0] if found and found[0]["kind"] == kind else {}

    return await eventually(lambda: asyncio.to_thread(look), timeout_s=DEADLINE_S, every_s=0.5)


async def ended(system: System, order_id: str) -> str:
    watched = await asyncio.to_thread(system.call, "order", "watch", order_id, "--timeout", str(DEADLINE_S))
    assert watched.returncode in {0, 1}, watched.stderr
    return str(system.ask("order", "show", order_id)["status"])


@contextmanager
def frozen(system: System, service: str) -> Iterator[None]:
    pid = next(each["pid"] for each in system.ask("status")["processes"] if each["name"] == service)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def fault(system: System, *options: str) -> Iterator[None]:
    added = system.call("fault", "add", *options)
    assert added.returncode == 0, added.stderr
    try:
        yield
    finally:
        system.call("fault", "clear", "--all")


async def test_of_an_order_that_has_ended_nothing_is_expected(system: System) -> None:
    order_id = place(system)
    assert await ended(system, order_id) == "COMPLETED"
    found = explained(system, order_id)

    assert (found["expected"], found["causes"]) == ("", [])
    happened = [mark["what"] for mark in found["timeline"]]
    assert happened[0] == "PENDING, by OrderPlaced"
    assert "payment handled: OrderPlaced" in happened
    assert "COMPLETED, by StockReserved" in happened


async def test_the_trace_is_the_one_that_the_shop_began(system: System) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    url = as_running(Settings.load(environ=system.environment)).service_url("order")
    headers = {"idempotency-key": '"traced"', "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    async with httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S) as shop:
        order = order_of("SKU-ESPRESSO-CUP", 1, "pm_card_visa", "ada")
        placed = await shop.post(f"{url}/orders", json=order, headers=headers)
    order_id = str(placed.json()["id"])
    assert await ended(system, order_id) == "COMPLETED"

    assert explained(system, order_id)["trace_id"] == trace_id
    assert f"Trace {trace_id}\n" in system.call("order", "explain", order_id).stdout


@pytest.mark.parametrize(("service", "event"), [("payment", "OrderPlaced"), ("inventory", "PaymentSucceeded")])
async def test_a_frozen_service_is_the_cause(system: System, service: str, event: str) -> None:
    with frozen(system, service):
        order_id = place(system)
        cause = await first_cause(system, order_id, "service-silent")
        found = explained(system, order_id)
        grouped = json.loads(system.call("stuck", "--json").stdout)["groups"]

    assert cause["service"] == service
    assert found["owner"] == service
    assert found["expected"] == f"the {service} service to handle {event}"
    assert order_id in next(group["orders"] for group in grouped if group["cause"]["service"] == service)
    assert await ended(system, order_id) == "COMPLETED"


async def test_a_decision_that_fails_is_the_cause_while_it_is_tried_and_when_it_is_given_up(system: System) -> None:
    with fault(system, "payment", "--event", "OrderPlaced", "--match", "total=1302", "--error", "permanent"):
        order_id = place(system, "--item", "SKU-ESPRESSO-CUP:1:1302")
        given_up = await first_cause(system, order_id, "dead")

    assert given_up["service"] == "payment"
    assert given_up["command"].startswith("orderflow dlt show ")
    assert "payment parked: OrderPlaced" in [mark["what"] for mark in explained(system, order_id)["timeline"]]
    assert system.call("dlt", "replay", "--all", "--yes", "--reason", "the fault is out").returncode == 0
    assert await ended(system, order_id) == "COMPLETED"


async def test_a_refund_that_the_bank_refuses_is_the_cause(system: System) -> None:
    order_id = place(system, "--payment-method", "pm_card_refundFail", "--item", "SKU-SOLD-OUT:1:500")
    cause = await first_cause(system, order_id, "refund-refused")

    assert cause["service"] == "payment"
    assert cause["command"] == f"orderflow payment show {order_id}"


async def test_none_is_named_on_a_system_that_is_busy_and_well(system: System) -> None:
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderflow", "demo", "--orders", "150", env=system.environment, stdout=DEVNULL
    )
    named: list[Any] = []
    while demo.returncode is None:
        listed = (await asyncio.to_thread(system.ask, "order", "list", "--limit", "20"))["orders"]
        for order in listed[::5]:
            if order["refund"] != "refused":
                named += (await asyncio.to_thread(explained, system, order["id"]))["causes"]
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await demo.wait()

    assert [cause for cause in named if cause["kind"] not in {"behind", "bank-slow", "bank-unknown", "unsent"}] == []
