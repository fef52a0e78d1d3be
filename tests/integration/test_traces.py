"""What a running service does when its traces are not taken, and what it says when they cannot be sent at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.otlp import receiving_traces
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, databases, running
from tests.support.waiting import eventually

ORDER = {
    "customer_id": "ada",
    "currency": "EUR",
    "items": [{"sku": "TEA", "quantity": 1, "unit_price": 590}],
    "payment_method": "pm_card_visa",
}


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "order") as fresh:
        yield fresh


async def counted(service: httpx2.AsyncClient) -> dict[str, float]:
    """Spans by what became of them."""
    text = (await service.get("/metrics")).text
    found = [line.rpartition(" ") for line in text.splitlines() if line.startswith("orderflow_spans_total{")]
    return {name.split('"')[1]: float(value) for name, _, value in found}


def told(tmp_path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (tmp_path / "order.log").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["action"].startswith("spans-") or line["action"] == "library"]


async def test_a_receiver_that_takes_nothing_hinders_nobody_and_is_told_of_once(
    made: Databases, tmp_path: Path
) -> None:
    await made.migrate()
    with receiving_traces() as receiver:
        receiver.status = 400
        async with running("order", made, tmp_path, otlp_endpoint=receiver.url) as service:
            for number in (1, 2, 3):
                assert (await service.post("/orders", json=ORDER)).status_code == 201
                await eventually(lambda: len(receiver.bodies) >= number)  # noqa: B023
            receiver.status = 200
            assert (await service.post("/orders", json=ORDER)).status_code == 201
            await eventually(lambda: receiver.spans)

            async def both() -> bool:
                return (await counted(service)).keys() == {"lost", "sent"}

            await eventually(both)
            lost = (await counted(service))["lost"]

    first, again = told(tmp_path)
    assert (first["action"], first["level"], again["action"], again["level"]) == (
        "spans-lost",
        "warning",
        "spans-sent-again",
        "info",
    )
    assert "400" in first["error"]
    assert again["lost"] == lost >= 3


async def test_without_a_trace_a_request_that_reads_is_not_told(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    with receiving_traces() as receiver:
        async with running("order", made, tmp_path, otlp_endpoint=receiver.url, otlp_sample_ratio="0") as service:
            assert (await service.get("/orders")).status_code == 200
            assert (await service.post("/orders", json=ORDER)).status_code == 201
            asked = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
            assert (await service.get("/orders", headers=asked)).status_code == 200
            await eventually(lambda: receiver.spans)

    assert [(each.name, each.parent) for each in receiver.spans] == [("GET /orders", "b7ad6b7169203331")]


def test_what_is_not_installed_is_said_in_one_sentence(made: Databases, tmp_path: Path) -> None:
    """The packages of OpenTelemetry hidden, as where the extra was not asked for."""
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "orderflow", "run", "order", "--port", "0"],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")},
            "PYTHONPATH": str(hidden.parent),
            "ORDERFLOW_LOG_FILE": str(tmp_path / "order.log"),
            "ORDERFLOW_ORDER_DATABASE_URL": made.urls["order"],
            "ORDERFLOW_LOG_DATABASE_URL": made.urls["log"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        },
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "pip install 'orderflow[otel]'" in done.stderr
    assert "(from environment OTEL_EXPORTER_OTLP_ENDPOINT)" in done.stderr
