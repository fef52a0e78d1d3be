"""Dead letters: their groups, one of them, and what can be done about it: edit, discard, note, a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderflow.console import commands
from orderflow.console.asking import AskError, Replies, segment
from orderflow.console.live import Parts
from orderflow.console.pages import NO_PAGE, Area, Pages, go_on
from orderflow.core.operations.model import (
    DeadLetterDetails,
    DeadLetterGroup,
    DeadLetterPage,
    FieldChange,
    Replay,
)
from orderflow.http.operators.letters import Preview

PAGE = 50
GROUPS_SHOWN = 100
REPLAYS_SHOWN = 10
LIVE_EVERY_S = 2.0
EDIT_MAX = 40_000
PATH = "/ops/dead-letters"
STATES = ("dead", "retrying", "held")


@dataclass(frozen=True, slots=True)
class Overview:
    """All groups, largest first, and the newest replays, with the service of each."""

    groups: Sequence[tuple[str, DeadLetterGroup]]
    replays: Sequence[tuple[str, Replay]]
    away: Replies[Any]
    more: int

    @property
    def dead(self) -> int:
        return sum(group.count for _, group in self.groups)


class LettersArea(Area):
    """What is at `/dead-letters`."""

    async def overview(self, request: Request) -> Response:
        state = request.query_params.get("state", "dead")
        if state not in STATES:
            raise HTTPException(404, NO_PAGE)
        if state == "dead":
            return self._pages.html(request, "letters.html", state=state, view=await self._overview())
        found = await self._services.everyone(lambda name: self._page(name, {"state": state}))
        return self._pages.html(request, "waiting.html", state=state, found=found)

    async def live(self, request: Request) -> Response:
        return self._pages.stream(self._parts(request))

    async def listed(self, request: Request) -> Response:
        """Letters of one service, of a group or of a state, a page at a time."""
        name = self._service(request)
        given = {key: request.query_params.get(key, "") for key in ("state", "fingerprint", "after")}
        page = await self._page(name, given)
        groups = await self._groups(name) if given["fingerprint"] else ()
        group = next((each for each in groups if each.fingerprint == given["fingerprint"]), None)
        return self._pages.html(request, "group.html", name=name, page=page, group=group, given=given)

    async def one(self, request: Request) -> Response:
        name, position = self._service(request), request.path_params["position"]
        details = await self._services.read(DeadLetterDetails, name, f"{PATH}/{position}")
        return self._pages.html(request, "letter.html", name=name, details=details, edit_max=EDIT_MAX)

    async def test(self, request: Request) -> Response:
        name, position = self._service(request), request.path_params["position"]
        asked = ("dlt", "pytest", str(position), "--service", name, "--output", "-")
        ended = await commands.run(self._services.home, *asked)
        return self._pages.html(request, "_test.html", ended=ended)

    async def preview(self, request: Request) -> Response:
        name, position, said = await self._asked(request)
        value = said.get("value", "").replace("\r\n", "\n")
        found = await self._services.act(name, "POST", f"{PATH}/{position}/preview", {"text": value})
        preview = Preview(event_id=found["event_id"], changes=[FieldChange(**change) for change in found["changes"]])
        page = await self._page(name, {"state": "all"}, limit=1)
        return self._pages.html(
            request, "_preview.html", name=name, position=position, value=value, preview=preview, confirm=page.confirm
        )

    async def edit(self, request: Request) -> Response:
        name, position, said = await self._asked(request)
        body = {"text": said.get("value", ""), "seen": said.get("seen"), **_confirmed(said)}
        edited = await self._services.act(name, "PUT", f"{PATH}/{position}/value", body)
        return go_on(request, f"/dead-letters/{name}/{edited['position']}")

    async def discard(self, request: Request) -> Response:
        name, position, said = await self._asked(request)
        await self._services.act(name, "POST", f"{PATH}/{position}/discard", _confirmed(said))
        return go_on(request, "/dead-letters")

    async def note(self, request: Request) -> Response:
        name, said = self._service(request), await self._pages.form(request)
        path = f"/ops/dead-letter-groups/{segment(said.get('fingerprint', ''))}/note"
        await self._services.act(name, "PUT", path, {"note": said.get("note", "")})
        place = f"/dead-letters/{name}?fingerprint={segment(said.get('fingerprint', ''))}"
        return self._pages.done(request, "The note is saved.", place)

    async def _asked(self, request: Request) -> tuple[str, int, Any]:
        return self._service(request), request.path_params["position"], await self._pages.form(request)

    async def _page(self, name: str, asked: Any, limit: int = PAGE) -> DeadLetterPage:
        return await self._services.read(DeadLetterPage, name, PATH, {**asked, "limit": limit})

    async def _groups(self, name: str) -> Sequence[DeadLetterGroup]:
        return await self._services.read(list[DeadLetterGroup], name, "/ops/dead-letter-groups")

    async def _overview(self) -> Overview:
        async def replays(name: str) -> Sequence[Replay]:
            return await self._services.read(list[Replay], name, "/ops/replays", {"limit": REPLAYS_SHOWN})

        grouped, replayed = await asyncio.gather(
            self._services.everyone(self._groups), self._services.everyone(replays)
        )
        found = [(name, group) for name, each in grouped.found.items() for group in each]
        begun = [(name, replay) for name, each in replayed.found.items() for replay in each]
        found.sort(key=lambda named: -named[1].count)
        begun.sort(key=lambda named: named[1].created_at, reverse=True)
        more = max(0, len(found) - GROUPS_SHOWN)
        return Overview(found[:GROUPS_SHOWN], begun[:REPLAYS_SHOWN], grouped, more)

    async def _parts(self, request: Request) -> AsyncIterator[Parts]:
        while True:
            try:
                view = await self._overview()
                yield {
                    "groups": self._pages.part("_groups.html", request, view=view),
                    "replays": self._pages.part("_replays.html", request, view=view),
                }
            except AskError as error:
                yield {"groups": self._pages.part("_problem.html", request, said=str(error))}
            await asyncio.sleep(LIVE_EVERY_S)


def _confirmed(said: Any) -> dict[str, Any]:
    """The page has asked: a form that bears a reason is a person who means it."""
    return {"reason": said.get("reason", ""), "confirmed": True}


def routes(pages: Pages) -> Sequence[Route]:
    """The groups, one letter, and what can be done about it."""
    area = LettersArea(pages)
    one = "/dead-letters/{service}/{position:int}"
    return (
        Route("/dead-letters", area.overview),
        Route("/live/dead-letters", area.live),
        Route("/dead-letters/{service}", area.listed),
        Route("/dead-letters/{service}/note", area.note, methods=["POST"]),
        Route(one, area.one),
        Route(f"{one}/test", area.test),
        Route(f"{one}/preview", area.preview, methods=["POST"]),
        Route(f"{one}/edit", area.edit, methods=["POST"]),
        Route(f"{one}/discard", area.discard, methods=["POST"]),
    )
