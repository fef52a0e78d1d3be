"""A service that the supervisor keeps dies at its crash point once, and goes on from there."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orderflow.local.supervisor import ServiceCommand, ServiceUnit
from tests.support.waiting import eventually

SERVICE = """
import json, os, signal, sys
armed = os.environ["ORDERFLOW_CRASH_AT"] != "never"
if armed and sys.argv[1] == "starting":
    os._exit(86)
if armed:
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(86))
print(json.dumps({"ready": True, "port": 1, "ops_port": 2}), flush=True)
sys.stdin.read()
"""
Make = Callable[[str], ServiceUnit]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """A unit whose process dies, if it is armed, at what is given."""
    made: list[ServiceUnit] = []

    def make(dies: str) -> ServiceUnit:
        command = ServiceCommand(
            "order",
            [sys.executable, "-I", "-S", "-c", SERVICE, dies],
            {"ORDERFLOW_CRASH_AT": "relay.read"},
            b"",
            str,
            str,
            tmp_path / "stderr.log",
        )
        made.append(ServiceUnit(command, drain_timeout_s=5.0))
        return made[-1]

    yield make
    for unit in made:
        await unit.stop()


async def test_one_that_has_died_at_its_point_is_started_again_and_lives(make: Make) -> None:
    unit = make("serving")
    await unit.start()
    first = unit.process
    assert first is not None
    first.send_signal(signal.SIGUSR1)
    await eventually(lambda: first.poll() == 86)
    await unit.start()
    assert await ends_in_order(unit)


async def test_one_that_dies_while_it_starts_is_started_again_at_once(make: Make) -> None:
    unit = make("starting")
    await unit.start()
    assert await ends_in_order(unit)


async def ends_in_order(unit: ServiceUnit) -> bool:
    """It goes on until it is stopped."""
    await unit.stop()
    return unit.process is not None and unit.process.returncode == 0


LISTENS = """
import json, os, socket, sys
listener = socket.create_server(("127.0.0.1", int(os.environ["ORDERFLOW_ORDER_PORT"])))
print(json.dumps({"ready": True, "port": listener.getsockname()[1]}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def on_any_port(tmp_path: Path) -> AsyncIterator[ServiceUnit]:
    """A unit that is told to listen on any free port."""
    unit = ServiceUnit(
        ServiceCommand(
            "order",
            [sys.executable, "-I", "-S", "-c", LISTENS],
            {"ORDERFLOW_ORDER_PORT": "0"},
            b"",
            str,
            str,
            tmp_path / "stderr.log",
            ports={"order_port": "127.0.0.1"},
        ),
        drain_timeout_s=5.0,
    )
    yield unit
    await unit.stop()


async def killed(unit: ServiceUnit) -> None:
    process = unit.process
    assert process is not None
    process.kill()
    await eventually(lambda: process.poll() is not None)


async def test_it_comes_back_at_the_port_that_it_had_found(on_any_port: ServiceUnit) -> None:
    await on_any_port.start()
    where = on_any_port.address
    await killed(on_any_port)
    await on_any_port.start()
    assert on_any_port.address == where


async def test_it_moves_where_its_port_is_taken_meanwhile(on_any_port: ServiceUnit) -> None:
    await on_any_port.start()
    where = on_any_port.address
    await killed(on_any_port)
    with socket.create_server(("127.0.0.1", int(where))):
        await on_any_port.start()
        assert on_any_port.address != where
