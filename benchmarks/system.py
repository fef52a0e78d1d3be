"""A whole Orderflow for a benchmark, driven as its users drive it: `orderflow up` on a folder that goes away.

Nothing here imports what it measures: a release is a folder with an environment, so that releases that are built
quite differently stand side by side.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg

SERVICES = ("order", "payment", "inventory", "notification")
READY_WITHIN_S = 120.0
LOOK_EVERY_S = 0.02
ROOT = Path(__file__).parents[1]
COUNT_UNFINISHED = "SELECT count(*) FROM orders WHERE status IN ('PENDING', 'PAID')"

PORTS = range(20_000, 32_000)
"""No system gives these to clients by itself: a port of one of them may be taken before its server listens."""

OPS_PORT_ABOVE = 100


@dataclass(frozen=True, slots=True)
class Release:
    """A checkout with the environment that `bootstrap.py` makes; `name` is what the tables call it."""

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ".venv" / "bin" / "python"

    def command(self, *arguments: str) -> list[str]:
        """`orderflow ...` of this release."""
        return [str(self.python), "-m", "orderflow", *arguments]


HERE = Release("this tree", ROOT)


@dataclass(frozen=True, slots=True)
class System:
    """A running system: `pid` is that of `orderflow up`, `server` the PostgreSQL server's URL if it was given one."""

    release: Release
    transport: str
    home: Path
    pid: int
    ports: Mapping[str, int]
    ready_after_s: float
    server: str | None

    def database_url(self, name: str) -> str:
        """Of a service, of `log` or of `bank`."""
        role = f"orderflow_{name}"
        if self.server is not None:
            return f"{self.server}/{role}"
        where = json.loads((self.home / "state.json").read_text())["postgres"]
        password = json.loads((self.home / "secrets.json").read_text())[role]
        return f"postgresql://{role}:{quote(password, safe='')}@/{role}?{urlencode({'host': where, 'port': 5432})}"

    def orderflow(self, *command: str) -> Any:
        """What a command says, in JSON. Raises RuntimeError with what it says when it fails."""
        done = subprocess.run(
            self.release.command(*command, "--home", str(self.home), "--json"),
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"orderflow {' '.join(command)}: {done.stderr or done.stdout}")
        return json.loads(done.stdout)


@contextmanager
def running(
    release: Release,
    transport: str,
    *options: str,
    server: str | None = None,
    database_url: str | None = None,
    settings: Mapping[str, str] | None = None,
    prepare: Callable[[Path], None] | None = None,
) -> Iterator[System]:
    """Start everything, wait until it is ready, and stop it at the end.

    `server`: URL of a PostgreSQL server without a database's name; without it the embedded one. `database_url`: how
    the system reaches it, if otherwise (through a proxy). `settings`: variables of its environment. `prepare` gets
    the home before it is used.
    """
    with tempfile.TemporaryDirectory(prefix="orderflow-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        *numbers, broker = free_ports(len(SERVICES) + 1)
        ports = dict(zip(SERVICES, numbers, strict=True))
        environ = _environment() | {f"ORDERFLOW_{name.upper()}_PORT": str(port) for name, port in ports.items()}
        environ |= {"ORDERFLOW_HOME": str(home), "ORDERFLOW_LOG_FORMAT": "json", **(settings or {})}
        arguments = [*options, *(["--database-url", database_url or server] if server else [])]
        if transport == "kafka":
            environ["ORDERFLOW_KAFKA_BOOTSTRAP"] = f"127.0.0.1:{broker}"
            arguments.append("--kafka")
        if prepare is not None:
            prepare(home)
        started = time.monotonic()
        with _up(release.command("up", *arguments), environ, folder) as pid:
            yield System(release, transport, home, pid, ports, time.monotonic() - started, server)


@contextmanager
def _up(command: Sequence[str], environ: Mapping[str, str], folder: str) -> Iterator[int]:
    """Start it and return when it is ready; end it in good order."""
    with subprocess.Popen(command, env=environ, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            _wait_until_ready(process)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def wait_until_final(system: System, but: int, timeout_s: float) -> float:
    """Return when all orders but so many are final; the moment (`time.perf_counter`) at which they were seen to be.

    To look must not cost what it looks at: only the index of the unfinished is read.
    """
    connection = await asyncpg.connect(
        system.database_url("order"), server_settings={"max_parallel_workers_per_gather": "0"}
    )
    try:
        deadline = time.perf_counter() + timeout_s
        while time.perf_counter() < deadline:
            if await connection.fetchval(COUNT_UNFINISHED) <= but:
                return time.perf_counter()
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await connection.close()
    raise TimeoutError(f"more than {but} orders were not final within {timeout_s:g} s")


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on, nor on the one `OPS_PORT_ABOVE` each, where operators are served."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            pair = [held.enter_context(socket.socket()) for _ in range(2)]
            with suppress(OSError):
                for each, number in zip(pair, (port, port + OPS_PORT_ABOVE), strict=True):
                    each.bind(("127.0.0.1", number))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"{count} free ports from {PORTS[0]} to {PORTS[-1]} were not found")


def say(text: str) -> None:
    """What is going on, for who waits."""
    print(text, file=sys.stderr, flush=True)


def _environment() -> dict[str, str]:
    """Without settings of the person who measures."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_WITHIN_S
    for line in process.stdout:
        if "Ctrl-C" in line:
            return
        if time.monotonic() > deadline:
            break
    raise RuntimeError("orderflow up did not become ready")
