"""Where things are: settings, or what runs on the home."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orderflow.cli.errors import UnreachableError
from orderflow.cli.session import as_running, database_url
from orderflow.local.state import ProcessMark, Running, RunState
from orderflow.settings import Settings

ADDRESS = "http://127.0.0.1:40001"


def load(home: Path, **environ: str) -> Settings:
    return Settings.load(environ={f"ORDERFLOW_{name}": value for name, value in environ.items()}, home=home)


def note(home: Path, *, postgres: str = "127.0.0.1:54321", supervisor: ProcessMark | None = None) -> None:
    """As the supervisor of a home writes it; ourselves as the supervisor, for we are alive."""
    mark = supervisor or ProcessMark.of(os.getpid())
    processes = tuple(
        Running(name, "service", mark.pid, mark.started, address)
        for name, address in (("order", ADDRESS), ("order", "http://127.0.0.1:40002"), ("payment", ADDRESS))
    )
    state = RunState(mark, "ready", processes, transport="kafka", postgres=postgres, bootstrap="127.0.0.1:19092")
    state.write(home / "state.json")
    names = ("order", "payment", "inventory", "notification", "log", "bank")
    passwords = {f"orderflow_{name}": f"s/{name}" for name in names}
    (home / "secrets.json").write_text(json.dumps(passwords))


def test_what_runs_on_the_home_is_where_it_runs(tmp_path: Path) -> None:
    note(tmp_path)
    found = as_running(load(tmp_path))

    assert found.service_url("order") == ADDRESS
    assert (found.transport, found.kafka_bootstrap) == ("kafka", "127.0.0.1:19092")
    assert database_url(found, "log") == "postgresql://orderflow_log:s%2Flog@127.0.0.1:54321/orderflow_log"


def test_a_socket_s_folder_becomes_the_host_of_the_url(tmp_path: Path) -> None:
    note(tmp_path, postgres="/home/ada/run")

    assert database_url(as_running(load(tmp_path)), "bank").endswith(
        "/orderflow_bank?host=%2Fhome%2Fada%2Frun&port=5432"
    )


def test_what_somebody_has_said_wins_over_what_runs(tmp_path: Path) -> None:
    note(tmp_path)
    said = {"ORDER_URL": "http://shop:1", "TRANSPORT": "postgres", "DATABASE_URL": "postgresql://a:b@db"}
    found = as_running(load(tmp_path, **said))

    assert found.service_url("order") == "http://shop:1"
    assert found.transport == "postgres"
    assert database_url(found, "log") == "postgresql://orderflow_log:b@db/orderflow_log"


def test_the_note_of_a_supervisor_that_is_dead_is_nothing(tmp_path: Path) -> None:
    note(tmp_path, supervisor=ProcessMark(os.getpid(), 1.0))

    assert as_running(load(tmp_path)).service_url("order") == "http://127.0.0.1:8001"


def test_a_note_that_cannot_be_understood_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"supervisor": 5}')

    assert as_running(load(tmp_path)).service_url("order") == "http://127.0.0.1:8001"


def test_without_a_server_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="orderflow up"):
        database_url(as_running(load(tmp_path)), "log")
