"""What one might pick instead: the same saga on other libraries, as their documents advise, on the same PostgreSQL.

Each peer commits what it has done before it says so, with fsync on, and each of its steps can be repeated. Its
programs are in `apps/`; they run in an environment of their own, made from `requirements.txt` with each run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.counting import SERVER
from benchmarks.latency import order_times, orders_at_once
from benchmarks.load import Pool, get, percentile
from benchmarks.system import HERE, SERVICES, free_ports, running, say
from tests.support.kafka import KafkaServer, fetch_jars
from tests.support.postgres import PostgresServer

APPS = Path(__file__).parent / "apps"
DATABASES = (*SERVICES, "bank", "workflows")
TOPICS = ("order-events", "payment-status", "inventory-status")
RATE = 50
IN_FLIGHT = 64
READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """`app` is a module of `apps/`; `lacks` what one has to build oneself to have what Orderflow promises."""

    title: str
    app: str
    services: tuple[str, ...]
    kafka: bool
    lacks: str


PEERS: Mapping[str, Recipe] = {
    "requests": Recipe(
        "FastAPI + asyncpg, four services, one transaction a request",
        "requests_app",
        SERVICES,
        False,
        "a crash between two calls leaves the order where it was: nobody goes on with it",
    ),
    "messages": Recipe(
        "FastStream on Kafka, four services, one transaction a message",
        "messages_app",
        SERVICES,
        True,
        "an outbox (a crash after a commit loses the message), order a key under retries, dead letters",
    ),
    "workflow": Recipe(
        "DBOS, one durable workflow, one process",
        "workflow_app",
        ("order",),
        False,
        "services apart, each with its own log; batches",
    ),
}


@dataclass(frozen=True, slots=True)
class Peer:
    """`cpu_ms` of everything but the client, an order at 50/s; `rate` orders/s, as many in flight as clients."""

    title: str
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    rate: float
    lacks: str

    def row(self) -> list[str]:
        latency = f"{self.p50_ms:.0f} / {self.p99_ms:.0f} ms"
        return [self.title, latency, f"{self.cpu_ms:.1f} ms", f"{self.rate:,.0f}", self.lacks]


def measure_peer(name: str, orders: int, seconds: float) -> Peer:
    """Start it, take its figures, and stop it."""
    recipe = PEERS[name]
    say(f"peer: {recipe.title}")
    with _started(recipe) as port:
        return asyncio.run(_measure(recipe.title, port, orders, seconds, recipe.lacks))


def measure_ourselves(orders: int, seconds: float) -> Peer:
    """Orderflow, by the same client."""
    with running(HERE, "postgres") as system:
        return asyncio.run(_measure("Orderflow, log in PostgreSQL", system.ports["order"], orders, seconds, ""))


async def _measure(title: str, port: int, orders: int, seconds: float, lacks: str) -> Peer:
    await orders_at_once(port, IN_FLIGHT, max(IN_FLIGHT, orders // 10))
    before = _children_cpu_s()
    times = await order_times(port, RATE, seconds)
    cpu_ms = 1000 * (_children_cpu_s() - before) / len(times)
    started = time.perf_counter()
    await orders_at_once(port, IN_FLIGHT, orders)
    rate = orders / (time.perf_counter() - started)
    return Peer(title, 1000 * percentile(times, 0.5), 1000 * percentile(times, 0.99), cpu_ms, rate, lacks)


@contextmanager
def _started(recipe: Recipe) -> Iterator[int]:
    """Its services on a PostgreSQL of their own; the port of the one that takes orders."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orderflow-peer-")))
        python = _environment(folder / "venv")
        server = PostgresServer(SERVER)
        stack.callback(server.remove)
        server.start()
        for name in DATABASES:
            server.create_database(name)
        environ = {**os.environ, "SERVER": server.url().removesuffix("/postgres")}
        if recipe.kafka:
            environ["BROKER"] = _start_broker(stack, folder)
        ports = dict(zip(recipe.services, free_ports(len(recipe.services)), strict=True))
        environ |= {f"PORT_{name}": str(port) for name, port in ports.items()}
        for name, port in ports.items():
            command = [str(python), "-m", "uvicorn", f"{recipe.app}:app", "--port", str(port)]
            quiet = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
            process = subprocess.Popen(
                [*command, *quiet], cwd=APPS, env={**environ, "SERVICE": name, "PYTHONDONTWRITEBYTECODE": "1"}
            )
            stack.callback(_stop, process)
        asyncio.run(_until_ready(list(ports.values())))
        yield ports["order"]


def _environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    requirements = Path(__file__).parent / "requirements.txt"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)], check=True)
    return python


def _start_broker(stack: ExitStack, folder: Path) -> str:
    jars = folder / "jars"
    jars.mkdir()
    broker = KafkaServer(fetch_jars(jars))
    stack.callback(broker.remove)
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic(name, 6, 1) for name in TOPICS]).values():
        future.result(timeout=30)
    return broker.bootstrap


async def _until_ready(ports: list[int]) -> None:
    """Return when each answers anything at all."""
    deadline = time.monotonic() + READY_WITHIN_S
    for port in ports:
        while True:
            try:
                await Pool(port).request(get("/docs"))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _children_cpu_s() -> float:
    """CPU seconds of all that this process has started and that still runs."""
    spent = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system + times.children_user + times.children_system
    return spent
