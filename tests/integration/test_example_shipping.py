"""The example: a fifth service from a distribution of its own, which a system hosts as it hosts its four."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orderflow.local.home import database_url, secrets_of
from orderflow.registry import SAGA
from tests.e2e.shop import Shop
from tests.e2e.system import System
from tests.support.otlp import TraceReceiver, receiving_traces
from tests.support.waiting import eventually

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLE = PROJECT / "examples" / "shipping"
ALL = (*SAGA, "shipping")
ROLE = "orderflow_shipping"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages into which pip has installed the example."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(EXAMPLE, folder / "source")
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "packages"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "packages"


@pytest.fixture
def receiver() -> Iterator[TraceReceiver]:
    with receiving_traces() as made:
        yield made


@pytest.fixture
async def system(site: Path, receiver: TraceReceiver) -> AsyncIterator[System]:
    environment = {
        "PYTHONPATH": str(site),
        "ORDERFLOW_SHIPPING_PORT": "0",
        "ORDERFLOW_OTLP_ENDPOINT": receiver.url,
    }
    made = System(None, ("--game-day",), environment)
    try:
        await made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def outside(site: Path) -> dict[str, str]:
    """The environment of commands where nothing runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORDERFLOW_", "PG"))}
    return {**kept, "PYTHONPATH": str(site)}


