"""Personal data: a customer's name is nowhere in clear text, is shown to whoever may see it, and can be forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from orderflow.audit.live import audit
from orderflow.core import postgres_log
from orderflow.core.postgres import schema
from orderflow.core.timing import SystemClock
from orderflow.events.payment import PaymentSucceeded, RefundFailed
from orderflow.privacy import customers as privacy
from orderflow.privacy.customers import ERASED, ConcealedCustomers
from orderflow.privacy.key_store import KeyStore, keys_migrations
from orderflow.privacy.pseudonyms import PREFIX, MasterKey, WrappedKey
from orderflow.runtime.wiring import open_customers
from orderflow.settings import Settings, SettingsError
from tests.support.callers import settings_of
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases, running, wire
from tests.support.waiting import eventually
from tests.unit.cli.calls import call

NAME = "Kunigunde Xylander-4711 <k.xylander@example.org>"
WHO = {"x-orderflow-operator": "ada"}
MASTER = MasterKey(b"m" * 32)

Saga = Mapping[str, httpx2.AsyncClient]


@pytest.fixture
def everything(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, *SERVICES, keys=True) as made:
        yield made


@asynccontextmanager
async def started(made: Databases, home: Path, **overrides: object) -> AsyncIterator[Saga]:
    await asyncio.to_thread(home.mkdir, exist_ok=True)
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(running(name, made, home, **overrides)) for name in SERVICES}


def an_order(name: str = NAME, method: str = "pm_card_visa", sku: str = "SKU-TEA-TOWEL") -> dict[str, Any]:
    items = [{"sku": sku, "quantity": 2, "unit_price": 1250}]
    return {"customer_id": name, "currency": "EUR", "items": items, "payment_method": method}


async def end_of(saga: Saga, order: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    headers = {"idempotency-key": key} if key else {}
    placed = await saga["order"].post("/orders", json=order, headers=headers)
    assert placed.status_code == 201, placed.text
    assert placed.json()["customer_id"] == order["customer_id"]
    ended: dict[str, Any] = (await saga["order"].get(placed.headers["location"], params={"wait": 30})).json()
    return ended


async def texts_of(made: Databases) -> dict[str, list[str]]:
    """Every row of every table of every database, bytes as hexadecimal digits; the log's are the topics."""
    found: dict[str, list[str]] = {}
    for name, url in made.urls.items():
        connection = await asyncpg.connect(url)
        try:
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            for (table,) in tables:
                rows = await connection.fetch(f'SELECT row::text FROM "{table}" AS row')
                found[f"{name}.{table}"] = [row[0] for row in rows]
        finally:
            await connection.close()
    return found


