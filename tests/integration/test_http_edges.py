"""A whole service in one process: real PostgreSQL, the log kept there, real HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from orderflow.runtime.process import ProcessExit, run_service
from tests.support.postgres import PostgresServer
from tests.support.sample.running import Running, migrate, running, settings
from tests.support.sample.service import SERVICE
from tests.support.waiting import eventually


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    await migrate(database_url)
    async with running(settings(database_url, tmp_path)) as started:
        yield started


async def test_a_command_is_answered_after_the_commit_and_can_be_read(service: Running) -> None:
    created = await service.client.post("/counters/a", json={"amount": 3})
    assert created.status_code == 201, created.text
    assert created.json() == {"name": "a", "value": 3}
    assert (await service.client.get("/counters/a")).json() == {"name": "a", "value": 3}


async def test_every_error_is_a_problem_document(service: Running) -> None:
    cases = [
        await service.client.post("/counters/a", json={"amount": 0}),
        await service.client.post("/counters/a", json={"amount": -1}),
        await service.client.post("/counters/a", json={"amount": 2000}),
        await service.client.post("/counters/a", json={"amount": 5000}),
        await service.client.get("/counters/none"),
        await service.client.get("/nowhere"),
        await service.client.delete("/counters/a"),
        await service.client.get("/ops/dead-letters?limit=0"),
        await service.client.get("/ops/dead-letters/not-an-id"),
        await service.client.get("/docs/files/none.js"),
    ]
    assert [case.status_code for case in cases] == [409, 500, 500, 422, 404, 404, 405, 422, 404, 404]
    for case in cases:
        assert case.headers["content-type"] == "application/problem+json"
        assert case.headers["x-content-type-options"] == "nosniff"
        problem = case.json()
        assert (problem["status"], problem["instance"]) == (case.status_code, case.request.url.path)
        assert problem["title"]
    assert cases[3].json()["errors"][0]["pointer"] == "/amount"
    assert cases[6].headers["allow"] == "GET, HEAD, POST"


async def test_operators_see_outbox_lag_and_what_is_stuck(service: Running) -> None:
    await service.client.post("/counters/a", json={"amount": 1})

    async def consumed() -> bool:
        lag = (await service.client.get("/ops/lag")).json()
        assert {entry["consumer"] for entry in lag} == {"sample"}
        assert sum(entry["end"] for entry in lag) == 1
        return bool(sum(entry["lag"] for entry in lag) == 0)

    await eventually(consumed)
    assert (await service.client.get("/ops/outbox")).json() == {"unsent": 0, "oldest_ms": 0}
    assert (await service.client.get("/ops/stuck")).json() == []
    assert (await service.client.get("/ops/dead-letters")).json() == {"dead_letters": [], "next": None, "confirm": ""}


async def test_metrics_tell_of_messages_requests_outbox_and_lag(service: Running) -> None:
    await service.client.post("/counters/a", json={"amount": 1})

    async def told() -> bool:
        text = (await service.client.get("/metrics")).text
        wanted = (
            'orderflow_messages_total{consumer="sample",event_type="sample.Added.v1",outcome="handled"} 1.0',
            'orderflow_http_requests_total{method="POST",route="/counters/{name}",status="201"} 1.0',
            "orderflow_outbox_unsent 0.0",
            'orderflow_consumer_lag{consumer="sample",partition="0",topic="counts"} 0.0',
            'orderflow_pool_waiting{pool="work"} 0.0',
            'orderflow_pool_limit{pool="reads"} 4.0',
            'orderflow_queue_length{queue="commands"} 0.0',
            'orderflow_queue_length{queue="paused sample"} 0.0',
        )
        for line in wanted:
            assert line in text
        return True

    await eventually(told)


async def test_the_log_has_a_line_a_message_with_its_trace(service: Running, tmp_path: Path) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    await service.client.post(
        "/counters/a", json={"amount": 1}, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )

    async def consumed() -> bool:
        log = (tmp_path / "service.log").read_text()
        own = [line for line in map(msgspec.json.decode, log.splitlines()) if line.get("trace_id") == trace]
        backlog = [(await service.client.get(f"/ops/{path}")).text for path in ("outbox", "lag")]
        assert [line["event_type"] for line in own] == ["sample.Add.v1", "sample.Added.v1"], (log, backlog)
        assert own[0]["caused"] == ["sample.Added"]
        assert own[1]["topic"] == "counts"
        return True

    await eventually(consumed, every_s=0.05)


async def test_stopping_lets_go_of_who_waits_and_ends_well(service: Running, tmp_path: Path) -> None:
    task = asyncio.create_task(service.client.get("/until-stopping"))

    async def arrived() -> bool:
        metrics = (await service.client.get("/metrics")).text
        return re.search(r'^orderflow_http_under_way\{.*door="public".*\} 1\.0$', metrics, re.MULTILINE) is not None

    await eventually(arrived)
    service.stop.set()
    assert (await task).status_code == 204
    assert await service.task == ProcessExit.OK
    actions = [msgspec.json.decode(line)["action"] for line in (tmp_path / "service.log").read_bytes().splitlines()]
    assert "stopping" in actions
    assert actions[-1] == "stopped"


async def test_a_schema_that_is_behind_ends_the_process_with_one_sentence(
    database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await run_service(SERVICE, settings(database_url, tmp_path)) == ProcessExit.SCHEMA
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "orderflow migrate" in said[0]


async def test_a_taken_port_ends_the_process_with_one_sentence(
    service: Running, database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    taken = settings(database_url, tmp_path, order_port=service.port)
    assert await run_service(SERVICE, taken) == ProcessExit.FAILED
    said = capfd.readouterr().err.splitlines()
    assert said == [f"port {service.port} on 127.0.0.1 is taken by another program; choose another with --port"]


async def test_while_the_database_is_away_probes_say_so_and_commands_get_503(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        server.start()
        url = server.create_database("away")
        await migrate(url)
        async with running(settings(url, tmp_path)) as service:
            assert (await service.client.get("/health/ready")).json() == {"ready": True, "problems": {}}
            server.crash()

            async def not_ready() -> bool:
                answer = await service.client.get("/health/ready")
                assert answer.status_code == 503
                return "database" in answer.json()["problems"]

            await eventually(not_ready)
            assert (await service.client.get("/health/live")).status_code == 200
            refused = await service.client.post("/counters/a", json={"amount": 1})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            server.start()

            async def works() -> bool:
                ready = await service.client.get("/health/ready")
                assert ready.status_code == 200, ready.text
                return (await service.client.post("/counters/a", json={"amount": 1})).status_code == 201

            await eventually(works)
    finally:
        server.remove()


async def test_every_page_loads_what_we_serve_and_nothing_else(service: Running) -> None:
    paths = {
        "/docs",
        "/docs/problems",
        "/docs/start.js",
        "/docs/files/swagger-ui.css",
        "/docs/files/swagger-ui-bundle.js",
    }
    listed = (await service.client.get("/docs/problems")).text
    paths |= set(re.findall(r'href="(/docs/problems/[a-z-]+)"', listed))
    assert len(paths) > 10
    for path in paths:
        answer = await service.client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; "), path
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "<script>" not in answer.text.partition("</html>")[0] or not path.startswith("/docs/problems")
