"""Game days: two real processes of one service, faults by the real command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from orderflow.core.inbox import InboxState
from orderflow.events.order import Item, OrderPlaced
from orderflow.events.payment import PaymentSucceeded
from orderflow.local.state import settings_environment
from tests.support.callers import shown, token_in
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, Wire, databases, new_order_id, wire
from tests.support.waiting import eventually

TIMEOUT_S = 180.0
GOOD, POISON = "SKU-GOOD", "SKU-POISON"
AT_POISON = ("--event", "OrderPlaced", "--match", f"sku={POISON}")


class Member:
    """One process of the payment service."""

    def __init__(self, environment: dict[str, str], *options: str) -> None:
        command = [sys.executable, "-m", "orderflow", "run", "payment", "--port", "0", "--control-pipe", *options]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.ops_url = ""

    def ready(self) -> None:
        line = self._stdout.readline()
        assert line, f"it ended with {self._process.wait(TIMEOUT_S)}"
        self.ops_url = f"http://127.0.0.1:{json.loads(line)['ops_port']}"

    async def health(self) -> dict[str, Any]:
        async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client:
            found: dict[str, Any] = (await client.get(f"{self.ops_url}/health/ready")).json()
            return found

    async def is_ready(self) -> bool:
        return bool((await self.health())["ready"])

    async def faults(self) -> list[str]:
        found: list[str] = (await self.health()).get("faults", [])
        return found

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        """It drains when its standard input ends."""
        self._stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._process.kill()
        self._process.wait()
        self._stdout.close()


class Payment:
    """The payment service on databases of this test alone."""

    def __init__(self, made: Databases, server: PostgresServer, home: Path) -> None:
        (home / "orderflow.toml").touch()
        settings = made.settings(home, drain_timeout_s=2, log_file=home / "payment.log")
        secrets = {f"ORDERFLOW_{name.upper()}": each.reveal() for name, each in settings.secrets().items()}
        self.environment = settings_environment(settings, os.environ) | secrets
        self.log_file = home / "payment.log"
        self.members: list[Member] = []
        self.token = token_in(home)
        self._server = server
        self._database = made.urls["payment"].rpartition("/")[2]

    def start(self, *options: str, count: int = 1) -> list[Member]:
        fresh = [Member(self.environment, *options) for _ in range(count)]
        self.members += fresh
        for member in fresh:
            member.ready()
        return fresh

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`orderflow ...`, which knows the process that was started last."""
        url = {"ORDERFLOW_PAYMENT_URL": self.members[-1].ops_url, "ORDERFLOW_TOKEN": self.token}
        return subprocess.run(
            [sys.executable, "-m", "orderflow", *arguments],
            env={**self.environment, **url},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    def answer(self, *arguments: str) -> Any:
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, *arguments: str) -> tuple[int, str]:
        done = self.command(*arguments)
        return done.returncode, done.stderr.strip()

    def parked(self) -> list[str]:
        """State and error of every parked event."""
        asked = "SELECT state || ' ' || coalesce(error, '') FROM parked_events ORDER BY position"
        return self._server.execute(asked, self._database).splitlines()

    def logged(self, action: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log_file.read_text("utf-8").splitlines()]
        return [line for line in lines if line["action"] == action]

    def end(self) -> None:
        for member in self.members:
            member.end()


@pytest.fixture
async def payment(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Payment]:
    with databases(postgres, "payment") as made:
        await made.migrate()
        payment = Payment(made, postgres, tmp_path)
        try:
            yield payment
        finally:
            payment.end()


@pytest.fixture(scope="module")
def running(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Payment]:
    """Shared by tests that change nothing."""
    with databases(postgres, "payment") as made:
        asyncio.run(made.migrate())
        payment = Payment(made, postgres, tmp_path_factory.mktemp("payment"))
        try:
            payment.start("--game-day")
            yield payment
        finally:
            payment.end()