def answer(system: System, *arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
    done = system.command(*arguments, "--json")
    assert done.returncode in codes, done.stderr
    return json.loads(done.stdout)


def orderflow(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orderflow", *arguments]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


async def test_up_hosts_it_and_every_command_knows_it(system: System, receiver: TraceReceiver) -> None:
    shop = Shop(system)
    try:
        assert system.names("service") == list(ALL)
        assert list(answer(system, "health")["services"]) == list(ALL)
        assert {each["name"] for each in answer(system, "status")["processes"]} >= set(ALL)
        assert list(answer(system, "outbox", "status")["services"]) == list(ALL)
        checks = {each["check"]: each["verdict"] for each in answer(system, "doctor")["checks"]}
        assert (checks["database of shipping"], checks["service shipping"]) == ("ok", "ok")
        assert answer(system, "settings")["shipping_database_url"]["value"] is None
        await shop.stock("TEA", 1_000)
        await shop.end_of(await shop.place("TEA"))
        await eventually(lambda: shipped(system) == 1, every_s=0.2)

        fault = ("--event", "StockReserved", "--match", "sku=TEA", "--error", "permanent")
        answer(system, "fault", "add", "shipping", *fault)
        order_id = await shop.place("TEA")
        await shop.end_of(order_id)
        await eventually(lambda: letters(system), timeout_s=60, every_s=0.2)
        [letter] = letters(system)
        assert (letter["service"], letter["key"]) == ("shipping", str(order_id))
        lag = answer(system, "lag", codes=(0, 1))
        assert "shipping" in json.dumps(lag)

        audit = answer(system, "audit", "--wait", "60")
        assert (audit["findings"], audit["waiting"]["dead"], audit["stuck"]) == ([], 1, 1), audit
        answer(system, "fault", "clear", "--all")
        answer(system, "dlt", "replay", "--all", "--service", "shipping")
        await eventually(lambda: shipped(system) == 2, every_s=0.2)
        audit = answer(system, "audit")
        assert audit["findings"] == []
        logs = system.command("logs", "shipping", "-n", "5")
        assert (logs.returncode, '"service":"shipping"' in logs.stdout.replace(" ", "")) == (0, True), logs.stdout
        await eventually(lambda: is_traced(receiver, str(order_id)))
    finally:
        await shop.close()


FORGET = "DELETE FROM processed_events WHERE key = '{id}'"
LOSE = "DELETE FROM shipments WHERE order_id = '{id}'"
UNSAY = ("DELETE FROM outbox WHERE key = convert_to('{id}', 'UTF8')", "DELETE FROM streams WHERE key = '{id}'")
WAIT_NOWHERE = "UPDATE processed_events SET state = 3 WHERE key = '{id}'"
LOSSES: dict[str, tuple[str, ...]] = {
    "effect-without-inbox-row": (FORGET, LOSE),
    "event-never-received": (FORGET, LOSE, *UNSAY),
    "parked-event-missing": (WAIT_NOWHERE, LOSE),
    "sequence-gap": (UNSAY[0],),
}
HEALED = {"event-never-received", "parked-event-missing"}


async def test_what_its_database_has_lost_is_found_and_healed(system: System) -> None:
    shop = Shop(system)
    try:
        await shop.stock("TEA", 1_000)
        orders = {kind: await shop.place("TEA") for kind in (*LOSSES, "none")}
        await shop.ends_of(list(orders.values()))
        await eventually(lambda: shipped(system) == len(orders), every_s=0.2)
        audit = answer(system, "audit", "--wait", "60", "--no-topics")
        assert (audit["findings"], audit["judged"]) == ([], 0)

        for kind, statements in LOSSES.items():
            await plant(system, *(each.format(id=orders[kind]) for each in statements))
        audit = answer(system, "audit", "--wait", "60", "--no-topics", codes=(1,))
        found = {(each["kind"], each["subject"]) for each in audit["findings"] if each["where"] == "shipping"}
        assert found == {(kind, orders[kind]) for kind in LOSSES}

        meant = ("--repair", "--yes", "--reason", "ticket 4711", "--wait", "60", "--no-topics")
        left = answer(system, "audit", *meant, codes=(1,))
        assert left["repair"]["failed"] == []
        assert {each["subject"] for each in left["findings"]} == {orders[kind] for kind in LOSSES.keys() - HEALED}
    finally:
        await shop.close()


async def plant(system: System, *statements: str) -> None:
    """Change the example's database behind its back."""
    where, secrets = system.state().postgres, secrets_of(system.home.path)
    assert where is not None
    connection = await asyncpg.connect(database_url(where, ROLE, ROLE, secrets.password(ROLE)))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def shipped(system: System) -> int:
    """How many parcels are told of on the topic that the example writes."""
    done = system.command("topic", "tail", "shipping-status", "--from", "earliest", "--json")
    return done.stdout.count("shipping.OrderShipped")


def is_traced(receiver: TraceReceiver, order_id: str) -> bool:
    """Given up, replayed and shipped in the trace of its order, in which nothing hangs in the air."""
    [trace] = {
        each.trace
        for each in receiver.spans
        if each.kind == "server" and (each.trace, order_id) in traces_of(receiver)
    }
    spans = receiver.of(trace)
    shipping = [each for each in spans if each.service == "shipping"]
    ends = [each.attributes["orderflow.outcome"] for each in shipping if each.kind == "consumer"]
    sent = {each.name for each in shipping if each.kind == "producer"}
    orphans = {each.parent for each in spans} - {each.id for each in spans} - {""}
    published = {"send inventory-status.DLT", "send flow-status", "send shipping-status"}
    assert orphans == set(), [each for each in spans if each.parent in orphans]
    return ends[-2:] == ["dead", "handled"] and sent == published


def traces_of(receiver: TraceReceiver) -> set[tuple[str, Any]]:
    """Which key each trace is about."""
    return {(each.trace, each.attributes.get("messaging.message.conversation_id")) for each in receiver.spans}


def letters(system: System) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer(system, "dlt", "list", "--service", "shipping")["dead_letters"]
    return found


def test_alone_it_wants_a_database_and_says_so_in_one_sentence(outside: dict[str, str], tmp_path: Path) -> None:
    given = {**outside, "ORDERFLOW_LOG_FILE": str(tmp_path / "shipping.log")}
    done = orderflow(given, tmp_path, "run", "shipping", "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "no database for shipping: set ORDERFLOW_SHIPPING_DATABASE_URL" in done.stderr


def test_a_service_that_cannot_be_loaded_is_told_in_one_sentence(outside: dict[str, str], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    info = broken / "returns_service-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text("[orderflow.services]\nreturns = returns_service:SERVICE\n")
    environment = {**outside, "PYTHONPATH": f"{outside['PYTHONPATH']}{os.pathsep}{broken}"}
    done = orderflow(environment, tmp_path, "run", "returns", "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "the service returns cannot be loaded from returns_service:SERVICE: ModuleNotFoundError" in done.stderr


def test_the_example_is_at_most_40_lines_of_python() -> None:
    assert (
        sum(
            len(file.read_text(encoding="utf-8").splitlines())
            for file in (EXAMPLE / "orderflow_shipping").rglob("*.py")
        )
        <= 40
    )
