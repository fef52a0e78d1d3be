"""Named queries from SQL files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name:(.*)$")
_IDENTIFIER = re.compile(r"^[a-z][a-z0-9_]*$")


class QueryFileError(ValueError):
    """A file of named queries that cannot be read as one."""


class QueryMissingError(LookupError):
    """A query was asked for that its file does not have."""


class Queries(dict[str, str]):
    """The queries of one file. Asking for one that is not there says which file and which names it has."""

    def __init__(self, origin: str, queries: Mapping[str, str]) -> None:
        super().__init__(queries)
        self.origin = origin

    def __missing__(self, name: str) -> str:
        raise QueryMissingError(f"{self.origin} has no query {name!r}, only {', '.join(self)}")


def load_queries(package: str, file: str = "queries.sql") -> Mapping[str, str]:
    """Read `sql/<file>` of a package: name → statement.

    Each query is a line `-- name: load_orders`, a line `-- what it does`, then one statement. Raises
    QueryFileError for a file that is not so, or that has a name twice.
    """
    text = files(package).joinpath("sql", file).read_text("utf-8")
    return parse_queries(text, f"{package}/sql/{file}")


def parse_queries(text: str, origin: str) -> Queries:
    """The same from a text; `origin` names it in errors."""
    queries: dict[str, str] = {}
    name: str | None = None
    body: list[str] = []
    for line in [*text.splitlines(), "-- name: end"]:
        match = _NAME.match(line)
        if match is None:
            body.append(line)
            continue
        if name is not None:
            queries[name] = _statement(name, body, origin)
        elif "".join(body).strip():
            raise QueryFileError(f"{origin}: a statement stands before the first '-- name:' line")
        name, body = match[1].strip(), []
        if not _IDENTIFIER.match(name):
            raise QueryFileError(f"{origin}: {name!r} is not a name")
        if name in queries:
            raise QueryFileError(f"{origin}: the name {name!r} is there twice")
    return Queries(origin, queries)


def _statement(name: str, body: list[str], origin: str) -> str:
    description = body[0] if body else ""
    if not description.startswith("-- ") or not description[3:].strip():
        raise QueryFileError(f"{origin}: {name!r} has no '-- ' line that says what it does")
    statement = "\n".join(body[1:]).strip().removesuffix(";").rstrip()
    if not statement:
        raise QueryFileError(f"{origin}: {name!r} has no statement")
    return statement