@pytest.fixture
async def log(payment: Payment) -> AsyncIterator[Wire]:
    async with wire(Databases({"log": payment.environment["ORDERFLOW_LOG_DATABASE_URL"]})) as opened:
        yield opened


def placed(order_id: UUID, sku: str) -> OrderPlaced:
    return OrderPlaced(
        order_id=order_id,
        customer_id="customer-1",
        currency="EUR",
        items=(Item(sku="SKU-TOO", quantity=1, unit_price=250), Item(sku=sku, quantity=2, unit_price=1000)),
        total=2250,
        payment_method="pm_card_visa",
    )


async def say(log: Wire, sku: str) -> UUID:
    order_id = new_order_id()
    await log.say(placed(order_id, sku), "/orderflow/order")
    return order_id


async def test_a_permanent_fault_parks_what_it_strikes_in_every_process_until_it_is_cleared(
    payment: Payment, log: Wire
) -> None:
    first, second = payment.start("--game-day", count=2)
    assert payment.answer("fault", "list", "--service", "payment")["faults"] == []

    done = payment.answer("fault", "add", "payment", *AT_POISON, "--error", "permanent")

    sentence = f"fault 1: permanent at OrderPlaced with sku={POISON}"
    for member in (first, second):
        assert await member.faults() == [sentence]
        await eventually(member.is_ready)
    assert (done["confirmed_by"], done["fault"]["id"]) == (2, "payment-1")
    assert payment.answer("fault", "list", "--service", "payment")["faults"] == [done["fault"]]
    assert {line["level"] for line in payment.logged("faults-set")} == {"warning"}

    struck, free = await say(log, POISON), await say(log, GOOD)
    await log.hear(PaymentSucceeded, free)
    assert await eventually(payment.parked) == [f"{InboxState.PARKED} InjectedFaultError"]

    done = payment.answer("fault", "clear", "payment-1")
    assert done["cleared"][0]["id"] == "payment-1"
    for member in (first, second):
        assert await member.faults() == []
    await log.hear(PaymentSucceeded, struck)
    assert payment.parked() == []
    assert [line["level"] for line in payment.logged("faults-cleared")] == ["warning"] * 2


async def test_an_infrastructure_fault_holds_the_consumer_up_and_burns_nothing(payment: Payment, log: Wire) -> None:
    [member] = payment.start("--game-day")
    payment.answer("fault", "add", "payment", *AT_POISON, "--error", "infrastructure")

    struck = await say(log, POISON)

    async def waiting() -> bool:
        return "fault 1: infrastructure" in (await member.health())["problems"].get("consumer payment", "")

    await eventually(waiting)
    await eventually(lambda: len(payment.logged("waiting")) >= 4, timeout_s=TIMEOUT_S)
    assert payment.parked() == []
    payment.answer("fault", "clear", "payment-1")
    await log.hear(PaymentSucceeded, struck)
    assert payment.logged("message-parked") == []


async def test_a_hanging_fault_stops_the_consumer_until_it_is_cleared(payment: Payment, log: Wire) -> None:
    [member] = payment.start("--game-day")
    payment.answer("fault", "add", "payment", *AT_POISON, "--error", "hang")

    struck = await say(log, POISON)

    async def standing() -> bool:
        health = await member.health()
        return not health["ready"] and "stalled" in health["problems"].get("consumer payment", "")

    await eventually(standing)
    behind = await say(log, GOOD)
    assert await log.heard(PaymentSucceeded) == []
    payment.answer("fault", "clear", "payment-1")
    for order_id in (struck, behind):
        await log.hear(PaymentSucceeded, order_id)
    await eventually(member.is_ready)


async def test_faults_outlive_a_restart_and_strike_from_the_first_event_on(payment: Payment, log: Wire) -> None:
    [member] = payment.start("--game-day")
    payment.answer("fault", "add", "payment", *AT_POISON, "--error", "permanent")
    member.end()
    await say(log, POISON)

    [member] = payment.start("--game-day")

    await eventually(payment.parked)
    assert len(await member.faults()) == 1
    assert await log.heard(PaymentSucceeded) == []


