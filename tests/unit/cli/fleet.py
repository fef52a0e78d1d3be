"""Four services that answer as a test says, and the command line that asks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from click.testing import Result

from orderflow.registry import SAGA
from tests.support.shop import Asked, Says, shop
from tests.unit.cli.calls import NOBODY, call
from tests.unit.cli.orders import problem

NOTHING: Mapping[str, Any] = {
    "/health/ready": {"ready": True, "problems": {}},
    "/ops/outbox": {"unsent": 0, "oldest_ms": 0},
    "/ops/lag": [],
    "/ops/stuck": [],
    "/ops/expired": [],
    "/ops/dead-letters": {"dead_letters": [], "next": None, "confirm": ""},
    "/ops/dead-letter-groups": [],
    "/ops/replays": [],
    "/ops/actions": [],
    "/ops/outages": {"consumers": [], "outages": []},
}


class Fleet:
    """`urls` are settings for the command line; `asked` grows, by service."""

    def __init__(self, urls: Mapping[str, str], home: Path, asked: Mapping[str, Sequence[Asked]]) -> None:
        self._urls = urls
        self._home = home
        self.asked = asked

    def call(self, *arguments: str, typed: str | None = None) -> Result:
        return call(self._home, *arguments, typed=typed, **self._urls)


@contextmanager
def fleet(home: Path, away: str = "", **answers: Mapping[str, Any]) -> Iterator[Fleet]:
    """`answers` by service and path, or method and path; a service that is not named answers that it has nothing."""
    with ExitStack() as stack:
        urls, all_asked = {}, {}
        for name in SAGA:
            known = {**NOTHING, **answers.get(name, {})}

            def answer(asked: Asked, known: Mapping[str, Any] = known) -> Says:
                path = asked.path.partition("?")[0]
                found = known.get(f"{asked.method} {path}", known.get(path))
                if isinstance(found, Says):
                    return found
                return problem(404, "there is none") if found is None else Says(200, found)

            if name == away:
                urls[f"{name.upper()}_URL"] = NOBODY
                continue
            started = stack.enter_context(shop(answer))
            urls[f"{name.upper()}_URL"] = started.url
            all_asked[name] = started.asked
        yield Fleet(urls, home, all_asked)
