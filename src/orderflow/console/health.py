"""How everything is: services and processes, consumers by partition, outages, faults, the audit, who did what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderflow.console import commands
from orderflow.console.asking import AskError, Replies, Services, segment
from orderflow.console.live import Parts
from orderflow.console.pages import Area, Pages, refuse
from orderflow.core.operations.model import Expired, OperatorAction
from orderflow.http.operators.outages import OutageList, OutageView
from orderflow.http.operators.queues import Lag
from orderflow.local.state import RunState

LIVE_EVERY_S = 2.0
ACTIONS = 20
FINDINGS_SHOWN = 50
AUDIT_AWAY = "The page cannot open the databases of your own server. Run this in a terminal: orderflow audit"


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What one service says of itself. `faults` is None where it runs outside of game days."""

    ready: bool
    problems: dict[str, str]
    alarms: dict[str, str]
    lag: Sequence[Lag]
    outages: Sequence[OutageView]
    consumers: Sequence[str]
    expired: Sequence[Expired]
    faults: Sequence[Any] | None


@dataclass(frozen=True, slots=True)
class HealthView:
    """All of them, and what runs by the supervisor's notes (None: no `orderflow up` runs on this home)."""

    services: Replies[ServiceHealth]
    state: RunState | None

    @property
    def outages(self) -> Sequence[tuple[str, OutageView]]:
        return [(name, each) for name, health in self.services.found.items() for each in health.outages]

    @property
    def expired(self) -> Sequence[tuple[str, Expired]]:
        return [(name, each) for name, health in self.services.found.items() for each in health.expired]

    @property
    def game_day(self) -> Sequence[str]:
        """The services that take faults."""
        return [name for name, health in self.services.found.items() if health.faults is not None]

    @property
    def faults(self) -> Sequence[tuple[str, Any]]:
        return [(name, each) for name, health in self.services.found.items() for each in health.faults or ()]

    @property
    def lag(self) -> Sequence[tuple[str, Lag]]:
        return [(name, row) for name, health in self.services.found.items() for row in health.lag]

    @property
    def is_well(self) -> bool:
        found = self.services.found.values()
        return not self.services.away and all(health.ready and not health.alarms for health in found)


async def health_of(services: Services, name: str) -> ServiceHealth:
    """Raises AskError: it does not answer."""
    ready, lag, outages, expired, faults = await asyncio.gather(
        services.inspect(name, "/health/ready"),
        _or_nothing(services.read(list[Lag], name, "/ops/lag")),
        _or_nothing(services.read(OutageList, name, "/ops/outages")),
        _or_nothing(services.read(list[Expired], name, "/ops/expired")),
        _or_nothing(services.inspect(name, "/ops/faults")),
    )
    return ServiceHealth(
        ready=ready["ready"],
        problems=ready["problems"],
        alarms=ready.get("alarms", {}),
        lag=lag or (),
        outages=outages.outages if outages else (),
        consumers=outages.consumers if outages else (),
        expired=expired or (),
        faults=None if faults is None else faults["faults"],
    )


async def _or_nothing(asked: Any) -> Any:
    """A service whose database or log is away still says how it is."""
    try:
        return await asked
    except AskError:
        return None


class HealthArea(Area):
    """What is at `/health`."""

    async def show(self, request: Request) -> Response:
        view, actions = await asyncio.gather(self._view(), self._actions())
        return self._pages.html(request, "health.html", view=view, actions=actions)

    async def live(self, request: Request) -> Response:
        return self._pages.stream(self._parts(request))

    async def overrule(self, request: Request) -> Response:
        name, said = self._service(request), await self._pages.form(request)
        wanted = {key: said.get(key, "") for key in ("consumer", "event_type", "verdict", "reason")}
        await self._services.act(name, "POST", "/ops/outages", wanted)
        return self._pages.done(request, "It is overruled, for an hour.", "/health")

    async def add_fault(self, request: Request) -> Response:
        said = await self._pages.form(request)
        name = said.get("service", "")
        if name not in self._services.names:
            refuse("Choose the service whose events are to fail.")
        wanted = {key: said.get(key, "") for key in ("event_type", "field", "value", "error")}
        await self._services.act(name, "POST", "/ops/faults", wanted)
        return self._pages.done(request, "The fault is set.", "/health")

    async def clear_fault(self, request: Request) -> Response:
        name, said = self._service(request), await self._pages.form(request)
        await self._services.act(name, "DELETE", f"/ops/faults/{segment(said.get('id', ''))}")
        return self._pages.done(request, "Cleared.", "/health")

    async def audit(self, request: Request) -> Response:
        await self._pages.form(request)
        if self._services.settings.is_given("log_database_url"):
            refuse(AUDIT_AWAY)
        ended = await commands.run(self._services.home, "audit", "--json")
        try:
            report = json.loads(ended.output)
        except ValueError:
            refuse(ended.problem or "The audit did not answer. Run it in a terminal: orderflow audit", 503)
        return self._pages.html(request, "_audit.html", report=report, shown=FINDINGS_SHOWN)

    async def _view(self) -> HealthView:
        found = await self._services.everyone(lambda name: health_of(self._services, name))
        return HealthView(found, self._services.state())

    async def _actions(self) -> Sequence[tuple[str, OperatorAction]]:
        async def actions(name: str) -> Sequence[OperatorAction]:
            return await self._services.read(list[OperatorAction], name, "/ops/actions", {"limit": ACTIONS})

        replies = await self._services.everyone(actions)
        found = [(name, action) for name, each in replies.found.items() for action in each]
        return sorted(found, key=lambda named: named[1].at, reverse=True)[:ACTIONS]

    async def _parts(self, request: Request) -> AsyncIterator[Parts]:
        while True:
            view, actions = await asyncio.gather(self._view(), self._actions())
            names = ("services", "outages", "faults", "partitions")
            yield {
                **{name: self._pages.part(f"_{name}.html", request, view=view) for name in names},
                "actions": self._pages.part("_actions.html", request, actions=actions),
            }
            await asyncio.sleep(LIVE_EVERY_S)


def routes(pages: Pages) -> Sequence[Route]:
    """How everything is, and what can be done about it."""
    area = HealthArea(pages)
    return (
        Route("/health", area.show),
        Route("/live/health", area.live),
        Route("/health/audit", area.audit, methods=["POST"]),
        Route("/health/faults", area.add_fault, methods=["POST"]),
        Route("/health/{service}/overrule", area.overrule, methods=["POST"]),
        Route("/health/{service}/faults/clear", area.clear_fault, methods=["POST"]),
    )
