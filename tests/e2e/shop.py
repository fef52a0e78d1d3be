"""A shop that sells through a running system: it places orders, asks again when it is not answered, and watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import uuid4

import httpx2

from orderflow.cli.http import is_for_operators
from orderflow.settings import Settings
from tests.support.callers import shown
from tests.support.waiting import eventually

PATIENCE_S = 90.0
FINAL = ("COMPLETED", "FAILED")
VISA = "pm_card_visa"


class Place(Protocol):
    """A running system."""

    def url(self, name: str) -> str:
        """Of a service. Raises AssertionError when it is not running at this moment."""
        ...

    def ops_url(self, name: str) -> str:
        """The same of its operators' endpoints."""
        ...

    def token(self) -> str:
        """One that may do everything."""
        ...

    def settings(self) -> Settings: ...


class Shop:
    """Remembers every order that was answered with 2xx, with what it was."""

    def __init__(self, system: Place) -> None:
        self.system = system
        self.accepted: dict[str, dict[str, Any]] = {}
        self._http = httpx2.AsyncClient(timeout=60.0, trust_env=False, verify=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def stock(self, sku: str, on_hand: int) -> None:
        done = await self.raw("PUT", "inventory", f"/stock/{sku}", json={"on_hand": on_hand})
        assert done.is_success, done.text

    async def place(self, sku: str, *, quantity: int = 1, method: str = VISA, customer: str = "ada") -> str:
        """Place an order as a careful shop does: under one key, until there is an answer; returns its id."""
        key, order = json.dumps(str(uuid4())), order_of(sku, quantity, method, customer)

        async def answered() -> dict[str, Any] | None:
            try:
                url = f"{self.system.url('order')}/orders"
                answer = await self._http.post(url, json=order, headers={"Idempotency-Key": key})
            except httpx2.TransportError:
                return None
            if answer.status_code in (409, 503):
                return None
            assert answer.status_code == 201, answer.text
            placed: dict[str, Any] = answer.json()
            return placed

        placed = required(await eventually(answered, timeout_s=PATIENCE_S, every_s=0.05))
        self.accepted[placed["id"]] = order
        return str(placed["id"])

    async def place_many(self, orders: Iterable[tuple[str, str]], *, side_by_side: int = 8) -> list[str]:
        """(SKU, payment method) each."""
        room = asyncio.Semaphore(side_by_side)

        async def one(sku: str, method: str) -> str:
            async with room:
                return await self.place(sku, method=method)

        return await asyncio.gather(*(one(sku, method) for sku, method in orders))

    async def order(self, order_id: str, wait_s: float = 0) -> dict[str, Any] | None:
        """The order as it is shown, None while the service does not answer."""
        try:
            answer = await self._http.get(
                f"{self.system.url('order')}/orders/{order_id}", params={"wait": wait_s} if wait_s else {}
            )
        except (httpx2.TransportError, AssertionError):
            return None
        shown: dict[str, Any] | None = answer.json() if answer.is_success else None
        return shown

    async def end_of(self, order_id: str) -> dict[str, Any]:
        """The order at its end, its refund made if one was due."""

        async def ended() -> dict[str, Any] | None:
            order = await self.order(order_id, wait_s=2)
            done = order is not None and order["status"] in FINAL and order["refund"] != "due"
            return order if done else None

        return required(await eventually(ended, timeout_s=PATIENCE_S, every_s=0.05))

    async def ends_of(self, order_ids: Sequence[str]) -> list[dict[str, Any]]:
        return await asyncio.gather(*(self.end_of(order_id) for order_id in order_ids))

    async def get(self, service: str, path: str) -> Any:
        answer = await self.raw("GET", service, path)
        assert answer.is_success, answer.text
        return answer.json()

    async def raw(self, method: str, service: str, path: str, **request: Any) -> httpx2.Response:
        system = self.system
        url = system.ops_url(service) if is_for_operators(path.partition("?")[0]) else system.url(service)
        headers = {**shown(system.token()), **request.pop("headers", {})}
        return await self._http.request(method, url + path, headers=headers, **request)


@asynccontextmanager
async def shopping(system: Place) -> AsyncIterator[Shop]:
    """A shop of it, closed at the end."""
    shop = Shop(system)
    try:
        yield shop
    finally:
        await shop.close()


def order_of(sku: str, quantity: int, method: str, customer: str) -> dict[str, Any]:
    return {
        "customer_id": customer,
        "currency": "EUR",
        "items": [{"sku": sku, "quantity": quantity, "unit_price": 590}],
        "payment_method": method,
    }


def required(value: dict[str, Any] | None) -> dict[str, Any]:
    assert value is not None
    return value
