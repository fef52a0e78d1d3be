"""The audit over real databases, after orders went all the way through all four services."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from orderflow.audit.collect import opened
from orderflow.audit.findings import Promise, Report
from orderflow.audit.live import audit
from orderflow.cli import main
from orderflow.core import postgres_log
from orderflow.core.store import StoreUnavailableError
from tests.support.damage import unguarded
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases, running
from tests.support.waiting import eventually

ONE_MORE = "UPDATE stock SET on_hand = on_hand + 1 WHERE sku = 'SKU-MILK-JUG'"
ONE_LESS = "UPDATE stock SET on_hand = on_hand - 1 WHERE sku = 'SKU-MILK-JUG'"
METHODS = ("pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined")


@pytest.fixture(scope="module")
def books(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Four orders at their end: two completed, one declined, one out of stock and refunded. Nothing runs any more."""
    with databases(postgres, *SERVICES) as made:
        asyncio.run(_trade(made, tmp_path_factory.mktemp("audit")))
        yield made


async def _trade(made: Databases, home: Path) -> None:
    await made.migrate()
    async with AsyncExitStack() as stack:
        shops = {name: await stack.enter_async_context(running(name, made, home)) for name in SERVICES}
        for method, sku in (*((method, "SKU-MILK-JUG") for method in METHODS), ("pm_card_visa", "SKU-SOLD-OUT")):
            items = [{"sku": sku, "quantity": 2, "unit_price": 1250}]
            order = {"customer_id": "c", "currency": "EUR", "items": items, "payment_method": method}
            placed = await shops["order"].post("/orders", json=order)
            await shops["order"].get(placed.headers["location"], params={"wait": 30})
        report = await look(made, wait_s=30)
        assert report.at_rest


async def look(made: Databases, wait_s: float = 5.0, accepted: tuple[str, ...] = ()) -> Report:
    transport = await postgres_log.PostgresLogTransport.connect(made.urls["log"])
    try:
        return await audit(made.urls, transport, wait_s=wait_s, accepted=accepted)
    finally:
        await transport.close()


async def test_books_of_real_services_are_in_order(books: Databases) -> None:
    report = await look(books)
    assert (report.at_rest, report.count, report.findings) == (True, 0, [])
    assert report.orders == 4
    assert report.statuses == {"COMPLETED": 2, "FAILED": 2}


async def test_a_session_that_is_lost_within_the_snapshots_is_a_database_that_is_away(books: Databases) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orderflow audit'"
    with pytest.raises(StoreUnavailableError):
        async with opened(books.urls) as read, read.snapshots():
            await unguarded(books.urls["payment"], f"{end} AND datname = current_database()")


async def test_an_accepted_order_that_is_nowhere_is_lost(books: Databases) -> None:
    [finding] = (await look(books, accepted=("00000000-0000-7000-8000-000000000000",))).findings
    assert finding.promise is Promise.NOTHING_LOST


