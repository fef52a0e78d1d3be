"""One order over all services: what each knows of it, its timeline, what comes next and who owes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from msgspec import json
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderflow.console.asking import AskError, decoded
from orderflow.console.live import Parts
from orderflow.console.pages import Area, Pages, refuse
from orderflow.console.showing import moment
from orderflow.core.operations.model import DeadLetter
from orderflow.core.operations.repairing import Said
from orderflow.diagnosis.causes import Explanation, explain
from orderflow.diagnosis.evidence import (
    KeyEvidence,
    NoAnswerError,
    Observations,
    Subscriber,
    ask_key,
    ask_order,
    ask_service,
    consumers_of,
)
from orderflow.diagnosis.topics import LOOKED_MAX, Log, records_of, trace_of
from orderflow.registry import service_names, service_of
from orderflow.services.order.storage import OrderDetails

SETTLED_BY_HAND_AFTER = timedelta(seconds=10)
CHARGE = (("charged", "The money was taken"), ("not-charged", "It was not taken, and never will be"))
REFUND = (("refunded", "The customer has the money back"), ("not-charged", "It was never taken"))
SETTLEMENTS: Mapping[str, Sequence[tuple[str, str]]] = {
    "CHARGING": CHARGE,
    "UNKNOWN": CHARGE,
    "REFUND_DUE": REFUND,
    "REFUND_REFUSED": (*REFUND, ("ask-again", "Ask the bank again: it will refund now")),
}
CHANGED = "The payment is {now} now; it was {seen} when you opened the form. Check it again."
NOT_KEPT = {"cache-control": "no-store"}
WATCH_EVERY_S = 1.0
QUIET_S = 5.0


@dataclass(frozen=True, slots=True)
class OrderWhole:
    """An order, what each service has of it, and why it is where it is."""

    order: OrderDetails
    explained: Explanation
    payment: Any
    notifications: Sequence[Any]
    keys: Mapping[str, KeyEvidence]

    @property
    def waiting(self) -> Sequence[tuple[str, DeadLetter]]:
        """The events of the order that wait, with the service at which they do."""
        return [(name, letter) for name, key in self.keys.items() for letter in key.letters]

    @property
    def is_quiet(self) -> bool:
        final = self.order.status in {"COMPLETED", "FAILED"} and self.order.refund not in {"due", "refused"}
        return final and not self.waiting and bool(self.notifications) and not self.order.stuck

    @property
    def settlements(self) -> Sequence[tuple[str, str]]:
        """What a person may say became of the money: where the bank leaves it open for longer than usual."""
        if self.payment is None:
            return ()
        waits = datetime.now(UTC) - moment(self.payment["changed_at"]) >= SETTLED_BY_HAND_AFTER
        return SETTLEMENTS.get(self.payment["status"], ()) if waits else ()

    @property
    def said(self) -> Sequence[tuple[str, Said]]:
        """The events that each service stands for, by its rows."""
        return [(name, each) for name, key in self.keys.items() for each in key.said]


@cache
def _consumers() -> Sequence[Subscriber]:
    """Who reads what. The services' declarations are loaded when an order is first looked at."""
    return consumers_of(map(service_of, service_names()))


