"""A dead letter of a running service reaches the operators' webhook; one that is away is in nobody's way."""

from __future__ import annotations

import hmac
import json
import random
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orderflow.core import postgres_log
from orderflow.core.transport import ProducerRecord
from tests.support.postgres import PostgresServer
from tests.support.receiver import receiving
from tests.support.saga import Databases, databases, running
from tests.support.waiting import eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "inventory") as fresh:
        yield fresh


async def say_garbage(made: Databases, count: int) -> None:
    transport = await postgres_log.PostgresLogTransport.connect(made.urls["log"], rng=random.Random(1))
    try:
        records = [ProducerRecord("payment-status", f"key {number}".encode(), b"?") for number in range(count)]
        await transport.append(records)
    finally:
        await transport.close()


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "inventory.log").read_text(encoding="utf-8").splitlines()]


def actions(tmp_path: Path) -> list[str]:
    return [line["action"] for line in lines(tmp_path)]


async def test_a_dead_letter_of_a_running_service_is_told_signed(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    async with receiving("500 Broken") as receiver:
        told = {"alert_url": receiver.url, "alert_secret": SECRET}
        async with running("inventory", made, tmp_path, **told) as service:
            await say_garbage(made, 3)
            await eventually(lambda: len(receiver.messages) >= 2)
            metrics = (await service.get("/metrics")).text

    first, again = receiver.messages[:2]
    assert first.body == again.body
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    data = json.loads(again.body)["data"]
    assert (data["service"], data["error"], data["topic"]) == ("inventory", "UndecodableError", "payment-status")
    stamp = f"{again.headers['webhook-id']}.{again.headers['webhook-timestamp']}.".encode()
    signature = hmac.digest(b64decode(SECRET[len("whsec_") :]), stamp + again.body, "sha256")
    assert again.headers["webhook-signature"] == f"v1,{b64encode(signature).decode()}"
    assert 'orderflow_alerts_total{outcome="retried"} 1' in metrics
    assert "alerts-unsigned" not in actions(tmp_path)


async def test_a_webhook_that_is_away_is_in_nobodys_way(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    async with running("inventory", made, tmp_path, alert_url="http://127.0.0.1:9/hook") as service:
        await say_garbage(made, 50)
        await eventually(lambda: "alert-retried" in actions(tmp_path))

        async def dead() -> bool:
            return 'failure="permanent"} 50' in (await service.get("/metrics")).text

        await eventually(dead)
        assert (await service.get("/health/ready")).status_code == 200
    assert sum(line.get("repeated", 1) for line in lines(tmp_path) if line["action"] == "message-dead") == 50
    seen = actions(tmp_path)
    assert "alerts-unsigned" in seen
    assert "alert-dropped" in seen
