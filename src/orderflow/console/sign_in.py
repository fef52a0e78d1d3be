"""Signing in, by a token of the installation or a link of `orderflow console --sign-in`, and signing out."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderflow.console.pages import Pages, go_on, refuse
from orderflow.console.sessions import SIGN_IN, Links, Sessions, SignedIn, own_path

WORN = "This link was used before, or is older than ten minutes. Ask for a new one: orderflow console --sign-in"
NOTHING_SHOWN = "Enter a token. Create one with: orderflow token create"


class SignInArea:
    """What is at `/sign-in` and `/sign-out`."""

    def __init__(self, pages: Pages, sessions: Sessions) -> None:
        self._pages = pages
        self._sessions = sessions
        self._links = Links()

    async def form(self, request: Request) -> Response:
        given = request.query_params
        return self._pages.html(
            request, "sign_in.html", code=given.get("code", ""), place=own_path(given.get("next", "/"))
        )

    async def enter(self, request: Request) -> Response:
        said = await self._pages.form(request)
        who = await self._who(said.get("code", ""), said.get("shown", ""))
        request.state.session = self._sessions.begin(who)
        return go_on(request, own_path(said.get("place", "/")))

    async def leave(self, request: Request) -> Response:
        await self._pages.form(request)
        self._sessions.end(request.state.session)
        return go_on(request, "/")

    async def _who(self, code: str, shown: str) -> SignedIn:
        """Raises HTTPException; AskError: no service knows this token, or none answers."""
        services = self._pages.services
        if code:
            own = services.own_token()
            if own is None or not self._links.take(code, own):
                refuse(WORN, 403)
            shown = own
        if not shown:
            refuse(NOTHING_SHOWN)
        return await services.who(shown)


def routes(pages: Pages, sessions: Sessions) -> Sequence[Route]:
    area = SignInArea(pages, sessions)
    return [
        Route(SIGN_IN, area.form),
        Route(SIGN_IN, area.enter, methods=["POST"]),
        Route("/sign-out", area.leave, methods=["POST"]),
    ]