def named_in(texts: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """Where a name stands: as it is, as JSON has it, or as bytes."""
    parts = {name, json.dumps(name)[1:-1], name.encode().hex(), *name.split(" ")[1:2]}
    return [where for where, rows in texts.items() if any(part in row for row in rows for part in parts)]


async def everywhere(made: Databases, home: Path, saga: Saga) -> list[str]:
    """Where the name stands among all that is stored, logged and measured."""
    texts = await texts_of(made)
    texts |= {f"log {name}": [(home / f"{name}.log").read_text()] for name in SERVICES}
    texts |= {f"metrics {name}": [(await client.get("/metrics")).text] for name, client in saga.items()}
    return named_in(texts, NAME)


async def bury(made: Databases, saga: Saga, order_id: str) -> None:
    """A dead letter about the order, with all that an event says of a customer."""
    async with wire(made) as log:
        [paid] = [each for each in await log.heard(PaymentSucceeded) if each.key == order_id]
        assert isinstance(paid, PaymentSucceeded)
        forged = RefundFailed(
            order_id=UUID(order_id), customer_id=paid.customer_id, currency="EUR", amount=1, reason="gone"
        )
        await log.say(forged, "/orderflow/forged", 7)

    async def dead() -> bool:
        page = await saga["order"].get("/ops/dead-letters", params={"key": order_id})
        return bool(page.json()["dead_letters"])

    await eventually(dead, timeout_s=30)


async def test_a_name_is_nowhere_but_in_answers_and_after_an_erase_nowhere_at_all(
    everything: Databases, tmp_path: Path
) -> None:
    await everything.migrate()
    home = tmp_path / "saga"
    async with started(everything, home, log_level="debug") as saga:
        paid = await end_of(saga, an_order(), key='"once"')
        declined = await end_of(saga, an_order(method="pm_card_chargeDeclined"))
        refunded = await end_of(saga, an_order(sku="SKU-SOLD-OUT"))
        again = await saga["order"].post("/orders", json=an_order(), headers={"idempotency-key": '"once"'})
        assert (again.status_code, again.json()["customer_id"], again.json()["id"]) == (201, NAME, paid["id"])
        assert (paid["status"], declined["status"], refunded["status"]) == ("COMPLETED", "FAILED", "FAILED")
        await bury(everything, saga, paid["id"])

        assert await everywhere(everything, home, saga) == []
        page = (await saga["order"].get("/orders")).json()["orders"]
        assert {each["customer_id"] for each in page} == {NAME}
        payment = (await saga["payment"].get(f"/payments/{paid['id']}")).json()
        pseudonym = payment["customer_id"]
        assert pseudonym.startswith(PREFIX)

        body = {"customer_id": NAME, "reason": "asked for by letter"}
        assert (await saga["order"].post("/ops/customers/erase", json=body, headers=WHO)).status_code == 428
        erased = await saga["order"].post("/ops/customers/erase", json={**body, "confirmed": True}, headers=WHO)
        assert (erased.status_code, erased.json()) == (200, {"pseudonym": pseudonym})
        assert (
            await saga["order"].post("/ops/customers/erase", json={**body, "confirmed": True}, headers=WHO)
        ).status_code == 404

        assert await everywhere(everything, home, saga) == []
        page = (await saga["order"].get("/orders")).json()["orders"]
        assert {each["customer_id"] for each in page} == {ERASED}
        actions = (await saga["order"].get("/ops/actions")).json()
        assert [(each["who"], each["action"], each["target"]) for each in actions] == [
            ("tests (says ada)", "erase", f"customer {pseudonym}")
        ] * 2

        returned = await end_of(saga, an_order())
        assert returned["customer_id"] == NAME
        anew = (await saga["payment"].get(f"/payments/{returned['id']}")).json()["customer_id"]
        assert anew.startswith(PREFIX)
        assert anew != pseudonym
        assert await everywhere(everything, home, saga) == []

        transport = await postgres_log.PostgresLogTransport.connect(everything.urls["log"])
        try:
            report = await audit(everything.urls, transport, wait_s=30)
        finally:
            await transport.close()
        assert report.findings == []


async def test_what_was_placed_in_clear_text_goes_on_and_is_placed_once_across_the_change(
    everything: Databases, tmp_path: Path
) -> None:
    await everything.migrate()
    async with started(everything, tmp_path / "before", keys_master_key=None) as saga:
        before = await end_of(saga, an_order(), key='"across"')
    async with started(everything, tmp_path / "after") as saga:
        again = await saga["order"].post("/orders", json=an_order(), headers={"idempotency-key": '"across"'})
        assert (again.status_code, again.json()["id"]) == (201, before["id"])
        assert again.json()["customer_id"] == NAME
        shown = (await saga["order"].get(f"/orders/{before['id']}")).json()
        assert shown["customer_id"] == NAME
        assert (await end_of(saga, an_order()))["status"] == "COMPLETED"


async def test_the_command_line_tells_what_is_held_and_forgets(everything: Databases, tmp_path: Path) -> None:
    await everything.migrate()
    async with started(everything, tmp_path / "clear", keys_master_key=None) as saga:
        early = await end_of(saga, an_order())
    async with started(everything, tmp_path / "saga") as saga:
        paid = await end_of(saga, an_order())
        refunded = await end_of(saga, an_order(sku="SKU-SOLD-OUT"))
        await end_of(saga, an_order(name="somebody else"))
        await bury(everything, saga, paid["id"])
        given = {**settings_of(**saga), "LOG_DATABASE_URL": everything.urls["log"]}

        async def cli(*arguments: str) -> Any:
            return await asyncio.to_thread(call, tmp_path / "cli", *arguments, **given)

        nobody = await cli("customer", "export", "nobody")
        assert (nobody.exit_code, "'nobody'" in nobody.stderr) == (4, True)
        exported = await cli("customer", "export", NAME)
        assert exported.exit_code == 0, exported.stderr
        told = json.loads(exported.stdout)
        held, [pseudonym] = told["orders"], told["written_as"]
        assert set(held) == {early["id"], paid["id"], refunded["id"]}
        assert exported.stdout.count(PREFIX) == 1
        assert {"order.outbox", "order.processed_events", "payment.bank_charges", "topics.payment-status"} <= set(
            told["stores"]
        )
        assert await untold(everything, told, [pseudonym, NAME]) == []
        one = held[paid["id"]]
        assert [each["attributes"]["type"] for each in one["topics"]["order-events"]] == [
            "orderflow.OrderPlaced.v1",
            "orderflow.OrderCompleted.v1",
        ]
        assert json.loads(one["order"]["outbox"][0]["value"]["text"])["customer_id"] == NAME
        assert {each["state"] for each in one["notification"]["processed_events"]} == {"done"}
        assert one["order"]["orders"][0]["customer_id"] == NAME
        assert one["order"]["dead_letters"][0]["letter"]["event_type"] == "orderflow.RefundFailed.v1"
        assert one["payment"]["payments"][0]["status"] == "CAPTURED"
        assert one["payment"]["bank_charges"][0]["amount"] == 2500
        assert one["inventory"]["movements"][0]["on_hand_change"] == -2
        assert one["notification"]["notifications"][0]["outcome"] == "completed"
        assert held[refunded["id"]]["payment"]["bank_refunds"][0]["amount"] == 2500

        short = json.loads((await cli("customer", "export", NAME, "--no-topics")).stdout)
        assert {path for path in told["stores"] if not path.startswith("topics.")} == set(short["stores"])
        assert "topics" not in short["orders"][paid["id"]]

        unmeant = await cli("customer", "erase", NAME, "--yes")
        assert (unmeant.exit_code, "--reason" in unmeant.stderr) == (5, True)
        erased = await cli("customer", "erase", NAME, "--yes", "--reason", "a letter", "--json")
        assert erased.exit_code == 1
        assert json.loads(erased.stdout)["left_in_clear_text"] == [early["id"]]
        assert "name the customer in clear text" in erased.stderr
        gone = await cli("customer", "erase", NAME, "--yes", "--reason", "a letter")
        assert gone.exit_code == 4
        left = json.loads((await cli("customer", "export", NAME)).stdout)["orders"]
        assert set(left) == {early["id"]}


COUNTS = "streams"
"""How many events there are of an order: a number, and nothing that was ever said of anybody."""


async def untold(made: Databases, told: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Tables in which the customer or one of his orders stands, and that no store of the export is."""
    known = set(told["stores"].values())
    wanted = {form for text in (*names, *told["orders"]) for form in (text, text.encode().hex())}
    found = []
    for table, rows in (await texts_of(made)).items():
        database, _, name = table.partition(".")
        name = "outbox" if name.startswith("outbox_") else name
        store = f"table {name} of the {'bank' if database == 'bank' else f'database of {database}'}"
        is_about_him = any(text in row for row in rows for text in wanted)
        if (
            is_about_him
            and database not in ("log", "keys")
            and name != COUNTS
            and not any(each.startswith(store) for each in known)
        ):
            found.append(table)
    return found


class CountingKeys(KeyStore):
    """Counts its statements, and can keep answers back."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[str] = []
        self.answered = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def keep(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey]:
        self.asked.append("keep")
        found = await super().keep(keys)
        self.answered += 1
        await self.gate.wait()
        return found

    async def by_id(self, ids: Any) -> Sequence[WrappedKey]:
        self.asked.append("by_id")
        return await super().by_id(ids)


@asynccontextmanager
async def process(url: str) -> AsyncIterator[tuple[ConcealedCustomers, CountingKeys]]:
    """One process's customers, and their store."""
    keys = CountingKeys(url)
    customers = ConcealedCustomers(keys, MASTER, SystemClock())
    try:
        await customers.begin()
        yield customers, keys
    finally:
        await customers.close()


@pytest.fixture
async def url(database_url: str) -> str:
    await schema.migrate(database_url, [keys_migrations()])
    return database_url


async def test_those_who_wait_are_asked_for_together_and_who_is_known_costs_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "STALE_S", 3_600.0)
    names = [f"customer-{number}" for number in range(200)]
    async with process(url) as (customers, keys):
        made = await asyncio.gather(*(customers.conceal(name) for name in [*names, *names]))
        assert len(keys.asked) <= 3
        assert made[:200] == made[200:]
        assert len(set(made)) == 200
        keys.asked.clear()
        assert [customers.known(name) for name in names] == made[:200]
        assert await customers.reveal(made) == dict(zip(made, names, strict=False))
        assert keys.asked == []
    async with process(url) as (customers, keys):
        assert await customers.reveal([*made, "clear", f"{PREFIX}0123456789abcdef.x"]) == {
            **dict(zip(made, names, strict=False)),
            "clear": "clear",
            f"{PREFIX}0123456789abcdef.x": ERASED,
        }
        assert keys.asked == ["by_id"]


async def test_processes_that_hear_of_a_customer_at_once_agree_on_one_key(url: str) -> None:
    names = [f"customer-{number}" for number in range(50)]
    async with process(url) as (one, _), process(url) as (other, _):
        found = await asyncio.gather(*(each.conceal(name) for name in names for each in (one, other)))
    assert found[::2] == found[1::2]


@pytest.mark.parametrize("name", ["ada", "x" * 100])
async def test_once_a_key_is_destroyed_no_process_knows_the_name(url: str, name: str) -> None:
    async with process(url) as (one, _), process(url) as (other, _):
        pseudonym = await one.conceal(name)
        assert await other.conceal(name) == pseudonym
        assert await other.find(name) == pseudonym
        assert await one.erase(name, None, "ada", "a letter") == pseudonym
        for each in (one, other):
            assert await each.reveal([pseudonym]) == {pseudonym: ERASED}
            assert await each.find(name) is None
        anew = await other.conceal(name)
        assert anew != pseudonym
        assert await one.conceal(name) == anew
        assert await one.reveal([pseudonym, anew]) == {pseudonym: ERASED, anew: name}
        assert await one.erase("nobody", None, "ada", "a letter") is None


async def test_a_key_that_is_destroyed_while_it_is_asked_for_is_not_remembered(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(url) as (slow, keys), process(url) as (one, _):
        pseudonym = await one.conceal("ada")
        keys.gate.clear()
        asked = asyncio.create_task(slow.conceal("ada"))
        await eventually(lambda: keys.answered == 1)
        await one.erase("ada", None, "ada", "a letter")
        assert await slow.reveal([pseudonym]) == {pseudonym: ERASED}
        keys.gate.set()
        assert await asked == pseudonym
        monkeypatch.setattr(privacy, "STALE_S", 3_600.0)
        assert slow.known("ada") is None
        assert await slow.conceal("ada") != pseudonym


async def test_another_master_key_is_refused_in_words(url: str, tmp_path: Path) -> None:
    def settings(letter: str) -> Settings:
        given = {"keys_database_url": url, "keys_master_key": letter * 43}
        return Settings.load(environ={}, home=tmp_path, overrides=given)

    first = await open_customers(settings("A"), SystemClock())
    await first.close()
    with pytest.raises(SettingsError, match="made under another master key"):
        await open_customers(settings("B"), SystemClock())


@pytest.mark.parametrize("text", ["short", "A" * 44 + "=", "\u2603" * 43])
def test_what_is_no_master_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="32 bytes in base64") as refused:
        Settings.load(environ={"ORDERFLOW_KEYS_MASTER_KEY": text}, home=tmp_path)
    assert text not in str(refused.value)
