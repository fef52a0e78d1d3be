"""What the bank leaves open or refuses is settled by an operator: real service, real bank's book."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from orderflow.events.inventory import MissingLine, StockRejected
from orderflow.events.order import Item, OrderPlaced
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded, RefundFailed
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, Wire, databases, new_order_id, running, wire
from tests.support.waiting import eventually

WHO = {"x-orderflow-operator": "ada@desk"}
NEVER = {"gateway_timeout_ms": 600_000, "intent_lease_ms": 1_000, "drain_timeout_s": 1}


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "payment") as fresh:
        yield fresh


def placed(order_id: UUID, method: str) -> OrderPlaced:
    return OrderPlaced(
        order_id=order_id,
        customer_id="customer-1",
        currency="EUR",
        items=(Item(sku="SKU-A", quantity=2, unit_price=1250),),
        total=2500,
        payment_method=method,
    )


async def settle(service: httpx2.AsyncClient, order_id: UUID, outcome: str, **more: object) -> httpx2.Response:
    body = {"outcome": outcome, "reason": "ticket 4711", "confirmed": True, **more}
    return await service.post(f"/payments/{order_id}/settlement", json=body, headers=WHO)


async def shown(service: httpx2.AsyncClient, order_id: UUID) -> dict[str, Any]:
    answer: dict[str, Any] = (await service.get(f"/payments/{order_id}")).raise_for_status().json()
    return answer


async def is_known(service: httpx2.AsyncClient, order_id: UUID) -> bool:
    return (await service.get(f"/payments/{order_id}")).status_code == 200


def bank(postgres: PostgresServer, made: Databases, query: str) -> str:
    return postgres.execute(query, made.urls["bank"].rpartition("/")[2])


@pytest.mark.parametrize(
    ("method", "outcome", "status", "charges"),
    [("pm_timeout_charged", "charged", "CAPTURED", "1"), ("pm_timeout_not_charged", "not-charged", "DECLINED", "0")],
)
async def test_what_is_settled_is_told_once_and_the_bank_is_not_asked_any_more(
    method: str, outcome: str, status: str, charges: str, made: Databases, postgres: PostgresServer, tmp_path: Path
) -> None:
    await made.migrate()
    order_id, after = new_order_id(), new_order_id()
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
    async with wire(made) as log:
        async with running("payment", made, tmp_path / "first", **NEVER) as service:
            await log.say(placed(order_id, method), "/orderflow/order")
            await eventually(lambda: bank(postgres, made, "SELECT sum(calls) FROM bank_calls") == "1")
            await eventually(lambda: bank(postgres, made, "SELECT count(*) FROM bank_charges") == charges)
            settled = [await settle(service, order_id, outcome) for _ in range(2)]
            assert [(each.status_code, each.json()["changed"]) for each in settled] == [(200, True), (200, False)]
            await log.hear(PaymentSucceeded if outcome == "charged" else PaymentFailed, order_id)
            assert (await shown(service, order_id))["status"] == status
        async with running("payment", made, tmp_path / "second", intent_lease_ms=1_000) as service:
            await log.say(placed(after, "pm_fails_twice"), "/orderflow/order")
            await log.hear(PaymentSucceeded, after, 30)
            heard = [each for each in await log.heard(PaymentSucceeded, PaymentFailed) if each.key == str(order_id)]
            assert len(heard) == 1
    assert bank(postgres, made, f"SELECT calls FROM bank_calls WHERE key = 'charge:{order_id}'") == "1"


async def test_what_cannot_be_settled_is_refused_in_words_and_every_try_is_in_the_operators_log(
    made: Databases, tmp_path: Path
) -> None:
    await made.migrate()
    order_id = new_order_id()
    async with running("payment", made, tmp_path) as service, wire(made) as log:
        await log.say(placed(order_id, "pm_card_visa"), "/orderflow/order")
        await log.hear(PaymentSucceeded, order_id)
        refused = await settle(service, order_id, "not-charged")
        assert refused.status_code == 409
        assert "is not open: its payment is CAPTURED" in refused.json()["detail"]
        assert (await settle(service, new_order_id(), "charged")).status_code == 404
        assert (await settle(service, order_id, "perhaps")).status_code == 422
        assert (await settle(service, order_id, "charged", confirmed=False)).status_code == 428
        assert (await settle(service, order_id, "charged", reason=" ")).status_code == 428
        nobody = await service.post(f"/payments/{order_id}/settlement", json={"outcome": "charged"})
        assert nobody.status_code == 422
        [action] = (await service.get("/ops/actions")).json()
        assert (action["who"], action["action"], action["target"], action["reason"]) == (
            "ada@desk",
            "settle",
            f"payment {order_id}",
            "ticket 4711",
        )
        assert action["result"].startswith("refused: the charge of order")


async def test_an_answer_of_the_bank_that_contradicts_is_a_dead_letter(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    async with running("payment", made, tmp_path, attempts_max=1) as service, wire(made) as log:

        async def settled_before_the_bank_answers() -> UUID | None:
            order_id = new_order_id()
            await log.say(placed(order_id, "pm_slow"), "/orderflow/order")
            await eventually(lambda: is_known(service, order_id))
            return order_id if (await settle(service, order_id, "not-charged")).status_code == 200 else None

        order_id = await eventually(settled_before_the_bank_answers)
        assert order_id is not None
        await log.hear(PaymentFailed, order_id)

        async def letter() -> Any:
            return (await service.get("/ops/dead-letters", params={"key": str(order_id)})).json()["dead_letters"]

        [dead] = await eventually(letter)
        assert (dead["error"], dead["event_type"]) == ("ContradictionError", "orderflow.ChargeApproved.v1")
        assert (await shown(service, order_id))["status"] == "DECLINED"


async def listed(service: httpx2.AsyncClient, status: str) -> list[str]:
    page = (await service.get("/payments", params={"status": status})).raise_for_status().json()
    return [each["order_id"] for each in page["payments"]]


async def alarms(service: httpx2.AsyncClient) -> dict[str, str]:
    answer = await service.get("/health/ready")
    assert answer.status_code == 200, answer.text
    return dict(answer.json().get("alarms", {}))


async def refused_refund(service: httpx2.AsyncClient, log: Wire) -> UUID:
    """Charged with a card that is gone, and then out of stock."""
    order_id = new_order_id()
    await log.say(placed(order_id, "pm_card_refundFail"), "/orderflow/order")
    await log.hear(PaymentSucceeded, order_id)
    missing = (MissingLine(sku="SKU-A", requested=2, available=0),)
    await log.say(StockRejected(order_id=order_id, customer_id="customer-1", missing=missing), "/orderflow/inventory")
    told = await log.hear(RefundFailed, order_id)
    assert (told.amount, told.reason) == (2500, "expired_or_canceled_card")
    return order_id


async def test_a_refund_that_the_bank_refuses_is_asked_once_and_seen_until_it_is_settled(
    made: Databases, postgres: PostgresServer, tmp_path: Path
) -> None:
    await made.migrate()
    async with running("payment", made, tmp_path) as service, wire(made) as log:
        order_id, other = [await refused_refund(service, log) for _ in range(2)]

        assert await listed(service, "REFUND_REFUSED") == [str(other), str(order_id)]
        seen = await shown(service, order_id)
        assert (seen["status"], seen["refund_refusal"]) == ("REFUND_REFUSED", "expired_or_canceled_card")
        sentence = await eventually(lambda: told_of_two(service))
        assert f"2 refunds refused by the bank for good (order {other}, {order_id})" in sentence
        assert "orderflow payment list --state refund_refused" in sentence
        database = made.urls["payment"].rpartition("/")[2]
        assert postgres.execute("SELECT count(*) FROM intents", database) == "0", "nothing is asked again"

        not_charged = await settle(service, order_id, "not-charged")
        assert (not_charged.status_code, "the bank has said" in not_charged.text) == (409, True)
        settled = await settle(service, order_id, "refunded")
        assert (settled.json()["status"], settled.json()["refunded"]) == ("REFUNDED", 2500)
        await log.hear(PaymentRefunded, order_id)
        again = await settle(service, other, "ask-again")
        assert again.json()["changed"] is True
        await eventually(lambda: both_refusals(log, other))
        assert await listed(service, "REFUND_REFUSED") == [str(other)]
        await settle(service, other, "refunded")

        async def calm() -> bool:
            return not await alarms(service)

        await eventually(calm)
        actions = (await service.get("/ops/actions")).json()
        assert [action["result"].partition(":")[0] for action in actions] == [
            "refunded",
            "ask-again",
            "refunded",
            "refused",
        ]


async def told_of_two(service: httpx2.AsyncClient) -> str:
    sentence = (await alarms(service)).get("refunds", "")
    return sentence if sentence.startswith("2 ") else ""


async def both_refusals(log: Wire, order_id: UUID) -> bool:
    return len([each for each in await log.heard(RefundFailed) if each.key == str(order_id)]) == 2


async def test_payments_are_listed_newest_first_a_page_at_a_time(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    async with running("payment", made, tmp_path) as service, wire(made) as log:
        order_ids = [new_order_id() for _ in range(5)]
        for order_id in order_ids:
            await log.say(placed(order_id, "pm_card_visa"), "/orderflow/order")
        for order_id in order_ids:
            await log.hear(PaymentSucceeded, order_id)
        found: list[str] = []
        cursor: dict[str, str] = {}
        while cursor is not None:
            page = (await service.get("/payments", params={"limit": "2", **cursor})).raise_for_status().json()
            found += [each["order_id"] for each in page["payments"]]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert found == sorted(map(str, order_ids), reverse=True)
        assert sorted(await listed(service, "CAPTURED")) == sorted(found)
        assert await listed(service, "REFUNDED") == []
        assert (await service.get("/payments", params={"status": "LOST"})).status_code == 422