async def test_without_game_day_faults_are_ignored_told_in_the_log_and_refused(payment: Payment, log: Wire) -> None:
    [member] = payment.start("--game-day")
    payment.answer("fault", "add", "payment", *AT_POISON, "--error", "permanent")
    member.end()

    [member] = payment.start()

    await log.hear(PaymentSucceeded, await say(log, POISON))
    [line] = payment.logged("faults-ignored")
    assert (line["level"], line["faults"]) == ("warning", [f"fault 1: permanent at OrderPlaced with sku={POISON}"])
    assert await member.faults() == []
    why = (
        "This system was not started for a game day, so it accepts no faults. Start it with: orderflow up --game-day"
    )
    for command in (("add", "payment", *AT_POISON, "--error", "hang"), ("clear", "payment-1"), ("list",)):
        service = ("--service", "payment") if command == ("list",) else ()
        code, said = payment.refusal("fault", *command, *service)
        assert (code, said) == (5, f"Error: {why}")


async def test_a_fault_is_not_called_set_before_the_slowest_process_applies_it(payment: Payment) -> None:
    quick, slow = payment.start("--game-day", count=2)
    slow.send(signal.SIGSTOP)

    async with httpx2.AsyncClient(base_url=quick.ops_url, timeout=TIMEOUT_S) as client:
        fault = {"event_type": "OrderPlaced", "field": "sku", "value": POISON, "error": "permanent"}
        adding = asyncio.create_task(client.post("/ops/faults", json=fault, headers=shown(payment.token)))
        await eventually(quick.faults)
        assert not adding.done()
        slow.send(signal.SIGCONT)
        done = await adding

    assert (done.status_code, done.json()["confirmed_by"]) == (201, 2)
    assert len(await slow.faults()) == 1


async def test_a_process_that_died_is_not_waited_for_for_ever(payment: Payment) -> None:
    dead, alive = payment.start("--game-day", count=2)
    dead.send(signal.SIGKILL)

    done = payment.answer("fault", "add", "payment", *AT_POISON, "--error", "permanent")

    assert done["confirmed_by"] == 1
    assert len(await alive.faults()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("add", "bank", *AT_POISON, "--error", "hang"), 2, "'bank' is not one of 'order'"),
        (
            ("add", "payment", "--event", "Placed", "--match", "sku=A", "--error", "hang"),
            5,
            "the service payment handles no event 'Placed', only OrderPlaced, StockRejected",
        ),
        (
            ("add", "payment", "--event", "OrderPlaced", "--match", "skuu=A", "--error", "hang"),
            5,
            "OrderPlaced has no field 'skuu', only currency, customer_id, items, order_id",
        ),
        (
            ("add", "payment", "--event", "OrderPlaced", "--match", "sku", "--error", "hang"),
            2,
            "'sku' matches nothing. Expected: FIELD=VALUE",
        ),
        (
            ("add", "payment", *AT_POISON, "--error", "hang", "--share", "0"),
            2,
            "'0' is not a share. Expected: a number",
        ),
        (("add", "payment", *AT_POISON, "--error", "hang", "--share", "nan"), 2, "'nan' is not a share"),
        (("add", "payment", *AT_POISON, "--error", "slow"), 2, "'slow' is not one of 'permanent'"),
        (("clear", "payment-9"), 4, "no fault 9 is set"),
        (("clear", "9"), 2, "'9' is not a fault. Expected: SERVICE-NUMBER such as payment-3"),
        (("clear",), 2, "Which fault? Give its id, such as payment-3, or --all"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence(
    running: Payment, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ended, words = running.refusal("fault", *arguments)

    assert ended == code
    assert said in words
    assert running.answer("fault", "list", "--service", "payment")["faults"] == []
