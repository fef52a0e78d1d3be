"""A real system that can be hurt at every part: services as processes, their databases behind links, a log."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx2

from orderflow.chaos.proxy import Address, ProxiedLink
from orderflow.chaos.system import SmallDisk
from orderflow.core.postgres.schema import installation_of
from orderflow.core.postgres.sessions import connect, leave
from orderflow.local import preparation
from orderflow.local.home import Home, database_name
from orderflow.local.processes import free_port
from orderflow.registry import SAGA
from orderflow.settings import Settings
from tests.e2e.shop import Shop
from tests.support.callers import token_in
from tests.support.kafka import KafkaServer
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually

START_TIMEOUT_S = 90.0
COMMAND_TIMEOUT_S = 120.0
PARTITIONS = 2
PLENTY, NONE = "PLENTY", "NONE"
QUICK: Mapping[str, object] = {
    "attempts_max": 4,
    "demo_catalogue": "false",
    "drain_timeout_s": 5,
    "game_day": "true",
    "gateway_timeout_ms": 2_000,
    "log_format": "json",
    "partitions": PARTITIONS,
    "retry_ceiling_ms": 4_000,
    "retry_first_ms": 2_000,
}


class Told(NamedTuple):
    """What a command has said, and its exit code."""

    code: int
    stdout: str
    stderr: str


class ServiceProcess:
    """The process of a service. Nobody starts it again when it has ended."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        self.port, self.ops_port = free_port(), free_port()
        self._stage = stage
        self._process: Process | None = None

    async def start(self, environment: Mapping[str, str] | None = None, **settings: object) -> None:
        """With these settings and variables beside the others. Returns at once."""
        log_file = Home(self._stage.home).logs / f"{self.name}.log"
        given = {f"{self.name}_ops_port": self.ops_port, "log_file": log_file, **settings}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orderflow", "run", self.name, "--port", str(self.port), "--control-pipe"),
            env={**self._stage.environment(**given), **(environment or {})},
            cwd=self._stage.folder,
            # It ends when we do.
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=DEVNULL,
        )

    async def ready(self) -> None:
        """Returns when it says that all is well."""
        await eventually(self.is_ready, timeout_s=START_TIMEOUT_S, every_s=0.1)

    async def is_ready(self) -> bool:
        try:
            answer = await self._stage.shop.raw("GET", self.name, "/health/ready")
        except httpx2.TransportError:
            return False
        return answer.status_code == 200

    async def ended(self) -> int:
        """Wait for its end; returns its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """In good order."""
        self._send(signal.SIGTERM)
        await self.ended()

    async def restart(self, environment: Mapping[str, str] | None = None, **settings: object) -> None:
        await self.stop()
        await self.start(environment, **settings)
        await self.ready()

    async def kill(self) -> None:
        """Does nothing to one that was never started."""
        if self._process is not None:
            self._send(signal.SIGKILL)
            await self.ended()

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


class Stage:
    """Four services on a server of their own, whose data may lie on a `disk` that can be full. Between them and each
    database stands a link that can be troubled; `kafka` carries the events, or without it a database.
    """

    def __init__(
        self, server: PostgresServer, kafka: KafkaServer | None = None, disk: SmallDisk | None = None
    ) -> None:
        self.server = server
        self.kafka = kafka
        self.disk = disk
        self.folder = Path(tempfile.mkdtemp(prefix="orderflow-causes-"))
        self.home = self.folder / "home"
        Home.open(self.home)
        self.shop = Shop(self)
        self.services = {name: ServiceProcess(self, name) for name in SAGA}
        self._installation: UUID | None = None
        names = [*SAGA, "bank", "log"]
        self.links = {name: ProxiedLink(name, partial(_at, ("127.0.0.1", server.port))) for name in names}

    async def open(self) -> None:
        """Make databases, tables and topics, start the services, and have something to sell."""
        for link in self.links.values():
            await link.open()
        await preparation.make_roles_and_databases(self.server.url(), list(self.links), lambda _: None)
        settings = self.settings()
        await preparation.migrate(settings)
        connection = await connect(self._url("order", self.server.port), application_name="tests")
        try:
            found = await installation_of(connection.fetch)
        finally:
            await leave(connection)
        assert found is not None
        self._installation = found
        await self.make_topics()
        for service in self.services.values():
            await service.start()
        for service in self.services.values():
            await service.ready()
        await self.shop.stock(PLENTY, 1_000_000)
        await self.shop.stock(NONE, 0)

    async def make_topics(self) -> None:
        """Those that are missing."""
        assert self._installation is not None
        await preparation.make_topics(self.settings(), self._installation)

    async def close(self) -> None:
        for service in self.services.values():
            await service.kill()
        await self.shop.close()
        for link in self.links.values():
            await link.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.services[name].port}"

    def ops_url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.services[name].ops_port}"

    def token(self) -> str:
        return token_in(self.home)

    def settings(self) -> Settings:
        """By which another program joins what runs."""
        return Settings.load(environ=self._given())

    def environment(self, **others: object) -> dict[str, str]:
        """What a process of it gets to know."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
        return {**inherited, **self._given(), **_variables(others)}

    async def command(self, *arguments: str) -> Told:
        """`orderflow ...`, as an operator on this home gives it."""
        addresses = {f"{name}_url": self.url(name) for name in SAGA}
        addresses |= {f"{name}_ops_url": self.ops_url(name) for name in SAGA}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orderflow", *arguments),
            env=self.environment(**addresses, token=self.token()),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            stdout, stderr = await process.communicate()
        return Told(process.returncode or 0, stdout.decode(), stderr.decode())

    async def done(self, *arguments: str) -> str:
        """The same, which has to succeed; returns what it says."""
        told = await self.command(*arguments)
        assert told.code == 0, f"{' '.join(arguments)}: {told.stderr or told.stdout}"
        return told.stdout

    @asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Of the database's owner, past the link; what it holds is let go at the end."""
        connection = await asyncpg.connect(
            self._url(name, self.server.port), server_settings={"application_name": "a session of tests"}
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=10)

    def administer(self, name: str, statement: str) -> str:
        """One statement of the server's administrator, in the database of `name`."""
        return self.server.execute(statement, database_name(name))

    def end_sessions(self, name: str) -> None:
        """Of everybody, at the database of `name`."""
        self.server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database_name(name)}'"
        )

    def _url(self, name: str, port: int) -> str:
        owner = database_name(name)
        return f"postgresql://{quote(owner)}@127.0.0.1:{port}/{quote(owner)}"

    def _given(self) -> dict[str, str]:
        urls = {f"{name}_database_url": self._url(name, link.port) for name, link in self.links.items()}
        log: dict[str, object] = {"transport": "postgres"}
        if self.kafka is not None:
            log = {"transport": "kafka", "kafka_bootstrap": self.kafka.bootstrap}
        return _variables({**QUICK, **urls, **log, "home": self.home})


def _variables(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"ORDERFLOW_{name.upper()}": str(value) for name, value in settings.items()}


def _at(address: Address) -> Address:
    return address


@asynccontextmanager
async def standing(
    server: PostgresServer, kafka: KafkaServer | None = None, disk: SmallDisk | None = None
) -> AsyncIterator[Stage]:
    """A stage on which everything runs and is well."""
    async with AsyncExitStack() as parts:
        stage = Stage(server, kafka, disk)
        parts.push_async_callback(stage.close)
        await stage.open()
        yield stage
