"""`up` in a process of its own, with stand-ins for the services, and what tests do to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from tests.support.waiting import eventually

PROJECT = Path(__file__).parents[2]
SERVICES = ("order", "payment", "inventory", "notification")
START_TIMEOUT_S = 60.0


class Up:
    """A supervisor in a process of its own, with what it says in a file."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said_file = home.parent / "said"
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *arguments: str, output: int | IO[bytes] | None = None, **settings: str
    ) -> subprocess.Popen[bytes]:
        """`output` is where it is to speak to, if not to a file."""
        ports = {f"ORDERFLOW_{name.upper()}_PORT": "0" for name in SERVICES}
        environment = {**os.environ, "ORDERFLOW_HOME": str(self.home), **ports, **settings}
        with self.said_file.open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fake_up", *arguments],
                cwd=PROJECT,
                env=environment,
                stdout=said if output is None else output,
                stderr=said,
            )
        return self.process

    def state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.home / "state.json").read_text())
        except FileNotFoundError:
            return {"phase": "none", "processes": []}
        return found

    def pids(self) -> dict[str, int]:
        return {process["name"]: process["pid"] for process in self.state()["processes"]}

    def said(self) -> str:
        return self.said_file.read_text()

    def is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"up ended: {self.said()}")
        return bool(self.state()["phase"] == "ready" and len(self.pids()) >= 5)

    async def ready(self) -> dict[str, int]:
        await eventually(self.is_ready, timeout_s=START_TIMEOUT_S)
        return self.pids()

    async def back(self, name: str, before: int) -> None:
        await eventually(lambda: self.pids().get(name, before) != before, timeout_s=START_TIMEOUT_S)

    def leave_state(self, pid: int, started: float, reused_pid: int) -> None:
        """As a supervisor that was killed leaves it; the system has given `reused_pid` to somebody else."""
        service = {"kind": "service", "address": "", "restarts": 0}
        state = {
            "phase": "stopping",
            "supervisor": {"pid": 1, "started": 0.0},
            "processes": [
                {**service, "name": "order", "pid": pid, "started": started},
                {**service, "name": "payment", "pid": reused_pid, "started": started - 100},
            ],
        }
        (self.home / "state.json").write_text(json.dumps(state))

    def end(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=180)


@contextmanager
def supervised(home: Path) -> Iterator[Up]:
    """Not started yet; whatever is left of it at the end is ended."""
    made = Up(home)
    yield made
    left = [psutil.Process(pid) for pid in made.pids().values() if psutil.pid_exists(pid)]
    if made.process is not None and made.process.poll() is None:
        made.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            made.process.wait(timeout=180)
        made.process.kill()
        made.process.wait()
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def gone(pids: dict[str, int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids.values())
