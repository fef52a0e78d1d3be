"""What the four services serve, against what their OpenAPI documents say: Schemathesis, all checks, stateful.

What all services share is tried on the order service; that it is the same everywhere, the documents say themselves.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orderflow.core.transport import ProducerRecord
from orderflow.events.base import PAYMENT_STATUS
from scripts.lint_api import documents
from tests.support.callers import ops_url, token_in
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases, running, wire
from tests.support.waiting import eventually

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / "tests" / "support" / "schemathesis" / "schemathesis.toml"
PROGRAM = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
SHARED = ("/docs", "/health", "/metrics", "/openapi.json", "/ops")
HELD = {"/ops/orders/{order_id}/records"}
"""Its example is each service's own."""
OF_ONE = {"order": {"/ops/customers/erase", "/ops/customers/orders", "/ops/order-states"}}
DEAD = 8
"""The examples speak of the position 7."""
TIMEOUT_S = 600


@pytest.fixture
def everything(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, *SERVICES) as made:
        yield made


@pytest.fixture
async def served(everything: Databases, tmp_path: Path) -> AsyncIterator[dict[str, httpx2.AsyncClient]]:
    """All four, on a game day, one of them with events that nobody can read."""
    await everything.migrate()
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(running(name, everything, tmp_path, game_day=True))
            for name in SERVICES
        }
        log = await stack.enter_async_context(wire(everything))
        for number in range(DEAD):
            await log.append(ProducerRecord(PAYMENT_STATUS, f"{number}".encode(), b"{", ()))

        async def dead() -> list[Any]:
            answer = await clients["order"].get("/ops/dead-letters")
            found: list[Any] = answer.json()["dead_letters"]
            assert len(found) == DEAD
            return found

        await eventually(dead)
        yield clients


async def test_what_is_served_is_what_the_documents_say(
    served: dict[str, httpx2.AsyncClient], tmp_path: Path
) -> None:
    told = {name: (await client.get("/openapi.json")).json() for name, client in served.items()}
    async with httpx2.AsyncClient() as web:
        for name, client in served.items():
            told[f"{name}-ops"] = (await web.get(f"{ops_url(client)}/openapi.json")).json()
    assert told == documents()
    shared = [
        {path: what for path, what in told[f"{name}-ops"]["paths"].items() if path.startswith(SHARED)}
        for name in SERVICES
    ]
    assert all(shared[-1].keys() <= paths.keys() for paths in shared)
    for name, paths in zip(SERVICES, shared, strict=True):
        assert {path for path in paths if paths[path] != shared[-1].get(path)} <= OF_ONE.get(name, set()) | HELD, name

    async def others() -> list[str]:
        own = "^/(?!(docs|health|metrics|openapi|ops))"
        return [
            await conformance(f"{name}, {url}", url, tmp_path, "--include-path-regex", own)
            for name in SERVICES
            if name != "order"
            for url in (str(served[name].base_url), ops_url(served[name]))
            if name != "notification" or url != ops_url(served[name])
        ]

    order = served["order"]
    at_both = [conformance("order", url, tmp_path) for url in (str(order.base_url), ops_url(order))]
    found, more = await asyncio.gather(asyncio.gather(*at_both), others())
    said = "\n".join(each for each in [*found, *more] if each)
    assert not said, said


async def conformance(name: str, url: str, folder: Path, *options: str) -> str:
    """What Schemathesis says of a service; "" when all is well."""
    document, token = f"{url.rstrip('/')}/openapi.json", f"Authorization: Bearer {token_in(folder)}"
    checks = ["--checks", "all", "--max-examples", "6", "--no-color"]
    arguments = ["--config-file", str(CONFIG), "run", document, "-H", token, *checks]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *arguments,
        *options,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode()
    if process.returncode == 0 and "passed" in text:
        return ""
    return f"{name}, status {process.returncode}:\n{text}"
