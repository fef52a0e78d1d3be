"""The command line against a whole running system: four services, PostgreSQL, the log kept there."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orderflow.cli.doctor import databases
from orderflow.core.transport import ProducerRecord
from orderflow.settings import Settings
from tests.support.command_line import System, running
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("cli") / "home") as system:
        yield system


def test_an_order_is_placed_shown_watched_and_listed(system: System) -> None:
    placed = system.ask("order", "place", "--wait", "60", "--customer", "ada")
    shown = system.ask("order", "show", placed["id"])
    watched = system.lines("order", "watch", placed["id"])

    assert (shown["status"], shown["customer_id"]) == ("COMPLETED", "ada")
    assert [step["status"] for step in watched] == ["PENDING", "PAID", "COMPLETED"]
    assert placed["id"] in [order["id"] for order in system.ask("order", "list", "--status", "COMPLETED")["orders"]]
    assert placed["id"] in system.call("order", "list").stdout


def test_an_order_is_found_by_the_end_of_its_id(system: System) -> None:
    order_id = system.ask("order", "place", "--wait", "60")["id"]
    end = order_id[-8:]

    assert system.ask("order", "show", end)["id"] == order_id
    assert system.ask("payment", "show", end)["order_id"] == order_id
    assert {each["key"] for each in system.lines("topic", "tail", "payment-status", "--key", end)} == {order_id}
    assert order_id in system.call("topic", "tail", "order-events", "--key", end).stdout
    told = system.lines("logs", "--order", end)
    assert len({each["service"] for each in told}) == 4
    assert [each["time"] for each in told] == sorted(each["time"] for each in told)
    assert system.call("order", "show", "ffffffff").returncode == 4


def test_an_order_that_fails_is_followed_until_its_refund(system: System) -> None:
    done = system.call("order", "place", "--item", "SKU-SOLD-OUT:1:100", "--wait", "60", "--json")
    order = json.loads(done.stdout)

    assert done.returncode == 1
    assert (order["status"], order["reason"], order["refund"]) == ("FAILED", "out_of_stock", "done")


def test_the_same_key_places_one_order_and_another_content_is_refused(system: System) -> None:
    key = f"cart {uuid4()}"
    first, again = (system.ask("order", "place", "--idempotency-key", key) for _ in range(2))
    other = system.call("order", "place", "--idempotency-key", key, "--customer", "somebody-else")

    assert first["id"] == again["id"]
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert other.returncode == 5
    assert "different content" in other.stderr


def test_what_the_service_refuses_is_told_with_its_field(system: System) -> None:
    done = system.call("order", "place", "--currency", "XXX")

    assert done.returncode == 5
    assert "/currency" in done.stderr


def test_an_order_that_does_not_exist_is_not_found(system: System) -> None:
    done = system.call("order", "show", str(uuid4()))

    assert done.returncode == 4
    assert "there is no order" in done.stderr


def test_the_events_of_an_order_are_read_from_their_topics(system: System) -> None:
    order_id = system.ask("order", "place", "--wait", "60")["id"]
    said = system.lines("topic", "tail", "order-events", "--key", order_id)
    last = system.lines("topic", "tail", "order-events", "--limit", "1")
    first = system.lines("topic", "tail", "order-events", "--from", "earliest", "--limit", "1")

    assert [record["attributes"]["type"] for record in said] == [
        "orderflow.OrderPlaced.v1",
        "orderflow.OrderCompleted.v1",
    ]
    assert said[0]["value"]["order_id"] == said[0]["attributes"]["subject"] == order_id
    assert len(last) == len(first) == 1
    assert first[0]["timestamp_ms"] <= last[0]["timestamp_ms"]
    assert order_id in system.call("topic", "tail", "inventory-status", "--key", order_id).stdout


def test_a_topic_that_does_not_exist_is_not_found(system: System) -> None:
    done = system.call("topic", "tail", "orders")

    assert done.returncode == 4
    assert "order-events" in done.stderr


async def test_following_a_topic_shows_what_is_appended_until_it_is_interrupted(system: System) -> None:
    key = str(uuid4())
    command = ("topic", "tail", "flow-status.DLT", "-f", "--from", "latest", "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderflow", *command, env=system.environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = asyncio.ensure_future(process.stdout.readline())

    async def seen() -> bool:
        await system.append(ProducerRecord("flow-status.DLT", key.encode(), b"[]"))
        return bool((await asyncio.wait({line}, timeout=0.5))[0])

    await eventually(seen, timeout_s=60)
    process.send_signal(signal.SIGINT)

    assert json.loads(line.result())["key"] == key
    assert await asyncio.wait_for(process.wait(), 60) == 130


async def test_an_undecodable_record_is_listed_and_shown_as_a_dead_letter(system: System) -> None:
    order_id = str(uuid4())
    headers = (("ce_type", b"orderflow.Nonsense.v1"), ("x", b"\xff\x1b[31m"))
    await system.append(ProducerRecord("order-events", order_id.encode(), b"\x00not json", headers))

    async def dead() -> list[Any]:
        letters = (await asyncio.to_thread(system.ask, "dlt", "list"))["dead_letters"]
        return [letter for letter in letters if letter["key"] == order_id]

    (letter,) = await eventually(dead, timeout_s=60)
    (shown,) = system.ask("dlt", "show", letter["event_id"])["letters"]
    by_position = system.call("dlt", "show", str(letter["position"]), "--service", "payment")

    assert (letter["service"], letter["consumer"]) == ("payment", "payment")
    assert shown["value"]["text"] == "\x00not json"
    assert order_id in by_position.stdout
    assert "\\x00not json" in by_position.stdout
    assert "\x1b" not in by_position.stdout
    assert order_id in system.call("dlt", "list").stdout
    assert [row["consumer"] for row in system.ask("lag")["stuck"]] == ["payment"]


async def test_outbox_and_lag_come_to_rest(system: System) -> None:
    async def at_rest() -> bool:
        unsent = [each["unsent"] for each in system.ask("outbox", "status")["services"].values()]
        return len(unsent) == 4 and sum(unsent) + sum(row["lag"] for row in system.ask("lag")["lag"]) == 0

    await eventually(at_rest, timeout_s=60)


async def test_what_was_published_is_published_again_and_dropped_by_who_knows_it(system: System) -> None:
    order_id = system.ask("order", "place", "--wait", "60")["id"]
    choice = ("--order", order_id, "--topic", "order-events", "--from", "1h", "--to", "2999-01-01")

    async def published() -> bool:
        done = system.call("outbox", "republish", *choice, "--rehearse", "--json")
        return done.returncode == 0 and json.loads(done.stdout)["published"]["order"][0]["count"] == 2

    await eventually(published, timeout_s=60)
    done = system.ask("outbox", "republish", *choice, "--service", "order", "--yes", "--reason", "a test")
    assert done["republished"] == {"order": 2}

    async def twice() -> bool:
        said = system.lines("topic", "tail", "order-events", "--key", order_id)
        types = [record["attributes"]["type"].split(".")[1] for record in said]
        return types == ["OrderPlaced", "OrderCompleted"] * 2

    await eventually(twice, timeout_s=60)
    await test_outbox_and_lag_come_to_rest(system)
    assert system.ask("order", "show", order_id)["status"] == "COMPLETED"
    assert [a["action"] for a in system.ask("dlt", "log", "--service", "order")["actions"]] == ["republish"]
    assert system.call("outbox", "republish", "--all", "--rehearse").returncode == 0
    assert system.call("outbox", "republish", "--all").returncode == 5


def test_a_service_that_is_away_is_told_and_the_others_are_shown(system: System) -> None:
    done = system.call("lag", ORDERFLOW_INVENTORY_URL="http://127.0.0.1:9")

    assert done.returncode == 3
    assert "inventory service" in done.stdout
    assert "order-events" in done.stdout


def test_the_demo_places_a_mix_and_follows_it_to_its_end(system: System) -> None:
    summary = system.ask("demo", "--orders", "60", "--concurrency", "8")

    assert summary["orders"] == {"asked": 60, "placed": 60, "final": 60}
    outcomes = summary["outcomes"]
    assert outcomes["COMPLETED"] + sum(outcomes["FAILED"].values()) == 60
    assert set(outcomes["FAILED"]) == {"card_declined", "insufficient_funds", "out_of_stock"}
    assert summary["refunds"] == {"done": outcomes["FAILED"]["out_of_stock"], "due": 0, "refused": 0}
    assert summary["final_ms"]["measured"] == 60
    assert 0 < summary["accepted_ms"]["p50"] <= summary["accepted_ms"]["max"]
    assert summary["errors"] == {}


async def test_the_demo_is_interrupted_with_a_summary_so_far(system: System) -> None:
    before = len(system.ask("order", "list", "--limit", "100000")["orders"])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orderflow", "demo", "--orders", "10000", "--rate", "20", "--json"),
        env=system.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async def begun() -> bool:
        orders = (await asyncio.to_thread(system.ask, "order", "list", "--limit", "100000"))["orders"]
        return len(orders) > before + 3

    await eventually(begun, timeout_s=60)
    process.send_signal(signal.SIGINT)
    said, complaints = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 130, complaints
    summary = json.loads(said)
    assert summary["interrupted"] is True
    assert 3 < summary["orders"]["placed"] < 10000


def test_the_doctor_finds_a_system_that_runs_well(system: System) -> None:
    done = system.call("doctor", "--json")
    found = {check["check"]: check for check in json.loads(done.stdout)["checks"]}

    assert done.returncode == 0, [check for check in found.values() if check["verdict"] == "failed"]
    for name in ("order", "payment", "inventory", "notification"):
        assert found[f"service {name}"]["verdict"] == found[f"database of {name}"]["verdict"] == "ok"
    assert found["database of log"]["verdict"] == found["database of bank"]["verdict"] == "ok"
    assert found["clock"]["verdict"] == "ok"


def test_the_doctor_looks_at_a_server_of_somebody_else(database_url: str, tmp_path: Path) -> None:
    """An empty database and PostgreSQL's own limits."""
    names = ("order", "payment", "inventory", "notification", "log", "bank")
    urls = {f"{name}_database_url": database_url for name in names}
    settings = Settings.load(environ={}, home=tmp_path, overrides=urls)
    found = list(databases(settings, settings))
    by_check = {verdict.check: verdict for verdict in found}

    assert len(by_check) == len(found), "one server is looked at once"
    for name in names:
        assert by_check[f"database of {name}"].verdict == "failed"
        assert "orderflow migrate" in by_check[f"database of {name}"].advice
    assert by_check["postgresql"].verdict == by_check["clock"].verdict == "ok"
    assert by_check["postgresql locks"].verdict == "warning"
    assert by_check["postgresql connections"].verdict == "ok"
