"""What an audit finds is healed by the services themselves: real services, real databases, the command line."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2

from orderflow.audit.findings import Report
from orderflow.audit.live import audit
from orderflow.core import postgres_log
from tests.support.callers import ops_url, token_in
from tests.support.damage import DAMAGES, Damage, damage
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases, running

CUSTOMER = "customer-1"
ROUNDS_MAX = 4
"""The hops of the longest way: see `cli.repair`."""
TURNS = 1
DAMAGED = 10
LIVE = 10
OUTCOMES = ("completed", "declined", "refunded")
MEANT = ("--yes", "--reason", "ticket 4711")
UNTOUCHED = ("operator_actions", "outbox", "outbox_pending", "processed_events", "streams")
"""Rows of the passage of events: what a repair says again stands here, and no order is changed by it."""


@dataclass(frozen=True)
class Saga:
    """Four services at work, and the command line that repairs their orders."""

    made: Databases
    home: Path
    clients: Mapping[str, httpx2.AsyncClient]

    async def place(self, outcome: str, name: str) -> dict[str, str]:
        """An order at its end, of a SKU of its own."""
        sku = f"SKU-{name}"
        on_hand = 0 if outcome == "refunded" else 10
        (await self.clients["inventory"].put(f"/stock/{sku}", json={"on_hand": on_hand})).raise_for_status()
        order = {
            "customer_id": CUSTOMER,
            "currency": "EUR",
            "items": [{"sku": sku, "quantity": 2, "unit_price": 1250}],
            "payment_method": "pm_card_chargeDeclined" if outcome == "declined" else "pm_card_visa",
        }
        placed = (await self.clients["order"].post("/orders", json=order)).raise_for_status()
        await self.clients["order"].get(placed.headers["location"], params={"wait": 30})
        paid = (await self.clients["payment"].get(f"/payments/{placed.json()['id']}")).raise_for_status().json()
        # What the databases and events hold instead of the name: `docs/adr/0038-a-customer-has-a-key.md`.
        return {"id": placed.json()["id"], "sku": sku, "customer": paid["customer_id"]}

    async def damaged(self, damages: Mapping[str, Damage]) -> dict[str, dict[str, str]]:
        """An order for each, at its end, and then damaged."""
        placed = [self.place(done.order, uuid4().hex[:12]) for done in damages.values()]
        orders = dict(zip(damages, await asyncio.gather(*placed), strict=True))
        assert (await self.look()).findings == []
        for name, done in damages.items():
            await damage(self.made.urls, done, orders[name])
        return orders

    async def look(self, wait_s: float = 30) -> Report:
        transport = await postgres_log.PostgresLogTransport.connect(self.made.urls["log"])
        try:
            return await audit(self.made.urls, transport, wait_s=wait_s)
        finally:
            await transport.close()

    async def call(self, *arguments: str) -> tuple[int, str, str]:
        """`orderflow audit ...` to its end: exit code, standard output, standard error."""
        urls = {f"ORDERFLOW_{name.upper()}_DATABASE_URL": url for name, url in self.made.urls.items()}
        for name, client in self.clients.items():
            urls |= {
                f"ORDERFLOW_{name.upper()}_URL": str(client.base_url),
                f"ORDERFLOW_{name.upper()}_OPS_URL": ops_url(client),
            }
        urls["ORDERFLOW_TOKEN"] = token_in(self.home)
        given = ["audit", "--home", str(self.home), "--wait", "60", *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "orderflow", *given),
            env={**environment, **urls},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        return process.returncode or 0, out.decode(), errors.decode()

    async def repair(self, *arguments: str) -> dict[str, Any]:
        code, out, errors = await self.call("--repair", "--json", *arguments)
        assert out, (code, errors)
        document: dict[str, Any] = json.loads(out)
        return {"code": code, **document}

    async def rows(self) -> dict[str, str]:
        """A fingerprint of every table of the services and of the bank."""
        found: dict[str, str] = {}
        for name in (*SERVICES, "bank"):
            connection = await asyncpg.connect(self.made.urls[name])
            try:
                tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
                for table in sorted(row["tablename"] for row in tables):
                    if not table.startswith(UNTOUCHED):
                        rows = await connection.fetch(f'SELECT t::text FROM "{table}" AS t ORDER BY 1')
                        digest = hashlib.sha256(repr([row[0] for row in rows]).encode())
                        found[f"{name}.{table}"] = digest.hexdigest()
            finally:
                await connection.close()
        return found


@asynccontextmanager
async def saga(postgres: PostgresServer, home: Path) -> AsyncIterator[Saga]:
    (home / "orderflow.toml").touch()
    with databases(postgres, *SERVICES, keys=True) as made:
        await made.migrate()
        async with AsyncExitStack() as stack:
            started = [await stack.enter_async_context(running(name, made, home)) for name in SERVICES]
            yield Saga(made, home, dict(zip(SERVICES, started, strict=True)))


async def test_every_damage_is_found_healed_and_logged(postgres: PostgresServer, tmp_path: Path) -> None:
    async with saga(postgres, tmp_path) as shop:
        orders = await shop.damaged(DAMAGES)
        report = await shop.look()
        found = {
            name: {each.kind for each in report.findings if each.subject == orders[name]["id"]} for name in orders
        }
        assert {name: done.kinds - found[name] for name, done in DAMAGES.items() if done.kinds - found[name]} == {}

        code, shown, why = await shop.call("--repair")
        assert (code, "add: --yes --reason TEXT" in why) == (5, True), why
        assert "inventory says StockRejected again" in shown
        assert (await shop.look()).count == report.count

        done = await shop.repair(*MEANT)
        assert (done["code"], done["repair"]["failed"], done["findings"]) == (0, [], []), done
        assert done["repair"]["rounds"] <= ROUNDS_MAX
        assert {step["order_id"] for step in done["repair"]["steps"]} == {each["id"] for each in orders.values()}
        rows = await shop.rows()
        assert (await shop.repair(*MEANT))["repair"]["carried_out"] == 0
        assert await shop.rows() == rows
        logged = [each for client in shop.clients.values() for each in (await client.get("/ops/actions")).json()]
        actions = [each for each in logged if each["action"] != "set stock"]
        assert {each["target"] for each in actions} == {each["id"] for each in orders.values()}
        assert {(each["action"], each["reason"]) for each in actions} == {("repair", "ticket 4711")}


async def test_two_repairs_at_once_among_live_orders_keep_the_promises(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    rng = random.Random(4711)
    async with saga(postgres, tmp_path) as shop:
        for turn in range(TURNS):
            names = rng.choices(list(DAMAGES), k=DAMAGED)
            await shop.damaged({f"{turn}-{number}-{name}": DAMAGES[name] for number, name in enumerate(names)})
            live = [shop.place(rng.choice(OUTCOMES), f"live-{turn}-{number}") for number in range(LIVE)]
            repairs = [shop.repair(*MEANT) for _ in range(2)]
            *both, _ = await asyncio.gather(*repairs, asyncio.gather(*live))
            last = await shop.repair(*MEANT)
            assert (last["code"], last["findings"], last["stuck"]) == (0, [], 0), (names, both, last)
            assert last["repair"]["rounds"] <= 1, (names, both, last)
            rows = await shop.rows()
            assert (await shop.repair(*MEANT))["repair"]["carried_out"] == 0
            assert await shop.rows() == rows
