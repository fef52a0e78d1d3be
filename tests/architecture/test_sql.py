"""SQL lives in .sql files, and every named query is used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orderflow.core.postgres.queries import parse_queries
from tests.architecture.sources import PACKAGE, python_files, short, texts, tree

STATEMENT = re.compile(
    r"\s*(SELECT(?! 1$)|INSERT\s+INTO|UPDATE\s+\w|DELETE\s+FROM|CREATE|ALTER|DROP|GRANT|REVOKE|TRUNCATE"
    r"|WITH\s+\w+\s+(\(|AS)|LISTEN|UNLISTEN|NOTIFY|SET|COPY|LOCK|EXPLAIN|DO)\b"
)
FORGETTING = re.compile(r"\b(?:DELETE\s+FROM|(?<!by )TRUNCATE(?:\s+ONLY)?)\s+(\w+)")
FORGOTTEN = {
    "outbox_": "published, and the log has it",
    "outbox_pending": "published",
    "parked_events": "handled or discarded: the inbox says which",
    "intents": "answered: the service's own row says how",
    "records_": "older than the log's retention",
    "group_members": "who reads the log now",
    "idempotency_keys": "of HTTP requests, after a day",
    "letter_notes": "taken away by an operator",
    "customer_keys": "of customers who are to be forgotten",
    "faults": "of game days",
    "fault_readers": "of game days",
}
PACKAGES = sorted({path.parent.parent for path in PACKAGE.rglob("sql/*.sql")})


def test_no_python_file_has_sql_in_it() -> None:
    """`BEGIN`, `COMMIT` and `ROLLBACK` are the transaction's own words, `SELECT 1` asks nothing, and one file makes
    statements from what rows declare.
    """
    said = (
        (path, line, text)
        for path in python_files("src")
        if not (path.name == "tables.py" and path.parent.name == "postgres")
        for line, text in texts(path)
    )

    assert [f"{short(path)}:{line}: {text[:60]}" for path, line, text in said if STATEMENT.match(text)] == []


@pytest.mark.parametrize("package", PACKAGES, ids=short)
def test_every_named_query_is_used_and_none_is_missing(package: Path) -> None:
    named = set(queries_of(package))
    said = {text for path in package.glob("*.py") for _, text in texts(path)}
    asked = {name for path in package.glob("*.py") for name in lookups(path)}

    assert named - said == set()
    assert asked - named == set()


def test_nothing_is_forgotten_by_which_a_duplicate_is_recognised() -> None:
    """The inbox, the streams' numbers and the services' own rows are kept for ever: a replay of anything, years
    later, finds what has happened already.
    """
    forgotten = {
        table
        for path in PACKAGE.rglob("sql/**/*.sql")
        for table in FORGETTING.findall(path.read_text(encoding="utf-8"))
    }

    assert forgotten == {*FORGOTTEN}


def queries_of(package: Path) -> Iterator[str]:
    for path in package.glob("sql/*.sql"):
        yield from parse_queries(path.read_text(encoding="utf-8"), short(path))


def lookups(path: Path) -> Iterator[str]:
    """`x` of each `queries["x"]`, whatever the queries are called there."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and holds_queries(node.value):
            yield str(node.slice.value)


def holds_queries(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return "queries" in name
        case ast.Call(func=ast.Name(id=name)):
            return name == "load_queries"
        case _:
            return False