class OrderArea(Area):
    """What is at `/orders/ID`. `log` opens the topics."""

    def __init__(self, pages: Pages, log: Log) -> None:
        super().__init__(pages)
        self._log = log

    async def one(self, request: Request) -> Response:
        view = await self.view(request.path_params["id"])
        return self._pages.html(request, "order.html", view=view)

    async def watch(self, request: Request) -> Response:
        return self._pages.stream(self._steps(request, request.path_params["id"]))

    async def settle(self, request: Request) -> Response:
        order_id, said = request.path_params["id"], await self._pages.form(request)
        now, seen = (await self._services.get("payment", f"/payments/{order_id}"))["status"], said.get("seen", "")
        if now != seen:
            refuse(CHANGED.format(now=now, seen=seen), 409)
        body = {"outcome": said.get("outcome", ""), "reason": said.get("reason", ""), "confirmed": True}
        await self._services.act("payment", "POST", f"/payments/{order_id}/settlement", body)
        return self._pages.done(request, "It is settled. The order goes on.", f"/orders/{order_id}")

    async def explanation(self, request: Request) -> Response:
        """For programs: what `orderflow order explain ID --json` prints, or a problem document (RFC 9457)."""
        order_id = request.path_params["id"]
        try:
            view, trace_id = await asyncio.gather(self.view(order_id), trace_of(self._log, order_id))
        except AskError as error:
            status = error.status or 503
            problem = {"title": "No explanation", "status": status, "detail": str(error)}
            return Response(json.encode(problem), status, NOT_KEPT, "application/problem+json")
        return Response(json.encode(replace(view.explained, trace_id=trace_id)), 200, NOT_KEPT, "application/json")

    async def view(self, order_id: UUID) -> OrderWhole:
        """All that the services know of an order. Raises AskError: the order service does not know it."""
        path = f"/{order_id}"
        order, (explained, keys), payment, told = await asyncio.gather(
            self._services.get("order", f"/orders{path}"),
            self._explained(str(order_id)),
            self._unless_missing("payment", f"/payments{path}"),
            self._unless_missing("notification", "/notifications", {"order_id": str(order_id)}),
        )
        return OrderWhole(
            order=decoded(OrderDetails, "order", order),
            explained=explained,
            payment=payment,
            notifications=(told or {}).get("notifications", ()),
            keys=keys,
        )

    async def _explained(self, order_id: str) -> tuple[Explanation, Mapping[str, KeyEvidence]]:
        loop, names = asyncio.get_running_loop(), self._services.names

        def ask(name: str, path: str) -> Any:
            return asyncio.run_coroutine_threadsafe(self._answer(name, path), loop).result()

        asked = [asyncio.to_thread(ask_service, ask, name) for name in names]
        services, order = await asyncio.gather(asyncio.gather(*asked), asyncio.to_thread(ask_order, ask, order_id))
        there = [each.name for each in services if not each.away]
        found = await asyncio.gather(*(asyncio.to_thread(ask_key, ask, name, order_id) for name in there))
        keys = dict(zip(there, found, strict=True))
        evidence = Observations(
            order_id=order_id,
            order=order,
            services={each.name: each for each in services},
            keys=keys,
        )
        return explain(evidence, _consumers(), datetime.now(UTC)), keys

    async def _answer(self, name: str, path: str) -> Any:
        """Raises NoAnswerError."""
        try:
            if path == "/metrics":
                return await self._services.scrape(name, self._services.operators_url(name))
            if path.startswith("/orders/"):
                return await self._services.get(name, path)
            return await self._services.inspect(name, path)
        except AskError as error:
            raise NoAnswerError(str(error), silent=error.silent) from error

    async def _unless_missing(self, name: str, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """None where there is none, or nobody answers: the rest is shown all the same."""
        try:
            return await self._services.get(name, path, parameters)
        except AskError:
            return None

    async def _steps(self, request: Request, order_id: UUID) -> AsyncIterator[Parts]:
        """Until the order has ended and nothing of it has changed for a while. The topics are read when something has
        happened to the order, and at the end.
        """
        quiet_s, shown, happened = 0.0, "", 0
        while quiet_s < QUIET_S:
            try:
                view = await self.view(order_id)
                part = self._pages.part("_order.html", request, view=view)
                quiet_s = quiet_s + WATCH_EVERY_S if view.is_quiet and part == shown else 0.0
                shown = part
                yield {"order": part, "settle": self._pages.part("_settle.html", request, view=view)}
                if len(view.explained.timeline) != happened:
                    happened = len(view.explained.timeline)
                    yield await self._records(request, order_id)
            except AskError as error:
                yield {"order": self._pages.part("_problem.html", request, said=str(error))}
            await asyncio.sleep(WATCH_EVERY_S)
        yield await self._records(request, order_id)
        yield {"end": "-"}

    async def _records(self, request: Request, order_id: UUID) -> Parts:
        found = await records_of(self._log, order_id)
        return {"records": self._pages.part("_records.html", request, found=found, looked=LOOKED_MAX)}


def routes(pages: Pages, log: Log) -> Sequence[Route]:
    """The page of an order, its stream, and its explanation for programs."""
    area = OrderArea(pages, log)
    return (
        Route("/orders/{id:uuid}", area.one),
        Route("/orders/{id:uuid}/explanation", area.explanation),
        Route("/orders/{id:uuid}/settle", area.settle, methods=["POST"]),
        Route("/live/orders/{id:uuid}", area.watch),
    )
