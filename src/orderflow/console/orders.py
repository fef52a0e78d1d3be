"""Orders: searched, watched as they come, and placed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from orderflow import bank
from orderflow.console.asking import AskError, decoded, segment
from orderflow.console.live import Parts
from orderflow.console.pages import Area, Pages, go_on, refuse
from orderflow.events.currencies import CURRENCIES
from orderflow.services.order.storage import OrderPage, to_cursor

PAGE = 25
LIVE_EVERY_S = 1.0
ID_DIGITS = 32
DIGITS = re.compile(r"[0-9a-f]{6,32}")
AGES: Mapping[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "10m": timedelta(minutes=10),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
STATUSES = ("PENDING", "PAID", "COMPLETED", "FAILED")
CARDS: Sequence[tuple[str, str]] = (
    ("pm_card_visa", "approved"),
    ("pm_card_chargeDeclined", "declined"),
    ("pm_card_chargeDeclinedInsufficientFunds", "declined: no funds"),
    (bank.SLOW, "approved, but slowly"),
    (bank.FAILS_TWICE, "the bank fails twice, then charges"),
    (bank.TIMEOUT_CHARGED, "no answer in time, and charged"),
    (bank.TIMEOUT_NOT_CHARGED, "no answer in time, not charged"),
    (bank.REFUND_FAILS, "charged; the bank refuses to give it back"),
)
USUAL_SKU = "SKU-ESPRESSO-CUP"
SOLD_OUT = "SKU-SOLD-OUT"
USUAL_PRICE = "5.90"


@dataclass(frozen=True, slots=True)
class OrderSearch:
    """What is looked for. `q` is the end of an id, or a customer."""

    q: str = ""
    status: str = ""
    sku: str = ""
    age: str = ""
    cursor: str = ""

    @classmethod
    def of(cls, request: Request) -> OrderSearch:
        given = request.query_params
        status, age = given.get("status", ""), given.get("age", "")
        return cls(
            q=given.get("q", "").strip(),
            status=status if status in STATUSES else "",
            sku=given.get("sku", "").strip(),
            age=age if age in AGES else "",
            cursor=given.get("cursor", ""),
        )

    @property
    def digits(self) -> str | None:
        """The end of an id, if that is what was typed."""
        plain = self.q.lower().replace("-", "").removeprefix("…").removeprefix("...")
        return plain if DIGITS.fullmatch(plain) else None

    @property
    def is_live(self) -> bool:
        """Whether the newest orders are shown, which change."""
        return not (self.q or self.sku or self.age or self.cursor)

    def asked(self) -> Mapping[str, Any]:
        """Of the order service."""
        if self.digits is not None:
            return {"id_ends": self.digits, "limit": PAGE}
        cursor = self.cursor
        if self.age and not cursor:
            until_ms = round((datetime.now(UTC) - AGES[self.age]).timestamp() * 1000)
            cursor = to_cursor(UUID(int=until_ms << 80))
        return {"status": self.status, "customer_id": self.q, "sku": self.sku, "cursor": cursor, "limit": PAGE}

    def query(self, **changes: str) -> str:
        """As the query of an address."""
        told = {name: getattr(self, name) for name in ("q", "status", "sku", "age", "cursor")}
        return urlencode({name: text for name, text in {**told, **changes}.items() if text})


class OrdersArea(Area):
    """What is at `/orders`."""

    async def listed(self, request: Request) -> Response:
        search = OrderSearch.of(request)
        if search.digits and len(search.digits) == ID_DIGITS:
            return RedirectResponse(f"/orders/{UUID(search.digits)}", 303)
        found = await self._found(search)
        if search.digits and len(found.orders) == 1:
            return RedirectResponse(f"/orders/{found.orders[0].id}", 303)
        return self._pages.html(
            request,
            "orders.html",
            search=search,
            page=found,
            skus=await self._skus(),
            statuses=STATUSES,
            usual_sku=USUAL_SKU,
            cards=CARDS,
            currencies=sorted(CURRENCIES),
            price=USUAL_PRICE,
            key=str(uuid4()),
        )

    async def live(self, request: Request) -> Response:
        return self._pages.stream(self._newest(request, OrderSearch.of(request)))

    async def place(self, request: Request) -> Response:
        said = await self._pages.form(request)
        order = {
            "customer_id": said.get("customer_id", ""),
            "currency": said.get("currency", ""),
            "items": [
                {
                    "sku": said.get("sku", ""),
                    "quantity": _whole(said.get("quantity", ""), "quantity"),
                    "unit_price": _minor(said.get("price", ""), said.get("currency", "")),
                }
            ],
            "payment_method": said.get("payment_method", ""),
        }
        headers = {"idempotency-key": json.dumps(said.get("key", ""))}
        placed = await self._services.place("order", "/orders", order, headers)
        return go_on(request, f"/orders/{segment(placed['id'])}")

    async def _found(self, search: OrderSearch) -> OrderPage:
        return decoded(OrderPage, "order", await self._services.get("order", "/orders", search.asked()))

    async def _skus(self) -> Sequence[str]:
        try:
            page = await self._services.get("inventory", "/stock", {"limit": 100})
        except AskError:
            return (USUAL_SKU, SOLD_OUT)
        return [stock["sku"] for stock in page["stock"]] or (USUAL_SKU,)

    async def _newest(self, request: Request, search: OrderSearch) -> AsyncIterator[Parts]:
        while True:
            try:
                page = await self._found(search)
                yield {"orders": self._pages.part("_orders.html", request, search=search, page=page)}
            except AskError as error:
                yield {"orders": self._pages.part("_problem.html", request, said=str(error))}
            await asyncio.sleep(LIVE_EVERY_S)


def _whole(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit()):
        refuse(f"The {field} must be a whole number, such as 2.")
    return int(text)


def _minor(text: str, currency: str) -> int:
    """An amount as people write it, in minor units."""
    digits = CURRENCIES.get(currency)
    if digits is None:
        refuse(f"{currency!r} is no currency that can be paid in. Choose one of the list.")
    try:
        scaled = Decimal(text.replace(",", ".")).scaleb(digits)
    except InvalidOperation:
        refuse("The price must be an amount, such as 5.90.")
    if not scaled.is_finite() or scaled != scaled.to_integral_value() or scaled < 0:
        refuse(f"The price must be an amount with at most {digits} digits after the point, such as 5.90.")
    return int(scaled)


def routes(pages: Pages) -> Sequence[Route]:
    """The list, its stream, and the form for a test order."""
    area = OrdersArea(pages)
    return (
        Route("/orders", area.listed),
        Route("/orders", area.place, methods=["POST"]),
        Route("/live/orders", area.live),
    )
