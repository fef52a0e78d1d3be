"""A whole Orderflow of its own for a benchmark: `orderflow up` on a folder that goes away, on free ports."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orderflow.local.attach import attached
from orderflow.messaging.stores.postgres.connections import connect
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.registry import SAGA
from orderflow.settings import Settings

READY_WITHIN_S = 120.0
LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class System:
    """A running system: `pid` is that of `orderflow up`."""

    pid: int
    transport: str
    ports: Mapping[str, int]
    settings: Settings
    ready_after_s: float


@contextmanager
def running(transport: str, *options: str) -> Iterator[System]:
    """Start everything, wait until it is ready, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="orderflow-bench-") as folder:
        home = Path(folder) / "home"
        ports = dict(zip(SAGA, _free_ports(len(SAGA) + 1), strict=False))
        environ = {**os.environ, "ORDERFLOW_HOME": str(home), "ORDERFLOW_LOG_FORMAT": "json"}
        environ["ORDERFLOW_RETRY_FIRST_MS"] = "200"
        environ |= {f"ORDERFLOW_{name.upper()}_PORT": str(port) for name, port in ports.items()}
        arguments = [sys.executable, "-m", "orderflow", "up", *options]
        if transport == "kafka":
            broker = _free_ports(1)[0]
            environ["ORDERFLOW_KAFKA_BOOTSTRAP"] = f"127.0.0.1:{broker}"
            arguments.append("--kafka")
        started = time.monotonic()
        process = subprocess.Popen(arguments, env=environ, stdout=subprocess.PIPE, text=True)
        try:
            _wait_until_ready(process)
            took = time.monotonic() - started
            settings = attached(Settings.load(environ=environ))
            yield System(process.pid, transport, ports, settings, took)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def wait_until_final(system: System, but: int, timeout_s: float) -> float:
    """Return when all orders but so many are final; the moment (`time.perf_counter`) at which they were seen to be.

    To look must not cost what it looks at: only the index of the unfinished is read.
    """
    query = load_queries("benchmarks", "watch.sql")["count_unfinished"]
    connection = await connect(
        system.settings.service_database_url("order"),
        application_name="orderflow benchmark",
        lookups_only=True,
        settings={"max_parallel_workers_per_gather": "0"},
    )
    try:
        deadline = time.perf_counter() + timeout_s
        while time.perf_counter() < deadline:
            if await connection.fetchval(query) <= but:
                return time.perf_counter()
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await connection.close()
    raise TimeoutError(f"more than {but} orders were not final within {timeout_s:g} s")


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_WITHIN_S
    for line in process.stdout:
        if "Ctrl-C" in line:
            return
        if time.monotonic() > deadline:
            break
    raise RuntimeError("orderflow up did not become ready")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
