"""The commands around `up`, on the real services with the log in PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orderflow.local.postgres import EmbeddedPostgres
from orderflow.local.processes import free_port

PORTS = {f"ORDERFLOW_{name}_PORT": "0" for name in ("CONSOLE", "ORDER", "PAYMENT", "INVENTORY", "NOTIFICATION")}
ORDER = {
    "customer_id": "ada",
    "currency": "EUR",
    "items": [{"sku": "SKU-ESPRESSO-CUP", "quantity": 1, "unit_price": 590}],
    "payment_method": "pm_card_visa",
}


class Commands:
    """`orderflow` on a home of its own, named or not."""

    def __init__(self, home: Path, *, named: bool = True) -> None:
        self.home = home
        self.environment = {**os.environ, **PORTS, **({"ORDERFLOW_HOME": str(home)} if named else {})}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "orderflow", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.home.parent,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        return said

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json"))
        return found

    def watched(self) -> dict[str, Any]:
        """The first look of `status --watch`, which Ctrl-C ends with the exit code of the last one."""
        with subprocess.Popen(
            [sys.executable, "-m", "orderflow", "status", "--watch", "0.5", "--json"],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.home.parent,
        ) as process:
            assert process.stdout is not None
            found: dict[str, Any] = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        return found

    def address(self, name: str) -> str:
        return next(str(each["address"]) for each in self.status()["processes"] if each["name"] == name)


@pytest.fixture
def orderflow(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path / "home")
    yield commands
    if commands.home.is_dir() and any(commands.home.glob("*.json")):
        commands("down")


def call(url: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def test_from_an_empty_folder_to_a_completed_order_and_back_to_nothing(orderflow: Commands) -> None:
    said = orderflow("up", "--detach", "--processes", "notification=2")
    assert "Orderflow is running on the log in PostgreSQL" in said
    assert "`orderflow down` stops everything" in said

    found = orderflow.status()
    assert found["phase"] == "ready"
    assert all(process["ready"] for process in found["processes"])
    assert [process["name"] for process in found["processes"]] == [
        "postgres",
        "console",
        "order",
        "payment",
        "inventory",
        "notification",
        "notification-2",
    ]
    page = orderflow.address("console")
    assert f"Open {page} to watch orders flow" in said
    with urllib.request.urlopen(page, timeout=30) as reply:
        assert "<h1>Flow</h1>" in reply.read().decode()
    assert orderflow.watched()["phase"] == "ready"
    order_url = orderflow.address("order")
    placed = call(f"{order_url}/orders", ORDER)
    assert call(f"{order_url}/orders/{placed['id']}?wait=20")["status"] == "COMPLETED"
    assert placed["id"] in orderflow("logs", "order", "payment", "-n", "50")
    assert "everything is up to date" in orderflow("migrate")
    assert "Orderflow is already running on" in orderflow("up", code=1)
    assert "stop it first" in orderflow("reset", "--yes", code=1)

    pids = [process["pid"] for process in found["processes"]]
    assert orderflow("down") == "Stopped\n"
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert "Nothing is running" in orderflow("status", code=3)
    assert "Nothing is running" in orderflow("down")

    orderflow("up", "--detach")
    assert call(f"{orderflow.address('order')}/orders/{placed['id']}")["status"] == "COMPLETED"
    orderflow("down")
    orderflow("reset", code=130)
    assert (orderflow.home / "postgres").is_dir()
    orderflow("reset", "--yes")
    assert list(orderflow.home.iterdir()) == []


def test_a_service_that_is_run_by_hand_joins_what_runs_on_its_home(orderflow: Commands) -> None:
    orderflow("up", "--detach")
    with subprocess.Popen(
        [sys.executable, "-m", "orderflow", "run", "inventory", "--port", "0", "--control-pipe"],
        env=orderflow.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as joined:
        assert joined.stdout is not None
        ready = json.loads(joined.stdout.readline())
        stock = call(f"http://127.0.0.1:{ready['port']}/stock/SKU-ESPRESSO-CUP")
        assert stock["sku"] == "SKU-ESPRESSO-CUP"
        assert joined.stdin is not None
        joined.stdin.close()
        assert joined.wait(timeout=180) == 0


def test_detached_it_says_in_one_sentence_why_it_could_not_start(orderflow: Commands) -> None:
    orderflow.home.mkdir()
    (orderflow.home / "thesis.txt").write_text("")
    said = orderflow("up", "--detach", code=1)
    assert said.startswith(f"Error: {orderflow.home} is not a home of Orderflow: it holds thesis.txt")
    (orderflow.home / "thesis.txt").unlink()
    (orderflow.home / "postgres" / "data").mkdir(parents=True)
    (orderflow.home / "home.json").write_text('{"format": 1}')
    assert "is not a PostgreSQL data folder" in orderflow("up", "--detach", code=1).splitlines()[-1]


def test_wrong_options_are_refused_with_what_is_wanted(orderflow: Commands) -> None:
    assert "give one of them" in orderflow("up", "--kafka", "--kafka-bootstrap", "b:9092", code=2)
    assert "expected SERVICE=N" in orderflow("up", "--processes", "shipping=2", code=2)
    assert "expected SERVICE=N" in orderflow("up", "--processes", "order=0", code=2)


def test_a_server_that_exists_is_migrated_and_used(orderflow: Commands, tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "server", port=free_port())
    server.start()
    try:
        url = server.url()
        migrate = Commands(orderflow.home, named=False)
        assert "CREATE DATABASE orderflow_order " in migrate("migrate", "--print-sql", "--database-url", url)
        assert "order 0001" in migrate("migrate", "--database-url", url)
        assert migrate("migrate", "--print-sql", "--database-url", url) == ""
        assert "0 migrations applied" in migrate("migrate", "--database-url", url)
        assert "up to date" in migrate("migrate", "--take-over-topics", "--database-url", url)
        assert not orderflow.home.exists()
        orderflow("up", "--detach", "--database-url", url, "--take-over-topics")
        assert "postgres" not in [process["name"] for process in orderflow.status()["processes"]]
        order_url = orderflow.address("order")
        placed = call(f"{order_url}/orders", ORDER)
        assert call(f"{order_url}/orders/{placed['id']}?wait=20")["status"] == "COMPLETED"
        orderflow("down")
    finally:
        server.stop()
