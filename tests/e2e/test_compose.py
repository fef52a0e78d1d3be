"""The commands of compose.yaml with its environments, as processes of this machine, from an empty folder of
credentials to an order that is completed: all but the container engine.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from orderflow.core.postgres.sessions import connect
from orderflow.local.authority import Authority, Issued
from orderflow.local.credentials import make_credentials
from orderflow.local.kafka import LocalKafka
from orderflow.local.postgres import EmbeddedPostgres
from orderflow.local.processes import free_port
from orderflow.registry import SAGA
from tests.e2e.shop import VISA, order_of
from tests.support.compose import Composed, composed, prometheus_here
from tests.support.kafka import give_jars
from tests.support.postgres_tls import TlsFront
from tests.support.waiting import eventually

PATIENCE_S = 120.0


class Rehearsal:
    """Where compose.yaml says `kafka:9092` it is a port of this machine."""

    def __init__(self, compose: Composed, folder: Path, postgres_port: int) -> None:
        self.compose = compose
        self.folder = folder
        self.ports = {port: free_port() for port in (9092, 9093, 9094)}
        self._postgres_port = postgres_port

    def environment(self, service: str, **more: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("ORDERFLOW_", "PG"))}
        given = {name: self._here(service, value) for name, value in self.compose.environment(service).items()}
        (self.folder / service).mkdir(exist_ok=True)
        return {**own, **given, "ORDERFLOW_HOST": "0.0.0.0", **more}

    async def run(self, service: str, **more: str) -> asyncio.subprocess.Process:
        command = self._command(service)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orderflow", *command),
            env=self.environment(service, **more),
            cwd=self.folder / service,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    def _command(self, service: str) -> list[str]:
        """A file of options that it names has the paths of this machine, too."""
        command = [self._here(service, each) for each in self.compose.services[service]["command"]]
        if "--admin-options" in command:
            named = command.index("--admin-options") + 1
            options = self.folder / "admin.properties"
            options.write_text(self._here(service, Path(command[named]).read_text()))
            command[named] = str(options)
        return command

    async def done(self, service: str) -> str:
        process = await self.run(service)
        said, wrong = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 0, wrong.decode()
        return said.decode()

    def start_kafka(self, broker: LocalKafka, home: Path) -> None:
        """By the properties that are made for the container, with this machine's ports and folders."""
        broker.prepare()
        text = (self.compose.credentials / "kafka.properties").read_text()
        text = self.compose.here("kafka", text).replace("/var/lib/kafka/data", str(home / "kafka" / "data"))
        text = text.replace("//kafka:", "//127.0.0.1:").replace("://:", "://127.0.0.1:")
        for inside, here in self.ports.items():
            text = re.sub(rf":{inside}\b", f":{here}", text)
        (home / "kafka" / "server.properties").write_text(text)
        broker.port = self.ports[9092]
        broker.spawn()
        broker.wait_ready()

    def _here(self, service: str, text: str) -> str:
        text = self.compose.here(service, text).replace("@postgres:5432", f"@127.0.0.1:{self._postgres_port}")
        for inside, here in self.ports.items():
            text = text.replace(f"kafka:{inside}", f"127.0.0.1:{here}")
        return text


@asynccontextmanager
async def rehearsed(tmp_path: Path, jars: Path) -> AsyncIterator[Rehearsal]:
    """PostgreSQL and Kafka of compose.yaml run, and nothing else yet."""
    make_credentials(tmp_path / "credentials")
    compose = composed(tmp_path / "credentials")
    server = EmbeddedPostgres(tmp_path / "postgres-home", port=free_port())
    give_jars(jars, tmp_path / "kafka-home")
    broker = LocalKafka(tmp_path / "kafka-home", 0, authority=Authority(tmp_path / "unused"))
    async with AsyncExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        named = compose.secrets("postgres")
        issued = Issued(named["postgres_certificate"], named["postgres_key"], named["postgres_key"])
        front = await stack.enter_async_context(TlsFront(int(server.where.rpartition(":")[2]), issued).open())
        rehearsal = Rehearsal(compose, tmp_path, front.port)
        stack.callback(broker.stop)
        rehearsal.start_kafka(broker, tmp_path / "kafka-home")
        # The image makes `postgres` the superuser, with the password of its file.
        password = named["postgres_password"].read_text().strip()
        connection = await connect(server.url(), application_name="test")
        await connection.execute(f"CREATE ROLE postgres SUPERUSER LOGIN PASSWORD '{password}'")
        await connection.close()
        yield rehearsal


