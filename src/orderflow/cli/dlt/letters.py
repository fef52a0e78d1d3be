"""Dead letters, as the services tell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orderflow.cli.errors import NotFoundError
from orderflow.cli.everywhere import Answers
from orderflow.cli.http import ServiceClient

PAGE = 1000
PATH = "/ops/dead-letters"


def read_letters(client: ServiceClient, wanted: Mapping[str, str | int], limit: int) -> list[dict[str, Any]]:
    """A service's dead letters by position, at most `limit`. `wanted` are the filters. Raises CliError."""
    letters: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None and len(letters) < limit:
        page = client.get(PATH, {**wanted, "limit": min(PAGE, limit - len(letters)), "after": after})
        letters += page["dead_letters"]
        after = page["next"]
    return letters


def require_found(event: str, answers: Answers) -> None:
    """Raises NotFoundError when everybody was asked, UnreachableError when not."""
    answers.require_all()
    raise NotFoundError(
        f"No dead or parked event {event} at {', '.join(answers.found)}. See what there is with: orderflow dlt list"
    )
