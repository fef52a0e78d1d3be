"""An installation of its own on servers that many share: four services as processes, started again when they die."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orderflow.core import crash_points
from orderflow.core.postgres.schema import installation_of
from orderflow.core.postgres.sessions import connect, leave
from orderflow.local import preparation
from orderflow.local.home import Home
from orderflow.local.preparation import make_topics
from orderflow.local.processes import free_port, tail
from orderflow.registry import SAGA, service_of
from orderflow.settings import Settings
from tests.crashes.nursery import Child, Nursery
from tests.support.postgres import PostgresServer
from tests.support.saga import databases

QUICK: Mapping[str, object] = {
    "attempts_max": 2,
    "demo_catalogue": "false",
    "drain_timeout_s": 5,
    "game_day": "true",
    "gateway_timeout_ms": 500,
    "intent_lease_ms": 1500,
    "log_format": "json",
    "partitions": 2,
    "retry_ceiling_ms": 500,
    "retry_first_ms": 100,
}
LEAVE_GROUP = 13


class Worker:
    """A process of a service. One that dies at a crash point is followed by one that does not die."""

    def __init__(self, installation: Installation, name: str, service: str) -> None:
        self.name = name
        self.service = service
        self.port = free_port()
        self.died = asyncio.Event()
        self.strange: list[str] = []
        self._installation = installation
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, crash_at: str = crash_points.NEVER) -> None:
        """Returns at once."""
        self.died.clear()
        self._child = await self._spawn(crash_at)
        self._keeper = asyncio.create_task(self._keep(self._child))

    async def kill(self) -> None:
        """As a power cut. Does nothing to one that does not run."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        child, self._child = self._child, None
        if child is not None:
            child.send(signal.SIGKILL)
            await child.ended
            await self._installation.put_out(self.service)

    def drain(self) -> None:
        """Ask it to stop in good order."""
        if self._child is not None:
            self._child.send(signal.SIGTERM)

    async def _keep(self, child: Child) -> None:
        while True:
            code = await asyncio.shield(child.ended)
            if code == crash_points.EXIT_CODE:
                self.died.set()
            else:
                said = tail(self._stderr, 200).strip()
                self.strange.append(f"{self.name} ended with exit status {code}: {said}")
            await self._installation.put_out(self.service)
            child = self._child = await self._spawn(crash_points.NEVER)

    async def _spawn(self, crash_at: str) -> Child:
        environment = self._installation.environment(
            crash_at=crash_at, log_file=self._installation.folder / f"{self.name}.log"
        )
        arguments = ["run", self.service, "--port", str(self.port)]
        return await self._installation.nursery.spawn(arguments, environment, self._stderr)

    @property
    def _stderr(self) -> Path:
        return self._installation.folder / f"{self.name}.stderr"


class Installation:
    """Databases, topics and processes of its own; without `bootstrap` the log is in PostgreSQL. `planted` are changes
    of `tests.crashes.nursery`.
    """

    def __init__(self, server: PostgresServer, bootstrap: str | None, planted: Sequence[str] = ()) -> None:
        self.log = "postgres" if bootstrap is None else "kafka"
        self.folder = Path(tempfile.mkdtemp(prefix="orderflow-crashes-"))
        Home.open(self.folder / "home")
        self.nursery = Nursery(planted)
        self._planted = list(planted)
        self._parts = ExitStack()
        self._parts.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.urls = self._parts.enter_context(databases(server, *SAGA)).urls
        self._bootstrap = bootstrap
        self._prefix = f"crashes-{uuid4().hex[:8]}."
        self.workers = {name: Worker(self, name, name) for name in SAGA}
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}) if bootstrap else None

    async def prepare(self) -> None:
        """Make tables and topics."""
        settings = self.settings()
        await preparation.migrate(settings)
        connection = await connect(self.urls["order"], application_name="tests")
        try:
            installation = await installation_of(connection.fetch)
        finally:
            await leave(connection)
        assert installation is not None
        await make_topics(settings, installation)

    async def change(self, planted: str) -> None:
        """Plant something more. Everything is killed, and runs again with it."""
        if planted in self._planted:
            return
        self._planted.append(planted)
        await asyncio.gather(*(worker.kill() for worker in self.workers.values()))
        await self.nursery.close()
        self.nursery = Nursery(self._planted)
        for worker in self.workers.values():
            await worker.start()

    async def migrate(self, crash_at: str) -> int:
        """`orderflow migrate` to its end; returns the exit code."""
        environment = self.environment(crash_at=crash_at)
        child = await self.nursery.spawn(["migrate"], environment, self.folder / "migrate.stderr")
        return await child.ended

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.workers[name].port}"

    def settings(self) -> Settings:
        """By which another program joins what runs."""
        return Settings.load(environ=self._given())

    def environment(self, **others: object) -> dict[str, str]:
        """What a process of it gets to know."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
        given = {f"ORDERFLOW_{name.upper()}": str(value) for name, value in others.items()}
        return {**inherited, **self._given(), **given}

    async def remove(self) -> None:
        """End everything and drop the databases."""
        await asyncio.gather(*(worker.kill() for worker in self.workers.values()))
        await self.nursery.close()
        self._parts.close()

    async def put_out(self, service: str) -> None:
        """Have the brokers put a dead process out of its groups at once: a session time-out takes them 10 s."""
        if self._admin is not None:
            await asyncio.to_thread(self._put_out, service)

    def _put_out(self, service: str) -> None:
        assert self._admin is not None
        groups = [self._prefix + each.consumer for each in service_of(service).subscriptions]
        for group, future in self._admin.describe_consumer_groups(groups).items():
            try:
                members = [member.member_id for member in future.result(timeout=60).members]
            except KafkaException:
                continue
            if members:
                assert self._bootstrap is not None
                leave_group(self._bootstrap, group, members)

    def _given(self) -> dict[str, str]:
        given = {f"{name}_database_url": url for name, url in self.urls.items()}
        log = {"kafka_bootstrap": self._bootstrap} if self._bootstrap else {}
        own = {"home": self.folder / "home", "transport": self.log, "topic_prefix": self._prefix}
        every = {**QUICK, **given, **log, **own}
        return {f"ORDERFLOW_{name.upper()}": str(value) for name, value in every.items()}


def leave_group(bootstrap: str, group: str, members: Sequence[str]) -> None:
    """Kafka's LeaveGroup, version 3, for others. Source: Apache Kafka, "Protocol", Messages."""
    body = _text(group) + struct.pack(">i", len(members))
    body += b"".join(_text(member) + struct.pack(">h", -1) for member in members)
    request = struct.pack(">hhi", LEAVE_GROUP, 3, 1) + _text("tests") + body
    host, _, port = bootstrap.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.makefile("rb")
        (size,) = struct.unpack(">i", answer.read(4))
        _, _, error = struct.unpack(">iih", answer.read(size)[:10])
    assert error == 0, f"LeaveGroup: error {error}"


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()
