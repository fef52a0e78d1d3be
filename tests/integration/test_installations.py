"""Two installations on one log: each has an identity, and neither takes what is the other's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from orderflow.local import preparation
from orderflow.local.errors import LocalError
from orderflow.local.preparation import all_topics, make_topics
from orderflow.runtime.process import ProcessExit, run_service
from orderflow.runtime.wiring import connect_transport
from orderflow.settings import SettingsError
from tests.support.kafka import KafkaServer
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases, definition_of, running
from tests.support.waiting import eventually

ORDER = {
    "customer_id": "customer-1",
    "currency": "EUR",
    "items": [{"sku": "SKU-ESPRESSO-CUP", "quantity": 2, "unit_price": 1250}],
    "payment_method": "pm_card_visa",
}


@pytest.fixture
async def two(postgres: PostgresServer) -> AsyncIterator[tuple[Databases, Databases]]:
    """Two sets of databases, with the tables of this release."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(databases(postgres, *SERVICES)) for _ in range(2))
        await asyncio.gather(first.migrate(), second.migrate())
        yield first, second


async def test_the_databases_of_an_installation_have_one_identity_made_once(
    two: tuple[Databases, Databases], tmp_path: Path
) -> None:
    first, second = (each.settings(tmp_path) for each in two)
    made = await asyncio.gather(*(preparation.agree_on_installation(first) for _ in range(4)))
    assert set(made) == {await preparation.agree_on_installation(first)}
    assert await preparation.agree_on_installation(second) not in made

    mixed = Databases({**two[0].urls, "inventory": two[1].urls["inventory"]})
    with pytest.raises(LocalError, match="the databases belong to different installations: order of"):
        await preparation.agree_on_installation(mixed.settings(tmp_path))


async def test_a_database_that_was_lost_gets_the_identity_of_the_others(
    two: tuple[Databases, Databases], tmp_path: Path
) -> None:
    first = await preparation.agree_on_installation(two[0].settings(tmp_path))
    new = Databases({**two[1].urls, "payment": two[0].urls["payment"]})
    assert await preparation.agree_on_installation(new.settings(tmp_path)) == first


async def test_a_second_installation_on_one_kafka_refuses_to_start_until_it_has_names_of_its_own(
    two: tuple[Databases, Databases], kafka: KafkaServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = two
    prefix = f"{tmp_path.name}."
    shared: Mapping[str, Any] = {
        "transport": "kafka",
        "kafka_bootstrap": kafka.bootstrap,
        "topic_prefix": prefix,
        "outbox_slots": 1,
    }
    ours = await preparation.agree_on_installation(first.settings(tmp_path))
    theirs = await preparation.agree_on_installation(second.settings(tmp_path))
    await make_topics(first.settings(tmp_path, **shared), ours)

    with pytest.raises(SettingsError) as caught:
        await make_topics(second.settings(tmp_path, **shared), theirs)
    assert f"another installation of Orderflow ({ours}) uses topic {prefix}flow-status, " in str(caught.value)
    code = await run_service(definition_of("order"), second.settings(tmp_path, **shared), port=0)
    assert code == ProcessExit.SETTINGS
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith(f"on Kafka at {kafka.bootstrap} another installation of Orderflow ({ours}) uses ")
    assert "ORDERFLOW_TOPIC_PREFIX" in said

    own = {**shared, "topic_prefix": f"{prefix}second."}
    async with (
        running("order", first, tmp_path, **shared) as order,
        running("payment", first, tmp_path, **shared) as payment,
        running("order", second, tmp_path, **own) as other_order,
    ):
        assert (await order.get("/health/live")).json()["installation"] == str(ours)
        assert (await other_order.get("/health/live")).json()["installation"] == str(theirs)
        other = (await other_order.post("/orders", json=ORDER)).json()["id"]
        placed = (await order.post("/orders", json=ORDER)).json()["id"]

        async def paid() -> bool:
            return bool((await order.get(f"/orders/{placed}")).json()["status"] == "PAID")

        async def published() -> bool:
            return bool((await other_order.get("/ops/outbox")).json()["unsent"] == 0)

        await eventually(paid, timeout_s=60)
        await eventually(published, timeout_s=60)
        assert (await payment.get(f"/payments/{other}")).status_code == 404
        assert (await other_order.get(f"/orders/{other}")).json()["status"] == "PENDING"
        assert {row["topic"] for row in (await order.get("/ops/lag")).json()} == {
            "payment-status",
            "inventory-status",
            "flow-status",
        }


async def test_topics_of_an_earlier_release_are_of_the_first_that_starts_and_can_be_taken_over(
    two: tuple[Databases, Databases], tmp_path: Path
) -> None:
    """Both have their log in one database, where nobody has claimed the topics yet."""
    first = two[0].settings(tmp_path)
    second = Databases({**two[1].urls, "log": two[0].urls["log"]}).settings(tmp_path)
    ours, theirs = await preparation.agree_on_installation(first), await preparation.agree_on_installation(second)
    log = await connect_transport(first)
    await log.create_topics(all_topics(first))
    await log.close()
    await make_topics(first, ours)
    with pytest.raises(SettingsError, match="on the log in PostgreSQL another installation"):
        await make_topics(second, theirs)
    await make_topics(second, theirs, take_over=True)
    with pytest.raises(SettingsError, match=str(theirs)):
        await make_topics(first, ours)


async def test_a_database_of_no_installation_joins_the_one_whose_topics_it_uses(
    two: tuple[Databases, Databases], tmp_path: Path
) -> None:
    """As a service of the user's own does, whose tables no `orderflow migrate` has made."""
    first = two[0]
    second = Databases({**two[1].urls, "log": first.urls["log"]})
    ours = await preparation.agree_on_installation(first.settings(tmp_path))
    await make_topics(first.settings(tmp_path), ours)
    async with running("notification", second, tmp_path) as joined:
        assert (await joined.get("/health/live")).json() == {
            "alive": True,
            "service": "notification",
            "installation": str(ours),
        }
