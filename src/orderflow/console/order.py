"""One order over all services: what each knows of it, its timeline, what comes next and who owes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderflow.console.asking import AskError, Replies, converted
from orderflow.console.live import Parts
from orderflow.console.pages import Pages
from orderflow.console.showing import moment
from orderflow.console.topics import LOOKED_MAX, Log, records_of
from orderflow.core.operations.model import DeadLetter, DeadLetterPage
from orderflow.core.operations.repairing import Said, Standing
from orderflow.services.order.storage import OrderDetails

WATCH_EVERY_S = 0.5
SETTLED_S = 5.0
TONES: Mapping[str, str] = {
    "COMPLETED": "good",
    "FAILED": "bad",
    "PAID": "info",
    "CAPTURED": "good",
    "DECLINED": "bad",
}


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the timeline: when, at which service, what, and the event that caused or says it."""

    at: datetime
    service: str
    what: str
    detail: str = ""
    tone: str = "quiet"


@dataclass(frozen=True, slots=True)
class OrderWhole:
    """An order, and what each service has of it."""

    order: OrderDetails
    payment: Any
    notifications: Sequence[Any]
    standing: Replies[Standing]
    letters: Replies[Sequence[DeadLetter]]

    @property
    def waiting(self) -> Sequence[tuple[str, DeadLetter]]:
        """The events of the order that wait, with the service at which they do."""
        return [(name, letter) for name, letters in self.letters.found.items() for letter in letters]

    @property
    def is_settled(self) -> bool:
        final = self.order.status in {"COMPLETED", "FAILED"} and self.order.refund not in {"due", "refused"}
        return final and not self.waiting and bool(self.notifications) and not self.order.stuck

    @property
    def said(self) -> Sequence[tuple[str, Said]]:
        """The events that each service stands for, by its rows."""
        return [(name, each) for name, standing in self.standing.found.items() for each in standing.said]

    @property
    def asks(self) -> Sequence[tuple[str, str]]:
        """What is open at the outside world."""
        return [(name, each) for name, standing in self.standing.found.items() for each in standing.asks]

    @property
    def timeline(self) -> Sequence[TimelineEntry]:
        return sorted(self._entries(), key=lambda entry: entry.at)

    def _entries(self) -> Iterator[TimelineEntry]:
        for step in self.order.history:
            yield TimelineEntry(
                at=step.at,
                service="order",
                what=f"refund {step.refund}" if step.refund else str(step.status),
                detail=step.event + (f": {step.reason}" if step.reason else ""),
                tone="warn" if step.refund in {"due", "refused"} else TONES.get(step.status, "quiet"),
            )
        if self.payment:
            yield from self._paid(self.payment)
        for each in self.notifications:
            at = moment(each["at"])
            yield TimelineEntry(at=at, service="notification", what="told the customer", detail=each["text"])
        for name, letter in self.waiting:
            tone = "bad" if letter.state == "dead" else "warn"
            at = letter.last_failed_at or letter.parked_at
            detail = f"{letter.event_type} {letter.error}"
            yield TimelineEntry(at=at, service=name, what=str(letter.state), detail=detail, tone=tone)

    @staticmethod
    def _paid(payment: Any) -> Iterator[TimelineEntry]:
        began, changed, status = moment(payment["created_at"]), moment(payment["changed_at"]), payment["status"]
        yield TimelineEntry(at=began, service="payment", what="asks the bank", detail=payment["payment_method"])
        if changed > began or status != "CHARGING":
            detail = payment["reason"] or payment["charge_reference"] or ""
            yield TimelineEntry(
                at=changed, service="payment", what=status, detail=detail, tone=TONES.get(status, "warn")
            )

    @property
    def next_step(self) -> tuple[str, str]:
        """A sentence on what comes next and who owes it, and its tone."""
        order = self.order
        if self.waiting:
            name, letter = self.waiting[0]
            if letter.state == "dead":
                return f"The {name} service gave up on an event of this order. It waits for you.", "bad"
            return f"The {name} service failed on an event of this order and tries it again by itself.", "warn"
        if self.asks:
            return (
                "The bank has been asked and has not answered yet. The payment service asks again by itself.",
                "info",
            )
        if order.status == "PENDING":
            return "The payment service owes the next step: it hears of the order and asks the bank.", "info"
        if order.status == "PAID":
            return "The inventory service owes the next step: it sets the goods aside.", "info"
        if order.refund == "due":
            return "The goods were out of stock. The payment service owes the refund.", "warn"
        if order.refund == "refused":
            return "The bank refuses the refund. Settle it with: orderflow payment settle", "bad"
        if order.status == "FAILED":
            return "The order has ended, and nothing is owed.", "quiet"
        return "The order is complete: paid, and the goods are set aside.", "good"


class OrderArea:
    """What is at `/orders/ID`. `log` opens the topics."""

    def __init__(self, pages: Pages, log: Log) -> None:
        self._pages = pages
        self._services = pages.services
        self._log = log

    async def one(self, request: Request) -> Response:
        view = await self.view(request.path_params["id"])
        return self._pages.html(request, "order.html", view=view)

    async def watch(self, request: Request) -> Response:
        return self._pages.stream(self._steps(request, request.path_params["id"]))

    async def records(self, request: Request) -> Response:
        found = await records_of(self._log, request.path_params["id"])
        return self._pages.html(request, "_records.html", found=found, looked=LOOKED_MAX)

    async def view(self, order_id: UUID) -> OrderWhole:
        """All that the services know of an order. Raises AskError: the order service does not know it."""
        path = f"/{order_id}"
        order, payment, told, standing, letters = await asyncio.gather(
            self._services.get("order", f"/orders{path}"),
            self._unless_missing("payment", f"/payments{path}"),
            self._unless_missing("notification", "/notifications", {"order_id": str(order_id)}),
            self._services.everyone(lambda name: self._services.read(Standing, name, f"/ops/repairs{path}")),
            self._services.everyone(lambda name: self._letters(name, order_id)),
        )
        return OrderWhole(
            order=converted(OrderDetails, "order", order),
            payment=payment,
            notifications=(told or {}).get("notifications", ()),
            standing=standing,
            letters=letters,
        )

    async def _letters(self, name: str, order_id: UUID) -> Sequence[DeadLetter]:
        asked = {"key": str(order_id), "state": "all", "limit": 50}
        page = await self._services.read(DeadLetterPage, name, "/ops/dead-letters", asked)
        return page.dead_letters

    async def _unless_missing(self, name: str, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """None where there is none, or nobody answers: the rest is shown all the same."""
        try:
            return await self._services.get(name, path, parameters)
        except AskError:
            return None

    async def _steps(self, request: Request, order_id: UUID) -> AsyncIterator[Parts]:
        """Until the order has ended and nothing of it has changed for a while."""
        quiet_s = 0.0
        shown = ""
        while quiet_s < SETTLED_S:
            try:
                view = await self.view(order_id)
                part = self._pages.part("_order.html", request, view=view)
                quiet_s = quiet_s + WATCH_EVERY_S if view.is_settled and part == shown else 0.0
                shown = part
            except AskError as error:
                part = self._pages.part("_problem.html", request, said=str(error))
            yield {"order": part}
            await asyncio.sleep(WATCH_EVERY_S)
        yield {"end": "-"}


def routes(pages: Pages, log: Log) -> Sequence[Route]:
    """The page of an order, its stream, and its records."""
    area = OrderArea(pages, log)
    return (
        Route("/orders/{id:uuid}", area.one),
        Route("/orders/{id:uuid}/records", area.records),
        Route("/live/orders/{id:uuid}", area.watch),
    )