async def test_what_compose_starts_completes_an_order(tmp_path: Path, kafka_jars: Path) -> None:
    async with rehearsed(tmp_path, kafka_jars) as rehearsal, AsyncExitStack() as stack:
        assert "5 users have their passwords and rights" in await rehearsal.done("grant")
        assert "migrations applied" in await rehearsal.done("migrate")
        places: dict[str, Mapping[str, Any]] = {}
        for name in SAGA:
            ports = {f"ORDERFLOW_{name.upper()}_PORT": "0"}
            process = await rehearsal.run(name, **ports)
            stack.push_async_callback(_end, process)
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
            assert line, (await process.communicate())[1].decode()
            places[name] = json.loads(line)
        credentials = rehearsal.compose.credentials
        trust = ssl.create_default_context(cafile=credentials / "ca.pem")
        async with httpx2.AsyncClient(verify=trust, trust_env=False, timeout=30) as web:
            stranger = await web.get(f"https://localhost:{places['order']['port']}/orders")
            assert stranger.status_code == 401
            web.headers["authorization"] = f"Bearer {(credentials / 'shop.token').read_text().strip()}"
            url = f"https://localhost:{places['order']['port']}/orders"
            placed = await web.post(url, json=order_of("SKU-ESPRESSO-CUP", 1, VISA, "ada"))
            assert placed.status_code == 201, placed.text

            async def completed() -> bool:
                return bool((await web.get(f"{url}/{placed.json()['id']}")).json()["status"] == "COMPLETED")

            await eventually(completed, timeout_s=PATIENCE_S)
        if (program := shutil.which("prometheus")) is not None:  # Debian's package prometheus has it
            await scraped(program, rehearsal, places, tmp_path)
        probe = ("-m", "orderflow.runtime.probe", f"https://localhost:{places['order']['ops_port']}/health/ready")
        checked = await asyncio.create_subprocess_exec(sys.executable, *probe, str(credentials / "ca.pem"))
        assert await asyncio.wait_for(checked.wait(), PATIENCE_S) == 0


async def scraped(
    program: str, rehearsal: Rehearsal, places: Mapping[str, Mapping[str, Any]], tmp_path: Path
) -> None:
    """A real Prometheus, with the configuration of its container, gets the metrics of all services, and no alert."""
    configuration = prometheus_here(rehearsal.compose, tmp_path)
    text = configuration.read_text().replace("scrape_interval: 15s", "scrape_interval: 1s")
    for number, name in enumerate(SAGA, 1):
        text = text.replace(f"{name}:{8100 + number}", f"localhost:{places[name]['ops_port']}")
    configuration.write_text(text)
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        program,
        *(f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"),
        f"--web.listen-address={address}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://{address}/api/v1", trust_env=False, timeout=30) as web:

            async def ask(expression: str) -> Mapping[str, float]:
                try:
                    reply = await web.get("/query", params={"query": expression})
                except httpx2.TransportError:
                    return {}
                found = reply.json()["data"]["result"] if reply.is_success else ()
                return {each["metric"].get("service", ""): float(each["value"][1]) for each in found}

            async def all_seen() -> bool:
                return await ask('up{job="orderflow"}') == dict.fromkeys(SAGA, 1.0)

            await eventually(all_seen, timeout_s=PATIENCE_S)
            handled = 'sum by (service) (orderflow_messages_total{outcome="handled"})'
            assert set(await ask(handled)) == set(SAGA)
            groups = (await web.get("/rules")).json()["data"]["groups"]
            assert {each["name"] for each in groups} == {"orderflow-records", "orderflow-alerts"}
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.communicate()
