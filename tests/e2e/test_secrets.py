"""What the processes of a running system show to others: proc(5) has their arguments and environments."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import psutil
import pytest

from orderflow.local import state
from orderflow.local.home import secrets_of
from tests.e2e.conftest import Start
from tests.e2e.system import System, alive
from tests.support.waiting import eventually

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK = "http://127.0.0.1:9/hook/very-secret-path"


def showing(processes: Iterable[psutil.Process], secrets: Iterable[str]) -> list[str]:
    """Who shows one of the secrets, and where."""
    found = []
    for process in processes:
        try:
            places = {"arguments": "\0".join(process.cmdline()), "environment": "\0".join(process.environ().values())}
        except psutil.NoSuchProcess:
            continue
        found += [f"{where} of {process.name()}" for where, text in places.items() if any(s in text for s in secrets)]
    return found


def passwords(system: System) -> list[str]:
    known: dict[str, str] = json.loads(secrets_of(system.home.path).path.read_text())
    assert {"orderflow_admin", "orderflow_order", "orderflow_payment", "orderflow_bank"} <= known.keys()
    return list(known.values())


async def test_no_process_shows_a_password_of_the_home(system: System) -> None:
    assert len(system.everything()) > 5
    assert showing(system.everything(), passwords(system)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there, a process is not told by its parent")
async def test_what_somebody_gives_by_the_environment_goes_no_further(own_system: Start) -> None:
    system = own_system()
    given = {"ORDERFLOW_ALERT_SECRET": KEY, "ORDERFLOW_ALERT_URL": HOOK}
    system.environment.update(given)
    assert showing([psutil.Process()], given.values()) == []
    started = system.command("up", "--detach", *system.options)
    assert started.returncode == 0, started.stderr
    found = state.read(system.home.state)
    assert found is not None
    supervisor = psutil.Process(found.supervisor.pid)
    running = [supervisor, *supervisor.children(recursive=True)]
    try:
        assert showing(running, [*given.values(), *passwords(system)]) == []
        settings = system.command("settings", "--json", "--changed")
        assert KEY not in settings.stdout
    finally:
        assert system.command("down").returncode == 0
        await eventually(lambda: not alive(running), timeout_s=60)
