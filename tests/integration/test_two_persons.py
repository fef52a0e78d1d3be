"""Two persons: what takes an approver is proposed by one of them, and carried out when another asks for the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from orderflow.access.tokens import TokensFile
from orderflow.core.access import Role
from orderflow.events.order import Item, OrderPlaced
from orderflow.events.payment import PaymentSucceeded
from tests.support.callers import settings_of, shown
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, databases, new_order_id, running, wire
from tests.support.waiting import eventually
from tests.unit.cli.calls import call

Headers = dict[str, str]
SKU = "/stock/SKU-A"


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "inventory", "payment") as fresh:
        yield fresh


@pytest.fixture
async def inventory(made: Databases, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    await made.migrate()
    async with running("inventory", made, tmp_path, demo_catalogue=False, two_person=True) as client:
        yield client


def token(home: Path, name: str, *roles: Role) -> Headers:
    _, text = TokensFile(home / "tokens.json").create(name, frozenset(roles or {Role.APPROVER}))
    return {**shown(text), "x-orderflow-operator": "desk"}


async def log_of(service: httpx2.AsyncClient) -> list[tuple[str, str]]:
    actions = (await service.get("/ops/actions")).json()
    return [(each["who"].partition(" ")[0], each["action"]) for each in reversed(actions)]


async def put(service: httpx2.AsyncClient, who: Headers, on_hand: int, **more: Any) -> httpx2.Response:
    body = {"on_hand": on_hand, "reason": more.pop("reason", "counted")}
    return await service.put(SKU, json=body, headers={**who, **more})


async def stock(service: httpx2.AsyncClient) -> int:
    found: int = (await service.get(SKU)).json()["on_hand"]
    return found


async def test_stock_gets_less_when_another_approver_asks_for_the_same(
    inventory: httpx2.AsyncClient, tmp_path: Path
) -> None:
    anna, berta = token(tmp_path, "anna"), token(tmp_path, "berta")
    assert (await put(inventory, anna, 9)).status_code == 201
    proposed = await put(inventory, anna, 3, reason="three broke")
    assert proposed.status_code == 202
    proposal = proposed.json()
    assert (proposal["operation"], proposal["state"], proposal["reason"]) == (
        "PUT /stock/{sku}",
        "open",
        "three broke",
    )
    assert '"on_hand":3' in proposal["request"]
    assert "three broke" not in proposal["request"]
    again = await put(inventory, anna, 3, reason="said twice")
    assert (again.status_code, again.json()["id"]) == (202, proposal["id"])
    assert (await put(inventory, berta, 4)).status_code == 202
    assert await stock(inventory) == 9

    done = await put(inventory, berta, 3, reason="I saw them")
    assert (done.status_code, done.json()["on_hand"]) == (200, 3)
    assert (await put(inventory, anna, 12)).status_code == 200
    listed = (await inventory.get("/ops/proposals", headers=anna)).json()
    assert [(each["state"], each["decided_by"]) for each in listed] == [
        ("open", ""),
        ("done", "berta"),
    ]
    still_open = (await inventory.get("/ops/proposals", params={"open": "true"}, headers=anna)).json()
    assert [each["state"] for each in still_open] == ["open"]
    steps = [step for step in await log_of(inventory) if step[1] != "set stock"]
    assert steps == [("anna", "propose"), ("berta", "propose")]


async def test_a_proposal_is_approved_by_its_id_once_and_never_by_its_maker(
    inventory: httpx2.AsyncClient, tmp_path: Path
) -> None:
    anna, berta, carla = (token(tmp_path, name) for name in ("anna", "berta", "carla"))
    operator = token(tmp_path, "otto", Role.OPERATOR)
    await put(inventory, anna, 9)
    proposal = (await put(inventory, anna, 3, **{"if-match": '"1"'})).json()
    approve = f"/ops/proposals/{proposal['id']}/approve"
    meant = {"reason": "I saw them", "confirmed": True}

    own = await inventory.post(approve, json=meant, headers=anna)
    assert (own.status_code, "yourself" in own.json()["detail"]) == (409, True)
    assert (await inventory.post(approve, json=meant, headers=operator)).status_code == 403
    assert (await inventory.post(approve, json={"reason": "r"}, headers=berta)).status_code == 428
    assert (await inventory.post(f"/ops/proposals/{uuid4()}/approve", json=meant, headers=berta)).status_code == 404
    assert await stock(inventory) == 9

    in_disguise = await inventory.post(approve, json=meant, headers={**anna, "x-orderflow-operator": "berta"})
    assert (in_disguise.status_code, await stock(inventory)) == (409, 9)
    assert (
        await put(inventory, {**anna, "x-orderflow-operator": "berta"}, 3, **{"if-match": '"1"'})
    ).status_code == 202

    both = await asyncio.gather(*(inventory.post(approve, json=meant, headers=who) for who in (berta, carla)))
    codes = sorted(each.status_code for each in both)
    assert codes[0] == 200
    assert codes[1] in (409, 412)
    assert await stock(inventory) == 3
    listed = (await inventory.get("/ops/proposals", headers=anna)).json()
    assert [each["state"] for each in listed] == ["done"]
    movements = (await inventory.get(f"{SKU}/movements")).json()["movements"]
    assert len(movements) == 2


async def test_what_has_changed_since_it_was_proposed_is_refused_and_a_withdrawn_one_is_gone(
    inventory: httpx2.AsyncClient, tmp_path: Path
) -> None:
    anna, berta = token(tmp_path, "anna"), token(tmp_path, "berta")
    meant = {"reason": "I saw them", "confirmed": True}
    await put(inventory, anna, 9)
    proposal = (await put(inventory, anna, 3, **{"if-match": '"1"'})).json()
    await put(inventory, anna, 10)
    late = await inventory.post(f"/ops/proposals/{proposal['id']}/approve", json=meant, headers=berta)
    assert late.status_code == 412
    assert await stock(inventory) == 10

    gone = await inventory.post(f"/ops/proposals/{proposal['id']}/withdraw", json=meant, headers=anna)
    assert (gone.status_code, gone.json()["state"]) == (200, "withdrawn")
    after = await inventory.post(f"/ops/proposals/{proposal['id']}/approve", json=meant, headers=berta)
    assert (after.status_code, "withdrawn" in after.json()["detail"]) == (409, True)
    twice = await inventory.post(f"/ops/proposals/{proposal['id']}/withdraw", json=meant, headers=anna)
    assert twice.status_code == 409


async def test_a_payment_is_settled_by_two_and_the_command_line_says_so(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    order_id = new_order_id()
    anna, berta = token(tmp_path, "anna"), token(tmp_path, "berta")
    slow = {"gateway_timeout_ms": 60_000, "intent_lease_ms": 1_000, "drain_timeout_s": 1, "two_person": True}
    async with running("payment", made, tmp_path, **slow) as payment, wire(made) as log:
        await log.say(placed(order_id), "/orderflow/order")

        async def is_open() -> bool:
            answer = await payment.get(f"/payments/{order_id}")
            return answer.status_code == 200 and answer.json()["status"] == "CHARGING"

        await eventually(is_open, timeout_s=30)
        given = settings_of(payment=payment)

        async def cli(who: Headers, *arguments: str) -> Any:
            mine = {**given, "TOKEN": who["Authorization"].removeprefix("Bearer ")}
            others = {f"{name}_OPS_URL": given["PAYMENT_OPS_URL"] for name in ("ORDER", "INVENTORY", "NOTIFICATION")}
            return await asyncio.to_thread(call, tmp_path / "cli", *arguments, **{**others, **mine})

        settle = ("payment", "settle", str(order_id), "--as", "charged", "--reason", "it is booked", "--yes")
        proposed = await cli(anna, *settle)
        assert proposed.exit_code == 5
        assert "orderflow ops approve" in proposed.stderr
        [proposal] = (await payment.get("/ops/proposals", headers=anna)).json()
        listed = await cli(berta, "ops", "proposals")
        assert proposal["id"] in listed.stdout
        assert "it is booked" in listed.stdout
        assert (await cli(berta, "ops", "approve", proposal["id"], "--reason", "seen")).exit_code == 5
        own = await cli(anna, "ops", "approve", proposal["id"], "--yes", "--reason", "seen")
        assert (own.exit_code, "yourself" in own.stderr) == (5, True)
        nobody = await cli(berta, "ops", "approve", str(uuid4()), "--yes", "--reason", "seen")
        assert nobody.exit_code == 4
        done = await cli(berta, "ops", "approve", proposal["id"], "--yes", "--reason", "seen")
        assert done.exit_code == 0, done.stderr
        assert "CAPTURED" in done.stdout
        await log.hear(PaymentSucceeded, order_id)
        assert await log_of(payment) == [("anna", "propose"), ("berta", "settle")]
        again = await cli(anna, "ops", "withdraw", proposal["id"], "--yes", "--reason", "late")
        assert again.exit_code == 5


def placed(order_id: UUID) -> OrderPlaced:
    return OrderPlaced(
        order_id=order_id,
        customer_id="customer-1",
        currency="EUR",
        items=(Item(sku="SKU-A", quantity=2, unit_price=1250),),
        total=2500,
        payment_method="pm_timeout_not_charged",
    )
