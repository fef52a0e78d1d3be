"""A stranger who floods a running service does not rotate its logs away: what repeats itself is counted."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from orderflow.core import postgres_log
from orderflow.core.transport import ProducerRecord
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, databases, running
from tests.support.waiting import eventually

REQUESTS = 500
RECORDS = 300


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "inventory") as fresh:
        yield fresh


def lines(tmp_path: Path, action: str) -> list[dict[str, Any]]:
    written = (tmp_path / "inventory.log").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, written) if line["action"] == action]


def written(tmp_path: Path) -> int:
    """How many lines the log has."""
    return len((tmp_path / "inventory.log").read_text(encoding="utf-8").splitlines())


def told(found: list[dict[str, Any]]) -> int:
    return sum(line.get("repeated", 1) for line in found)


async def ask_nonsense(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_malformed_requests_are_counted_and_fill_no_log(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    async with running("inventory", made, tmp_path) as service:
        place = urlsplit(str(service.base_url))
        assert place.hostname is not None
        assert place.port is not None
        before = written(tmp_path)
        for _ in range(REQUESTS // 50):
            answers = await asyncio.gather(*(ask_nonsense(place.hostname, place.port) for _ in range(50)))
            assert {answer.split()[1] for answer in answers} == {b"400"}
        assert written(tmp_path) - before <= 20
        metrics = (await service.get("/metrics")).text

    [counted] = [
        line
        for line in metrics.splitlines()
        if line.startswith("orderflow_http_requests_total") and 'status="400"' in line
    ]
    assert int(float(counted.split()[-1])) == REQUESTS


async def test_records_that_nobody_can_read_are_summed_up(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    transport = await postgres_log.PostgresLogTransport.connect(made.urls["log"], rng=random.Random(1))
    async with running("inventory", made, tmp_path) as service:
        records = [ProducerRecord("payment-status", f"key {n}".encode(), b"?") for n in range(RECORDS)]
        await transport.append(records)

        async def dead() -> bool:
            return f'failure="permanent"}} {RECORDS}' in (await service.get("/metrics")).text

        await eventually(dead, timeout_s=60)
        listed = (await service.get("/ops/dead-letters", params={"limit": 500})).json()
    await transport.close()

    found = lines(tmp_path, "message-dead")
    assert told(found) == len(listed["dead_letters"]) == RECORDS
    assert len(found) <= 20
