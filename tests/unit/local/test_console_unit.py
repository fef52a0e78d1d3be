"""How `up` starts the page: with what it is told, and with no way into the services' databases."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from orderflow.local.errors import LocalError
from orderflow.local.home import Home
from orderflow.local.reporter import FIRST_ORDER, PlainReporter, tell_ready
from orderflow.local.state import Running, with_embedded
from orderflow.local.supervisor import Fleet, UpOptions
from orderflow.settings import Settings

TELLS = """
import json, os, sys
told = {name: value for name, value in os.environ.items() if name.startswith("ORDERFLOW_")}
json.dump([told, json.loads(sys.stdin.readline())], open(sys.argv[1], "w"))
print(json.dumps({"ready": True, "service": "console", "port": 8000}), flush=True)
sys.stdin.read()
"""


async def given_to_the_page(tmp_path: Path, settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """The environment of the process that is started in its place, and the secrets that it reads."""
    told = tmp_path / "told"
    home = Home.open(tmp_path / "home")
    fleet = Fleet(lambda name: [sys.executable, "-c", TELLS, str(told)])
    (page,) = [unit for unit in fleet.units(settings, UpOptions(), home) if unit.kind == "console"]
    await page.start()
    try:
        assert page.address == "http://127.0.0.1:8000"
        environment, secrets = json.loads(told.read_text())
        return environment, secrets
    finally:
        await page.stop()


def settings_of(tmp_path: Path, **environ: str) -> Settings:
    return Settings.load(environ={"ORDERFLOW_HOME": str(tmp_path / "home"), **environ}, remember=False)


async def test_on_the_embedded_server_it_gets_no_password(tmp_path: Path) -> None:
    settings = with_embedded(settings_of(tmp_path), lambda name: f"postgresql://{name}:secret@/{name}")
    environment, secrets = await given_to_the_page(tmp_path, settings)
    assert environment["ORDERFLOW_HOME"] == str(tmp_path / "home")
    assert [name for name, value in environment.items() if "secret" in value] == []
    assert secrets == {}


async def test_of_a_server_of_ones_own_it_gets_the_log_alone(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, ORDERFLOW_DATABASE_URL="postgresql://admin:secret@db:5432")
    environment, secrets = await given_to_the_page(tmp_path, settings)
    assert [name for name, value in environment.items() if "secret" in value] == []
    assert set(secrets) == {"log_database_url"}
    assert "orderflow_log" in secrets["log_database_url"]


def test_where_it_is_not_wanted_it_is_not_started(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, ORDERFLOW_CONSOLE="false")
    units = Fleet().units(settings, UpOptions(), Home.open(tmp_path / "home"))
    assert {unit.kind for unit in units} == {"service"}


def test_a_port_that_somebody_has_said_must_be_free(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        others = {f"ORDERFLOW_{name}_PORT": "0" for name in ("ORDER", "PAYMENT", "INVENTORY", "NOTIFICATION")}
        with pytest.raises(LocalError, match=f"the page: port {port} .* set ORDERFLOW_CONSOLE_PORT"):
            Fleet().require_ports(settings_of(tmp_path, ORDERFLOW_CONSOLE_PORT=str(port), **others))


def test_the_banner_says_first_where_it_is(tmp_path: Path) -> None:
    said = tmp_path / "said"
    processes = [
        Running("order", "service", os.getpid(), 1.0, "http://127.0.0.1:8001"),
        Running("console", "console", os.getpid(), 1.0, "http://127.0.0.1:8000"),
    ]
    with said.open("w") as output:
        tell_ready(PlainReporter(output), processes, settings_of(tmp_path), "the log in PostgreSQL")
    assert (
        said.read_text().splitlines()[0]
        == "Open http://127.0.0.1:8000 to watch orders flow; to act there, sign in with: orderflow console --sign-in"
    )


def test_the_banner_names_the_home_that_was_typed_in_what_can_be_copied(tmp_path: Path) -> None:
    said, home = tmp_path / "said", tmp_path / "my shop"
    page = Running("console", "console", os.getpid(), 1.0, "http://127.0.0.1:8000")
    with said.open("w") as output:
        typed = Settings.load(environ={}, home=home)
        tell_ready(PlainReporter(output), [page], typed, "the log in PostgreSQL", detached=True)
    lines = said.read_text().splitlines()
    assert lines[0].endswith(f"sign in with: orderflow console --sign-in --home '{home}'")
    assert lines[-1] == f"`orderflow down --home '{home}'` stops everything."


def test_the_first_order_of_the_banner_is_that_of_the_readme() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    assert json.dumps(FIRST_ORDER["items"]) in readme
