"""What goes wrong names nobody: odd names, in orders and in bad requests, are in no log, metric, alert or table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2
import pytest

from orderflow.events.payment import PaymentRefunded, PaymentSucceeded, RefundFailed
from tests.integration.test_privacy import an_order, end_of, started, texts_of
from tests.support.postgres import PostgresServer
from tests.support.receiver import Receiver, receiving
from tests.support.saga import SERVICES, Databases, databases, wire
from tests.support.waiting import eventually

MARK = "Xylander-4711"
"""In every name: where it stands, a name stands."""
NAMES = (
    f'Ann "the boss" {MARK} \\ </script><b>',
    f"{MARK}%s{{0}}${{jndi:x}}%00",
    f"Ægir \U0001f6d2 \u2014{MARK}",
    f"k.{MARK}@example.org'; DROP TABLE orders; --",
    f"{MARK}{'x' * (100 - len(MARK))}",
)


@pytest.fixture
def everything(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, *SERVICES, keys=True) as made:
        yield made


def bad_requests(name: str) -> Sequence[tuple[str, str, str, dict[str, Any]]]:
    """Service, method, target and options of requests that cannot be carried out, each with a name in it."""
    good = an_order(name)
    bodies: tuple[Any, ...] = (
        {**good, "currency": name},
        {**good, "items": []},
        {**good, "customer_id": f"{name}{'y' * 100}"},
        {**good, "customer_id": f"{name}\x00"},
        {**good, "customer_id": [name]},
        {**good, "nickname": name},
        {**good, name: 1},
        [name],
        name,
    )
    broken = json.dumps(good).encode()[:-1]
    word = quote(name, safe="")
    act = {"customer_id": name, "reason": "a letter", "confirmed": True}
    return (
        *(("order", "POST", "/orders", {"json": body}) for body in bodies),
        ("order", "POST", "/orders", {"content": broken, "headers": {"content-type": "application/json"}}),
        ("order", "POST", "/orders", {"content": name.encode(), "headers": {"content-type": "text/plain"}}),
        ("order", "POST", "/orders", {"json": good, "headers": {"authorization": f"Bearer {word}"}}),
        ("order", "GET", f"/orders/{word}", {}),
        ("order", "GET", f"/orders?status={word}", {}),
        ("order", "GET", f"/{word}", {}),
        ("order", word[:20], "/orders", {}),
        ("payment", "GET", f"/payments/{word}", {}),
        ("inventory", "PUT", f"/stock/{word}", {"json": {"on_hand": -1, "reason": name}}),
        ("order", "POST", "/ops/customers/erase", {"json": {**act, "shop": "nobody's"}}),
        ("order", "POST", "/ops/customers/erase", {"json": {**act, "confirmed": False}}),
        ("order", "POST", "/ops/customers/orders", {"json": {**act, "more": name}}),
        ("order", "GET", f"/ops/dead-letters?key={word}&state={word}", {}),
        ("order", "GET", f"/ops/trails/{word}", {}),
    )


async def give_up(made: Databases, saga: Mapping[str, httpx2.AsyncClient], paid: str, name: str) -> None:
    """Dead letters: what the state of the order rules out, an order that nobody knows, bytes that are no event; the
    last two have the name as an earlier release would have sent it.
    """
    async with wire(made) as log:
        [heard] = [each for each in await log.heard(PaymentSucceeded) if each.key == paid]
        assert isinstance(heard, PaymentSucceeded)
        fields: dict[str, Any] = {"currency": "EUR", "amount": 1}
        ruled_out = RefundFailed(order_id=UUID(paid), customer_id=heard.customer_id, reason="gone", **fields)
        await log.say(ruled_out, "/orderflow/forged", 7)
        unknown = PaymentRefunded(order_id=uuid4(), customer_id=name, **fields)
        await log.say(unknown, "/orderflow/forged", 8)

    async def dead() -> bool:
        letters = (await saga["order"].get("/ops/dead-letters")).json()["dead_letters"]
        return {each["key"] for each in letters} >= {paid, str(unknown.order_id)}

    await eventually(dead, timeout_s=60)


async def said(home: Path, saga: Mapping[str, httpx2.AsyncClient], receiver: Receiver) -> dict[str, str]:
    """All that services say of themselves: logs, metrics, alerts."""
    told = {f"log of {name}": (home / f"{name}.log").read_text() for name in SERVICES}
    told |= {f"metrics of {name}": (await client.get("/metrics")).text for name, client in saga.items()}
    return told | {f"alert {number}": each.body.decode() for number, each in enumerate(receiver.messages)}


async def test_what_goes_wrong_names_nobody(everything: Databases, tmp_path: Path) -> None:
    await everything.migrate()
    home = tmp_path / "saga"
    async with receiving() as receiver, started(everything, home, log_level="debug", alert_url=receiver.url) as saga:
        for name in NAMES:
            paid = await end_of(saga, an_order(name))
            await end_of(saga, an_order(name, method="pm_card_chargeDeclined"))
            refused = []
            for service, method, target, options in bad_requests(name):
                answer = await saga[service].request(method, target, **options)
                refused.append((method, target, answer.status_code))
            assert [each for each in refused if each[2] in (201, 500)] == []
        texts = await texts_of(everything)
        assert [table for table, rows in texts.items() if any(MARK in row for row in rows)] == []
        hexed = MARK.encode().hex()
        assert [table for table, rows in texts.items() if any(hexed in row for row in rows)] == []

        await give_up(everything, saga, paid["id"], NAMES[0])
        await eventually(lambda: len(receiver.messages) >= 2, timeout_s=60)
        told = await said(home, saga, receiver)
        assert [where for where, text in told.items() if MARK in text] == []
        assert all("message-handled" in told[f"log of {name}"] for name in SERVICES)
