"""What release 0.1.0 has left in its databases goes on under this one: nothing of it is lost, nothing happens again.

The dumps beside this file were taken of a home on which release 0.1.0 ran: 24 orders at their ends, two events that
its consumers had given up or held, and four orders that the payment service had not seen yet.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.command_line import System, running
from tests.support.postgres import PostgresServer

DUMPS = Path(__file__).with_name("release_0_1_0")
NAMES = ("order", "payment", "inventory", "notification", "log", "bank")
LONG = 87_600
KEPT = {"topic_retention_hours": LONG, "outbox_keep_hours": LONG, "idempotency_keep_hours": LONG}
"""Ten years: what the dumps hold grows old, and must not be thrown away for that."""

UNDER_WAY = {
    "01a219a1-2862-7718-9173-06a93816ad24": "COMPLETED",
    "01a219a1-2aa7-7ed0-8d6f-7a15eff26d51": "COMPLETED",
    "01a219a1-2d5f-7734-b3a8-d06b71f38082": "COMPLETED",
    "01a219a1-67d8-732d-b008-96f713024add": "FAILED",
}
SOLD_OUT = "01a219a1-67d8-732d-b008-96f713024add"
STUCK = "01a219a0-a2a9-785e-b8f7-003d81316091"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    server = PostgresServer()
    try:
        server.start()
        for name in NAMES:
            role = f"orderflow_{name}"
            server.execute(f"CREATE ROLE {role} LOGIN")
            server.execute(f"CREATE DATABASE {role} OWNER {role} TEMPLATE template0")
            asyncio.run(_load(server.url(role, role), (DUMPS / f"{name}.sql.gz").read_bytes()))
        home = tmp_path_factory.mktemp("upgrade") / "home"
        with running(home, database_url=server.url().rpartition("/")[0], **KEPT) as started:
            yield started
    finally:
        server.remove()


async def _load(url: str, dump: bytes) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(gzip.decompress(dump).decode())
    await connection.close()


def status_of(system: System, order_id: str) -> str:
    shown: str = system.ask("order", "show", order_id)["status"]
    return shown


@pytest.mark.parametrize(("order_id", "end"), UNDER_WAY.items())
def test_an_order_that_was_under_way_comes_to_its_end(system: System, order_id: str, end: str) -> None:
    watched = system.call("order", "watch", order_id, "--timeout", "100")

    assert watched.returncode in {0, 1}, watched.stderr
    assert status_of(system, order_id) == end


def test_orders_that_had_ended_stand_as_they_stood(system: System) -> None:
    listed = system.ask("order", "list", "--limit", "100")["orders"]
    ended = Counter(order["status"] for order in listed if order["id"] not in UNDER_WAY and order["id"] <= SOLD_OUT)

    assert ended == {"COMPLETED": 20, "FAILED": 4}


def test_what_was_placed_with_a_key_is_not_placed_again(system: System) -> None:
    again = ("--item", "SKU-SOLD-OUT:1:500", "--idempotency-key", "cart-4711", "--customer", "grace")

    assert system.ask("order", "place", *again)["id"] == SOLD_OUT


def test_what_had_been_given_up_is_listed_and_its_key_opens_when_it_is_discarded(system: System) -> None:
    waiting = ("dlt", "list", "--order", STUCK, "--state", "all")
    listed = Counter(letter["consumer"] for letter in system.ask(*waiting)["dead_letters"])
    discarded = system.call("dlt", "discard", "--all", "--yes", "--reason", "written by nobody")

    assert listed == {"order": 2, "inventory": 2, "notification": 1}
    assert discarded.returncode == 0, discarded.stderr
    assert status_of(system, STUCK) == "COMPLETED"


def test_a_new_order_is_carried_to_its_end_and_the_books_balance(system: System) -> None:
    placed = system.call("order", "place", "--wait", "100")
    audited = system.call("audit")

    assert placed.returncode == 0, placed.stderr
    assert audited.returncode == 0, audited.stdout
