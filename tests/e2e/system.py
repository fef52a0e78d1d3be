"""A running Orderflow: `orderflow up` on a home of its own, and what tests do to it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from orderflow.local import state
from orderflow.local.home import Home
from orderflow.local.processes import free_port
from orderflow.local.state import Running, RunState, attached
from orderflow.settings import Settings
from tests.support.kafka import give_jars
from tests.support.waiting import eventually

READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 180.0
PR_SET_PDEATHSIG = 1
ANY_PORTS = ("--order-port", "0", "--payment-port", "0", "--inventory-port", "0", "--notification-port", "0")
QUICK: Mapping[str, str] = {
    "ORDERFLOW_GATEWAY_TIMEOUT_MS": "1000",
    "ORDERFLOW_INTENT_LEASE_MS": "3000",
    "ORDERFLOW_RETRY_FIRST_MS": "200",
    "ORDERFLOW_DRAIN_TIMEOUT_S": "8",
}


class System:
    """One home. `libs` are Kafka's jars where it runs on a broker of its own; `options` go to `up`,
    `environment` to it and to every command.
    """

    def __init__(
        self, libs: Path | None = None, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orderflow-e2e-"))
        self.home = Home(self.folder / "home")
        self.output = self.folder / "up.out"
        self.options = [*ANY_PORTS, *options, *(["--kafka"] if libs else [])]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")},
            **QUICK,
            "ORDERFLOW_HOME": str(self.home.path),
            "ORDERFLOW_CONSOLE": "false",
            "ORDERFLOW_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
            **(environment or {}),
        }
        self._up: subprocess.Popen[bytes] | None = None
        if libs is not None:
            Home.open(self.home.path)
            give_jars(libs, self.home.path)

    @property
    def up(self) -> psutil.Process:
        """The supervisor."""
        assert self._up is not None
        return psutil.Process(self._up.pid)

    def state(self) -> RunState:
        """What runs. Raises AssertionError when nothing does."""
        found = state.read(self.home.state)
        assert found is not None, f"no state in {self.home.state}"
        return found

    def process(self, name: str) -> Running:
        """Raises AssertionError when it is not running at this moment."""
        found = {each.name: each for each in self.state().processes}
        assert name in found, f"{name} is not among {sorted(found)}"
        return found[name]

    def names(self, kind: str) -> list[str]:
        return [each.name for each in self.state().processes if each.kind == kind]

    def url(self, name: str) -> str:
        return self.process(name).address

    def ops_url(self, name: str) -> str:
        return self.process(name).ops_address

    def token(self) -> str:
        """The home's own."""
        return (self.home.path / "token").read_text(encoding="ascii")

    def settings(self) -> Settings:
        """By which another program joins what runs."""
        return attached(Settings.load(environ=self.environment, home=self.home.path))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`orderflow ...` on this home, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "orderflow", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=STOP_TIMEOUT_S,
            cwd=self.folder,
        )

    def launch(self) -> None:
        """Start `up` and return at once."""
        with self.output.open("ab") as output:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "orderflow", "up", *self.options],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509  # started before any thread
            )

    async def start(self) -> None:
        """Start `up` and return when it says that everything is ready."""
        self.launch()
        await eventually(self._is_ready, timeout_s=READY_TIMEOUT_S)

    def _is_ready(self) -> bool:
        assert self._up is not None
        if self._up.poll() is not None:
            raise RuntimeError(f"up ended with {self._up.returncode}: {self.said()}")
        found = state.read(self.home.state)
        return found is not None and found.supervisor.pid == self._up.pid and found.phase == state.READY

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send `up` a signal and wait for its end; returns its exit code."""
        assert self._up is not None
        self._up.send_signal(number)
        return self._up.wait(STOP_TIMEOUT_S)

    def kill(self, name: str) -> psutil.Process:
        """`kill -9` of one process; returns what it was."""
        process = psutil.Process(self.process(name).pid)
        process.kill()
        return process

    def everything(self) -> list[psutil.Process]:
        """The supervisor and all that descends from it."""
        return [self.up, *self.up.children(recursive=True)]

    def said(self) -> str:
        """What `up` has printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")[-3000:]

    def logs(self) -> str:
        """The ends of all logs, for a test that failed."""
        ends = [f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in self._log_files()]
        return "\n".join([self.said(), *ends])

    def remove(self) -> None:
        """End what still runs and delete the data."""
        if self._up is not None and self._up.poll() is None:
            left = self.everything()
            self.end(signal.SIGINT)
            for process in left:
                kill(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _log_files(self) -> list[Path]:
        return sorted(path for path in self.home.logs.glob("*.log") if path.stat().st_size)


def kill(process: psutil.Process) -> None:
    """`kill -9`; PostgreSQL's helpers come and go, so it may have ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def resume(process: psutil.Process) -> None:
    """Let it go on; it may have ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def alive(processes: Sequence[psutil.Process]) -> list[str]:
    """Those of the processes that still run, by what they are."""
    left: list[str] = []
    for each in processes:
        # Between two looks a process may end; a zombie has no command line either.
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                left.append(" ".join(each.cmdline()[:6]))
    return left


def _end_with_parent() -> Callable[[], None] | None:
    """A killed test run must not leave a system behind: Linux signals the child when the parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask


def running(system: System) -> Iterator[System]:
    """For a fixture: it is started, and removed in the end."""
    try:
        asyncio.run(system.start())
        yield system
    finally:
        system.remove()
