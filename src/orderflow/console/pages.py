"""What all pages have in common: rendering, forms and their tokens, streams, and how a failure is shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit

from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orderflow.console import showing
from orderflow.console.asking import AskError, Services
from orderflow.console.guard import FIELD, is_confirmed
from orderflow.console.live import Parts, Streams
from orderflow.console.sampling import Sampler
from orderflow.console.sessions import ACTS_AS, SIGN_IN, own_path

UNAUTHORIZED = 401
EXPIRED = "The console has restarted since this page was loaded. Reload the page and try again."
DEFECT = "The page hit a bug ({name}). Its log, logs/console.stderr.log in the home, says where."
NO_PAGE = "There is no such page. The menu leads to every page."
HTMX = json.dumps(
    {
        "allowEval": False,
        "allowScriptTags": False,
        "includeIndicatorStyles": False,
        "historyCacheSize": 0,
        "selfRequestsOnly": True,
        "responseHandling": [{"code": "204", "swap": False}, {"code": "...", "swap": True}],
    }
)


@dataclass(slots=True)
class Pages:
    """What every page is made with."""

    services: Services
    sampler: Sampler
    streams: Streams = field(default_factory=Streams)
    environment: Environment = field(default_factory=showing.environment)

    def html(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page, or a part of one where htmx asks. Without scripts, a part comes as a page of its own."""
        if template.startswith("_") and not is_part(request):
            values |= {"answer": template, "back": came_from(request)}
            template = "answer.html"
        return HTMLResponse(self.part(template, request, **values), status, {"cache-control": "no-store"})

    def part(self, template: str, request: Request, **values: Any) -> str:
        """HTML. Templates know `token` (of the session), `nonce` and `now` beside what they are given."""
        state = request.state
        common = {
            "token": state.token,
            "nonce": state.nonce,
            "htmx": HTMX,
            "now": datetime.now(UTC),
            "signed_in": ACTS_AS.get(),
        }
        return self.environment.get_template(template).render(
            {**common, "path": request.url.path, "services": self.services.names, **values}
        )

    def done(self, request: Request, said: str, place: str) -> Response:
        """Say beside the form that an act is done, where its page shows by itself what has become of it; a browser
        without scripts is led to that page.
        """
        if is_part(request):
            return self.html(request, "_done.html", said=said)
        return go_on(request, place)

    async def form(self, request: Request) -> Mapping[str, str]:
        """What a form says, its token checked. Raises HTTPException."""
        body = (await request.body()).decode("utf-8", "replace")
        said = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=200))
        if not is_confirmed(request.scope, said.pop(FIELD, "")):
            raise HTTPException(403, EXPIRED)
        return {name: text.strip() if name != "value" else text for name, text in said.items()}

    def stream(self, parts: AsyncIterator[Parts]) -> Response:
        return self.streams.answer(parts)

    async def broken(self, request: Request, error: Exception) -> Response:
        """A defect of ours: the page says so, and whoever called is told as well, for the log."""
        return self.html(request, "problem.html", 500, said=DEFECT.format(name=type(error).__name__), code=500)

    async def sorry(self, request: Request, error: Exception) -> Response:
        """An answer that says what is wrong and what to do. Who has to sign in is told where."""
        unknown = isinstance(error, AskError) and error.status == UNAUTHORIZED and request.url.path != SIGN_IN
        way_in = way_in_of(request) if unknown else ""
        if isinstance(error, AskError):
            status, said = error.status or 503, str(error)
        elif isinstance(error, HTTPException):
            status, said = error.status_code, NO_PAGE if error.detail == "Not Found" else error.detail
        else:
            raise error
        template = "_problem.html" if is_part(request) else "problem.html"
        return self.html(request, template, status, said=said, code=status, way_in=way_in)


class Area:
    """What the pages below one path have in common."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._services = pages.services

    def _service(self, request: Request) -> str:
        """The one that the path names. Raises HTTPException."""
        name: str = request.path_params["service"]
        if name not in self._services.names:
            raise HTTPException(404, NO_PAGE)
        return name


def is_part(request: Request) -> bool:
    """Whether htmx asks, which wants a part of a page."""
    return request.headers.get("hx-request") == "true"


def came_from(request: Request) -> str:
    """The page of ours that this request was made from."""
    whole = request.headers.get("hx-current-url") or request.headers.get("referer") or str(request.url)
    asked = urlsplit(whole)
    return own_path(asked.path + (f"?{asked.query}" if asked.query else ""))


def way_in_of(request: Request) -> str:
    """Where to sign in, to come back to the page that this request was made from."""
    return f"{SIGN_IN}?{urlencode({'next': came_from(request)})}"


def go_on(request: Request, place: str) -> Response:
    """To another page, after an act."""
    if is_part(request):
        return Response(status_code=204, headers={"hx-redirect": place})
    return RedirectResponse(place, 303)


def refuse(sentence: str, status: int = 422) -> NoReturn:
    """Raises HTTPException, which is shown where the form is."""
    raise HTTPException(status, sentence)
