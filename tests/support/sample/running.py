"""The counting service in this event loop, on real databases, on a free port."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from orderflow import Service
from orderflow.core import postgres_log
from orderflow.core.postgres import schema
from orderflow.runtime.process import run_service
from orderflow.settings import Settings
from tests.support import callers
from tests.support.callers import token_in
from tests.support.sample.service import SERVICE
from tests.support.waiting import eventually


def settings(url: str, home: Path, **overrides: object) -> Settings:
    """One database for everything: service and log have tables of different names."""
    given: Mapping[str, object] = {
        "order_database_url": url,
        "log_database_url": url,
        "log_file": home / "service.log",
        "log_format": "json",
        "drain_timeout_s": 5,
        "order_port": 0,
    }
    return Settings.load(environ={}, home=home, overrides={**given, **overrides})


async def migrate(url: str) -> None:
    await schema.migrate(url, schema.schema_of(SERVICE))
    await postgres_log.migrate(url)


@dataclasses.dataclass
class Running:
    """A service that was announced. `client` talks to it."""

    port: int
    ops_port: int
    client: httpx2.AsyncClient
    stop: asyncio.Event
    task: asyncio.Task[int]


@asynccontextmanager
async def running(wanted: Settings, service: Service = SERVICE) -> AsyncIterator[Running]:
    """Starts it and, at the end, stops it in good order."""
    announced: list[dict[str, Any]] = []
    stop = asyncio.Event()
    task = asyncio.create_task(run_service(service, wanted, announce=announced.append, stop=stop))
    try:
        await eventually(lambda: announced or task.done())
        assert announced, f"it ended with {task.result()}"
        port, ops_port = announced[0]["port"], announced[0]["ops_port"]
        scheme = "http" if wanted.tls_certificate_file is None else "https"
        async with callers.client(port, ops_port, token_in(wanted.home), 60, scheme=scheme) as client:
            yield Running(port, ops_port, client, stop, task)
            stop.set()
            await task
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)
