"""`up`: stand-ins for the services, everything else real."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.programs import bystander
from tests.support.up import SERVICES, Up, gone, supervised
from tests.support.waiting import eventually


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with supervised(tmp_path / "home") as made:
        yield made


async def test_it_starts_everything_and_a_signal_drains_and_stops_all_of_it(up: Up) -> None:
    up.start()
    pids = await up.ready()
    assert set(pids) == {"postgres", *SERVICES}
    assert up.end() == 0
    assert gone(pids)
    assert [(up.home / "logs" / f"{name}.log").read_text() for name in SERVICES] == ["drained\n"] * 4
    assert "Place a first order" in up.said()
    assert not (up.home / "state.json").exists()


async def test_a_second_up_on_a_running_home_says_so(up: Up) -> None:
    up.start()
    await up.ready()
    second = Up(up.home)
    second.said_file = up.home.parent / "second"
    assert second.start().wait(timeout=180) == 1
    assert f"Error: Orderflow is already running on {up.home}" in second.said()
    assert up.is_ready()


async def test_a_killed_service_and_a_killed_postgres_come_back_and_it_says_so(up: Up) -> None:
    up.start()
    pids = await up.ready()
    for name in ("payment", "postgres"):
        os.kill(pids[name], signal.SIGKILL)
        await up.back(name, pids[name])
        assert f"{name} was ended by signal 9; starting it again" in up.said()
    for name in ("payment", "postgres"):
        await eventually(lambda: f"{name} is back at" in up.said())  # noqa: B023
    assert up.pids()["order"] == pids["order"]
    assert up.end() == 0


async def test_a_service_that_keeps_failing_is_tried_again_until_it_starts(up: Up) -> None:
    up.start()
    pids = await up.ready()
    obstacle = up.home / "order.crash"
    obstacle.touch()
    os.kill(pids["order"], signal.SIGKILL)
    await eventually(lambda: "order did not start: it was told to fail; next try in 0.5 s" in up.said())
    await eventually(lambda: "order did not start: it was told to fail; next try in 1 s" in up.said())
    obstacle.unlink()
    await up.back("order", pids["order"])
    assert up.end() == 0


async def test_when_up_itself_is_killed_everything_ends_in_order(up: Up) -> None:
    process = up.start()
    pids = await up.ready()
    process.kill()
    process.wait()
    await eventually(lambda: gone(pids))
    assert (up.home / "logs" / "order.log").read_text() == "drained\n"


async def test_the_next_up_ends_what_a_killed_one_left_by_pid_and_start_time(up: Up) -> None:
    with bystander() as stuck, bystander() as other:
        up.start()
        await up.ready()
        assert up.end() == 0
        up.leave_state(stuck.pid, psutil.Process(stuck.pid).create_time(), other.pid)
        up.start()
        await up.ready()
        assert stuck.wait(timeout=180) is not None
        assert other.poll() is None
        assert "Stopped 1 processes from an earlier run" in up.said()


async def test_a_service_that_cannot_start_is_one_sentence_and_nothing_stays(up: Up) -> None:
    up.home.mkdir()
    (up.home / "inventory.crash").touch()
    (up.home / "home.json").write_text('{"format": 1}')
    assert up.start().wait(timeout=180) == 1
    assert up.said().splitlines()[-1] == "Error: inventory did not start: it was told to fail"
    assert up.pids() == {}
    assert not (up.home / "postgres" / "data" / "postmaster.pid").exists()


def test_a_taken_port_is_one_sentence(up: Up) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert up.start(ORDERFLOW_PAYMENT_PORT=port).wait(timeout=180) == 1
    expected = f"Error: the service payment: port {port} on 127.0.0.1 is taken by another program; set --payment-port"
    assert expected in up.said()


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(up: Up) -> None:
    up.home.mkdir()
    (up.home / "thesis.txt").write_text("")
    assert up.start().wait(timeout=180) == 1
    assert "is not a home of Orderflow: it holds thesis.txt" in up.said()
    assert [entry.name for entry in up.home.iterdir()] == ["thesis.txt"]


def test_a_stop_while_it_starts_leaves_nothing(up: Up) -> None:
    process = up.start()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=180) in {0, -signal.SIGTERM}
    assert gone(up.pids())
    assert not (up.home / "postgres" / "data" / "postmaster.pid").exists()


async def test_another_transport_only_when_nothing_is_under_way_and_drain_gets_there(up: Up) -> None:
    up.start()
    await up.ready()
    assert up.end() == 0
    (up.home / "under_way").write_text("3 unfinished orders\n")
    elsewhere: dict[str, Any] = {"ORDERFLOW_TRANSPORT": "kafka", "ORDERFLOW_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    assert up.start(**elsewhere).wait(timeout=180) == 1
    assert "this home runs on the log in PostgreSQL, where 3 unfinished orders are under way" in up.said()
    assert "`orderflow up --drain`" in up.said()
    draining = up.start("--drain", **elsewhere)
    await up.ready()
    assert draining.poll() is None
    (up.home / "under_way").unlink()
    assert draining.wait(timeout=180) == 0
    up.start(**elsewhere)
    await up.ready()
    assert json.loads((up.home / "home.json").read_text())["event_log"] == {
        "transport": "kafka",
        "bootstrap": "127.0.0.1:1",
        "secure": False,
    }
    assert up.end() == 0


async def test_a_second_signal_ends_everything_at_once(up: Up) -> None:
    process = up.start(FAKE_SERVICE_NEVER_DRAINS="1", ORDERFLOW_DRAIN_TIMEOUT_S="600")
    pids = await up.ready()
    process.send_signal(signal.SIGINT)
    await eventually(lambda: "Stopping" in up.said())
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=180) == 130
    assert gone(pids)
