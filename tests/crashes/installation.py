"""An installation of its own on servers that many share: four services as processes, started again when they die."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orderflow.local import migration
from orderflow.local.child import tail
from orderflow.local.home import Home
from orderflow.local.services import definition_of
from orderflow.local.transports import make_topics
from orderflow.messaging import crash_points
from orderflow.messaging.stores.postgres.connections import connect, leave
from orderflow.messaging.stores.postgres.installation import installation_of
from orderflow.settings import SERVICES, Settings
from tests.crashes import child
from tests.support.postgres import PostgresServer, free_port
from tests.support.saga import databases

ROOT = Path(__file__).parents[2]
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
CONTROL_PIPE = "--control-pipe"


class Worker:
    """A process of a service. One that dies at a crash point is followed by one that does not die."""

    def __init__(self, installation: Installation, name: str, service: str) -> None:
        self.name = name
        self.service = service
        self.port = free_port()
        self.died = asyncio.Event()
        self.strange: list[str] = []
        self._installation = installation
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, crash_at: str = crash_points.NEVER) -> None:
        """Returns at once."""
        self.died.clear()
        process = await self._spawn(crash_at)
        self._keeper = asyncio.create_task(self._keep(process))

    async def kill(self) -> None:
        """As a power cut. Does nothing to one that does not run."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
            await self._installation.put_out(self.service)

    def drain(self) -> None:
        """Ask it to stop in good order."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        while True:
            code = await process.wait()
            if code == crash_points.EXIT_CODE:
                self.died.set()
            else:
                self.strange.append(f"{self.name} ended with exit status {code}: {self._last_words()}")
            await self._installation.put_out(self.service)
            process = await self._spawn(crash_points.NEVER)

    def _last_words(self) -> str:
        return tail(self._installation.folder / f"{self.name}.stderr", 200).strip()

    async def _spawn(self, crash_at: str) -> asyncio.subprocess.Process:
        folder = self._installation.folder
        with (folder / f"{self.name}.stderr").open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *self._installation.command,
                *("run", self.service, "--port", str(self.port), CONTROL_PIPE),
                env=self._installation.environment(crash_at=crash_at, log_file=folder / f"{self.name}.log"),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
            )
        return self._process


class Installation:
    """Databases, topics and processes of its own; without `bootstrap` the log is in PostgreSQL. `planted` are changes
    of `tests.crashes.child`.
    """

    def __init__(self, server: PostgresServer, bootstrap: str | None, planted: Sequence[str] = ()) -> None:
        self.log = "postgres" if bootstrap is None else "kafka"
        self.folder = Path(tempfile.mkdtemp(prefix="orderflow-crashes-"))
        Home.open(self.folder / "home")
        self._planted = list(planted)
        self._parts = ExitStack()
        self._parts.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.urls = self._parts.enter_context(databases(server, *SERVICES)).urls
        self._bootstrap = bootstrap
        self._prefix = f"crashes-{uuid4().hex[:8]}."
        self.workers = {name: Worker(self, name, name) for name in SERVICES}
        self._admin = AdminClient({"bootstrap.servers": bootstrap}) if bootstrap else None

    async def prepare(self) -> None:
        """Make tables and topics."""
        settings = self.settings()
        await migration.migrate(settings)
        connection = await connect(self.urls["order"], application_name="tests")
        try:
            installation = await installation_of(connection.fetch)
        finally:
            await leave(connection)
        assert installation is not None
        await make_topics(settings, installation)

    @property
    def command(self) -> list[str]:
        """What starts `orderflow`."""
        program = [child.MODULE, ",".join(self._planted)] if self._planted else ["orderflow"]
        return [sys.executable, "-m", *program]

    def change(self, planted: str) -> None:
        """Plant something more in what is started from now on."""
        if planted not in self._planted:
            self._planted.append(planted)

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
        self._parts.close()

    async def put_out(self, service: str) -> None:
        """Have the brokers put a dead process out of its groups at once: a session time-out takes them 10 s."""
        if self._admin is not None:
            await asyncio.to_thread(self._put_out, service)

    def _put_out(self, service: str) -> None:
        assert self._admin is not None
        groups = [self._prefix + each.consumer for each in definition_of(service).service.subscriptions]
        for group, future in self._admin.describe_consumer_groups(groups).items():
            try:
                members = [member.member_id for member in future.result(timeout=10).members]
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
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.makefile("rb")
        (size,) = struct.unpack(">i", answer.read(4))
        _, _, error = struct.unpack(">iih", answer.read(size)[:10])
    assert error == 0, f"LeaveGroup: error {error}"


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()