DOUBLE_CHARGE = """
INSERT INTO bank_charges
SELECT key || '?', order_id, amount, currency, payment_method, decline_code, reference
FROM bank_charges WHERE decline_code IS NULL
"""
HOLD_BEHIND_NOTHING = """
INSERT INTO parked_events (key, consumer, identity, event_id, event_type, topic, partition, "offset",
    record_headers, record_timestamp, state, attempts, next_attempt_at)
SELECT key, consumer, identity, event_id, 'orderflow.PaymentSucceeded.v1', 'payment-status', 0, 0, '', 0, 2, 0, now()
FROM processed_events WHERE consumer = 'inventory'
"""
UNSENT = (
    """INSERT INTO outbox (id, segment, slot, topic, headers, event_id)
    VALUES (999999, 0, 0, 'order-events', '\\x90', gen_random_uuid())""",
    "INSERT INTO outbox_pending (id, segment, slot) VALUES (999999, 0, 0)",
)
SENT = ("DELETE FROM outbox_pending WHERE id = 999999", "DELETE FROM outbox WHERE id = 999999")
BREAKS: dict[str, tuple[Promise, str, tuple[str, ...], tuple[str, ...]]] = {
    "an order goes back": (
        Promise.NOTHING_LOST,
        "order",
        ("UPDATE orders SET status = 'PAID' WHERE status = 'COMPLETED'",),
        ("UPDATE orders SET status = 'COMPLETED' WHERE status = 'PAID'",),
    ),
    "the bank charges twice": (
        Promise.NOTHING_TWICE,
        "bank",
        (DOUBLE_CHARGE,),
        ("DELETE FROM bank_charges WHERE key LIKE '%?'",),
    ),
    "a step of the history is lost": (
        Promise.NOTHING_ILLEGAL,
        "order",
        ("CREATE TABLE kept AS SELECT * FROM order_history", "DELETE FROM order_history WHERE version = 2"),
        ("INSERT INTO order_history SELECT * FROM kept WHERE version = 2", "DROP TABLE kept"),
    ),
    "an event is held behind nothing": (
        Promise.NOTHING_BLOCKED,
        "inventory",
        (HOLD_BEHIND_NOTHING,),
        ("DELETE FROM parked_events",),
    ),
    "stock vanishes": (
        Promise.BOOKS_BALANCE,
        "inventory",
        (ONE_LESS,),
        (ONE_MORE,),
    ),
    "a customer was not told": (
        Promise.BOOKS_BALANCE,
        "notification",
        ("CREATE TABLE kept AS SELECT * FROM notifications", "DELETE FROM notifications WHERE outcome = 'refunded'"),
        ("INSERT INTO notifications SELECT * FROM kept WHERE outcome = 'refunded'", "DROP TABLE kept"),
    ),
    "a payment is of nobody": (
        Promise.BOOKS_BALANCE,
        "payment",
        (
            "CREATE TABLE kept AS SELECT order_id FROM payments WHERE status = 'DECLINED'",
            "UPDATE payments SET order_id = 'ffffffff-0000-7000-8000-000000000000' WHERE status = 'DECLINED'",
        ),
        (
            "UPDATE payments SET order_id = kept.order_id FROM kept WHERE status = 'DECLINED'",
            "DROP TABLE kept",
        ),
    ),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_books_that_were_broken_are_found_out(books: Databases, name: str) -> None:
    promise, database, breaking, mending = BREAKS[name]
    await unguarded(books.urls[database], *breaking)
    try:
        report = await look(books)
        assert report.at_rest
        assert promise in {finding.promise for finding in report.findings}, report.findings
    finally:
        await unguarded(books.urls[database], *mending)


async def test_what_is_under_way_is_no_finding_but_no_rest_either(books: Databases) -> None:
    await unguarded(books.urls["order"], *UNSENT)
    try:
        report = await look(books, wait_s=0.0)
        assert not report.at_rest
        assert not [finding for finding in report.findings if finding.promise is Promise.NOTHING_LOST]
    finally:
        await unguarded(books.urls["order"], *SENT)


def test_the_command_tells_people_and_programs_and_ends_with_an_exit_code(books: Databases, tmp_path: Path) -> None:
    environment = {f"ORDERFLOW_{name.upper()}_DATABASE_URL": url for name, url in books.urls.items()}
    (tmp_path / "orderflow.toml").touch()

    def command(*arguments: str) -> tuple[int, str]:
        given = ["audit", "--home", str(tmp_path), *arguments]
        result = CliRunner().invoke(main, given, env=environment, catch_exceptions=True)
        return result.exit_code, result.stdout

    asyncio.run(unguarded(books.urls["inventory"], ONE_MORE))
    code, shown = command("--json", "--wait", "60")
    document: dict[str, Any] = json.loads(shown)
    assert code == 1
    assert document["kept"] is False
    assert {finding["subject"] for finding in document["findings"]} >= {"SKU-MILK-JUG"}
    code, shown = command("--wait", "60")
    assert code == 1
    assert "5. the books balance: NOT KEPT" in shown
    assert "1. nothing is lost: kept" in shown
    asyncio.run(unguarded(books.urls["order"], *UNSENT))
    asyncio.run(unguarded(books.urls["inventory"], ONE_LESS))
    assert command("--wait", "0")[0] == 6


async def test_watching_tells_what_is_new_and_what_is_gone(books: Databases, tmp_path: Path) -> None:
    environment = {f"ORDERFLOW_{name.upper()}_DATABASE_URL": url for name, url in books.urls.items()}
    (tmp_path / "orderflow.toml").touch()
    command = (sys.executable, "-m", "orderflow", "audit", "--watch", "0.1", "--json", "--home", str(tmp_path))
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment, stdout=subprocess.PIPE)
    assert process.stdout is not None

    async def told(what: str) -> list[str]:
        """The kinds of the next look that tells something of this."""
        assert process.stdout is not None
        while True:
            line = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
            if line[what]:
                return [finding["kind"] for finding in line[what]]

    try:
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        await unguarded(books.urls["inventory"], ONE_MORE)
        new = await told("new")
        await unguarded(books.urls["inventory"], ONE_LESS)
        gone = await told("gone")
        process.send_signal(signal.SIGINT)
        ended = await asyncio.wait_for(process.wait(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert (first["orders"], first["count"], first["new"]) == (4, 0, [])
    assert new == gone == ["stock-unbalanced"]
    assert ended == 0


async def test_books_balance_after_a_settlement_and_the_audit_says_where_the_bank_has_it_otherwise(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with databases(postgres, *SERVICES) as made:
        await made.migrate()
        async with AsyncExitStack() as stack:
            shops = await all_running(stack, made, tmp_path)
            items = [{"sku": "SKU-MILK-JUG", "quantity": 1, "unit_price": 700}]
            order = {"customer_id": "c", "currency": "EUR", "items": items, "payment_method": "pm_timeout_charged"}
            placed = (await shops["order"].post("/orders", json=order)).json()["id"]
            charges = f"SELECT count(*) FROM bank_charges WHERE order_id = '{placed}'"
            database = made.urls["bank"].rpartition("/")[2]
            await eventually(lambda: postgres.execute(charges, database) == "1")
            await settle(shops["payment"], placed, "charged")
            ended = await shops["order"].get(f"/orders/{placed}", params={"wait": 30})
            assert ended.json()["status"] == "COMPLETED"
            report = await look(made, wait_s=30, accepted=(placed,))
            assert (report.at_rest, report.findings) == (True, [])
        await unguarded(made.urls["bank"], "DELETE FROM bank_charges")
        words = [finding.what for finding in (await look(made)).findings]
    assert "an operator settled the charge, and the bank's book says otherwise" in words


ORDER = {"customer_id": "c", "currency": "EUR", "items": [{"sku": "SKU-SOLD-OUT", "quantity": 1, "unit_price": 700}]}


async def all_running(stack: AsyncExitStack, made: Databases, home: Path) -> dict[str, httpx2.AsyncClient]:
    """Every service. A charge that the bank never answers stays open."""
    never = {"gateway_timeout_ms": 600_000, "drain_timeout_s": 1}
    return {name: await stack.enter_async_context(running(name, made, home, **never)) for name in SERVICES}


async def settle(shop: httpx2.AsyncClient, order_id: str, outcome: str) -> None:
    answer = await shop.post(
        f"/payments/{order_id}/settlement",
        json={"outcome": outcome, "reason": "ticket 4711", "confirmed": True},
        headers={"x-orderflow-operator": "ada@desk"},
    )
    assert answer.status_code == 200, answer.text


async def test_a_refused_refund_is_seen_on_the_order_and_audited_as_it_is_until_it_is_settled(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """The issue's own way: the bank is away, an operator settles as charged what was not, and it is out of stock."""
    with databases(postgres, *SERVICES) as made:
        await made.migrate()
        async with AsyncExitStack() as stack:
            shops = await all_running(stack, made, tmp_path)
            methods = {"never charged": "pm_timeout_not_charged", "card gone": "pm_card_refundFail"}
            placed = {
                name: (await shops["order"].post("/orders", json={**ORDER, "payment_method": method})).json()["id"]
                for name, method in methods.items()
            }
            called = f"SELECT count(*) FROM bank_calls WHERE key = 'charge:{placed['never charged']}'"
            database = made.urls["bank"].rpartition("/")[2]
            await eventually(lambda: postgres.execute(called, database) == "1")
            await settle(shops["payment"], placed["never charged"], "charged")

            async def shown(name: str) -> dict[str, Any]:
                return dict((await shops["order"].get(f"/orders/{placed[name]}")).json())

            async def refusals() -> bool:
                return all([(await shown(name))["refund"] == "refused" for name in placed])

            await eventually(refusals)
            order = await shown("card gone")
            assert [(step["event"], step["status"], step["refund"]) for step in order["history"]] == [
                ("OrderPlaced", "PENDING", None),
                ("PaymentSucceeded", "PAID", None),
                ("StockRejected", "FAILED", None),
                ("StockRejected", "FAILED", "due"),
                ("RefundFailed", "FAILED", "refused"),
            ]
            assert order["history"][-1]["reason"] == "expired_or_canceled_card"
            assert [step["cause"] is None for step in order["history"]] == [True, False, False, False, False]

            report = await look(made, wait_s=30, accepted=tuple(placed.values()))
            assert (report.at_rest, report.stuck) == (True, 2)
            wrong = [(finding.subject, finding.what) for finding in report.findings]
            words = "an operator settled the charge, and the bank's book says otherwise"
            assert wrong == [(placed["never charged"], words)]

            await settle(shops["payment"], placed["never charged"], "not-charged")
            await settle(shops["payment"], placed["card gone"], "refunded")

            async def settled() -> bool:
                stands = [(await shown(name))["refund"] for name in placed]
                return stands == ["void", "done"]

            await eventually(settled)
            report = await look(made, wait_s=30, accepted=tuple(placed.values()))
            assert (report.at_rest, report.findings) == (True, [])
            assert (report.stuck, report.refunded_by_word) == (0, 1)
