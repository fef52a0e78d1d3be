"""What a service mounts: an application of a framework, in the running service, beside the operations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from orderflow import ServiceContext
from tests.support.callers import ops_url
from tests.support.sample.running import migrate, running, settings
from tests.support.sample.service import SERVICE, Add

LINES = 2_000


def mounts(context: ServiceContext) -> Mapping[str, Any]:
    """An application that does through the context what an operation does."""

    async def add(request: Request) -> Response:
        command = Add(name=request.path_params["name"], amount=(await request.json())["amount"])
        caller = request.scope["orderflow.caller"]
        value = await context.commands.submit(command, caller)
        return JSONResponse({"value": value, "caller": caller.name, "url": str(request.url)}, status_code=201)

    async def lines(_: Request) -> Response:
        rows = await context.database.fetch("SELECT name, value FROM counters")

        async def told() -> AsyncIterator[str]:
            for number in range(LINES):
                yield f"{number} {rows[0]['name']} {rows[0]['value']}\n"

        return StreamingResponse(told(), media_type="text/plain")

    async def broken(_: Request) -> Response:
        raise LookupError("a secret of the application")

    routes = [
        Route("/counters/{name}", add, methods=["POST"]),
        Route("/lines", lines),
        Route("/broken", broken),
    ]
    return {"/admin": Starlette(routes=routes)}


@pytest.fixture
async def client(database_url: str, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    await migrate(database_url)
    async with running(settings(database_url, tmp_path), replace(SERVICE, mounts=mounts)) as service:
        yield service.client


async def test_a_mounted_application_works_with_the_service_that_it_is_mounted_in(client: httpx2.AsyncClient) -> None:
    added = await client.post("/admin/counters/a", json={"amount": 3})
    shown = await client.get("/counters/a")
    lines = await client.get("/admin/lines")

    url = str(client.base_url.join("/admin/counters/a"))
    assert (added.status_code, added.json()) == (201, {"value": 3, "caller": "tests", "url": url})
    assert shown.json() == {"name": "a", "value": 3}
    assert lines.text.splitlines() == [f"{number} a 3" for number in range(LINES)]


async def test_its_answers_are_the_frameworks_own_and_its_faults_stay_its_own(client: httpx2.AsyncClient) -> None:
    missing = await client.get("/admin/nothing")
    refused = await client.get("/admin/counters/a")
    broken = await client.get("/admin/broken")

    assert (missing.status_code, missing.text) == (404, "Not Found")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert broken.status_code == 500
    assert "secret" not in broken.text
    assert (await client.post("/counters/a", json={"amount": 1})).json() == {"name": "a", "value": 1}
    assert (await client.get("/nothing")).headers["content-type"] == "application/problem+json"


async def test_it_is_at_the_public_door_alone(client: httpx2.AsyncClient) -> None:
    assert (await client.get(f"{ops_url(client)}/admin/lines")).status_code == 404
