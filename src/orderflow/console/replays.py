"""Rehearsals and replays of dead letters: what one would do, its start, its progress, and a hand on its brake."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderflow.console.asking import REHEARSE_TIMEOUT_S, AskError, decoded
from orderflow.console.live import Parts
from orderflow.console.pages import NO_PAGE, Area, Pages, go_on, refuse
from orderflow.core.operations.model import Rehearsed, Replay

REHEARSED_MAX = 100
SHOWN = 25
LIVE_EVERY_S = 0.5


class ReplaysArea(Area):
    """What is at `/replays`, and rehearsals."""

    async def rehearse(self, request: Request) -> Response:
        name, said = self._service(request), await self._pages.form(request)
        body = {"filter": _wanted(said), "limit": REHEARSED_MAX}
        answer = await self._services.act(name, "POST", "/ops/rehearsals", body, timeout_s=REHEARSE_TIMEOUT_S)
        rehearsed = decoded(list[Rehearsed], name, answer)
        verdicts = Counter(str(each.verdict) for each in rehearsed)
        return self._pages.html(
            request,
            "_rehearsed.html",
            name=name,
            rehearsed=rehearsed[:SHOWN],
            verdicts=verdicts,
            total=len(rehearsed),
        )

    async def begin(self, request: Request) -> Response:
        name, said = self._service(request), await self._pages.form(request)
        plan: dict[str, Any] = {"canary": said.get("canary") == "on"}
        if said.get("rate"):
            plan["rate_per_s"] = _number(said["rate"])
        body = {"filter": _wanted(said), "plan": plan, "reason": said.get("reason", ""), "confirmed": True}
        begun = await self._services.act(name, "POST", "/ops/replays", body)
        return go_on(request, f"/replays/{name}/{begun['number']}")

    async def one(self, request: Request) -> Response:
        name, number = self._named(request)
        replay = await self._read(name, number)
        return self._pages.html(request, "replay.html", name=name, replay=replay)

    async def live(self, request: Request) -> Response:
        return self._pages.stream(self._steps(request, *self._named(request)))

    async def control(self, request: Request) -> Response:
        name, number = self._named(request)
        said = await self._pages.form(request)
        what: str = request.path_params["what"]
        if what not in {"pause", "resume"}:
            raise HTTPException(404, NO_PAGE)
        body = {"reason": said.get("reason", ""), "confirmed": True}
        await self._services.act(name, "POST", f"/ops/replays/{number}/{what}", body)
        said_so = "It is paused." if what == "pause" else "It goes on."
        return self._pages.done(request, said_so, f"/replays/{name}/{number}")

    async def _steps(self, request: Request, name: str, number: int) -> AsyncIterator[Parts]:
        while True:
            try:
                replay = await self._read(name, number)
            except AskError as error:
                yield {"replay": self._pages.part("_problem.html", request, said=str(error))}
            else:
                yield {"replay": self._pages.part("_replay.html", request, name=name, replay=replay)}
                if replay.state == "done":
                    break
            await asyncio.sleep(LIVE_EVERY_S)
        yield {"end": "-"}

    async def _read(self, name: str, number: int) -> Replay:
        return await self._services.read(Replay, name, f"/ops/replays/{number}")

    def _named(self, request: Request) -> tuple[str, int]:
        return self._service(request), request.path_params["number"]


def _wanted(said: Mapping[str, str]) -> dict[str, Any]:
    """One event, or a whole group. Raises HTTPException: neither, so that nobody replays all by mistake."""
    position, fingerprint = said.get("position", ""), said.get("fingerprint", "")
    if position.isascii() and position.isdigit():
        return {"events": [int(position)]}
    if not fingerprint:
        refuse("Choose dead letters first: one, or a group.")
    return {"fingerprint": fingerprint}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        refuse("The rate must be a number of events per second, such as 10.")


def routes(pages: Pages) -> Sequence[Route]:
    """Rehearsals, and the page of a replay."""
    area = ReplaysArea(pages)
    return (
        Route("/dead-letters/{service}/rehearse", area.rehearse, methods=["POST"]),
        Route("/dead-letters/{service}/replay", area.begin, methods=["POST"]),
        Route("/replays/{service}/{number:int}", area.one),
        Route("/live/replays/{service}/{number:int}", area.live),
        Route("/replays/{service}/{number:int}/{what}", area.control, methods=["POST"]),
    )
