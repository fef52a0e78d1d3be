"""Named queries in SQL files."""

from __future__ import annotations

import pytest

from orderflow.core.postgres.queries import QueryFileError, QueryMissingError, load_queries, parse_queries

TEXT = """
-- name: load_orders
-- Orders by id.
SELECT 1 -- a comment of its own
FROM orders;

-- name: count
-- How many.
SELECT count(*) FROM orders
"""


def test_a_query_is_its_statement_without_name_description_and_semicolon() -> None:
    queries = parse_queries(TEXT, "x.sql")
    assert queries == {
        "load_orders": "SELECT 1 -- a comment of its own\nFROM orders",
        "count": "SELECT count(*) FROM orders",
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: a\n-- x\nSELECT 1;\n-- name: a\n-- x\nSELECT 2", "'a' is there twice"),
        ("-- name: a\nSELECT 1", "'a' has no '-- ' line"),
        ("-- name: a\n--\nSELECT 1", "'a' has no '-- ' line"),
        ("-- name: a\n-- x\n;\n", "'a' has no statement"),
        ("-- name: a\n-- x\n-- name: b\n-- x\nSELECT 1", "'a' has no statement"),
        ("-- name: a b\n-- x\nSELECT 1", "'a b' is not a name"),
        ("SELECT 1;\n-- name: a\n-- x\nSELECT 1", "before the first"),
    ],
)
def test_a_file_that_is_not_right_is_refused_with_its_name_and_the_fault(text: str, complaint: str) -> None:
    with pytest.raises(QueryFileError, match=complaint) as refused:
        parse_queries(text, "shop/sql/queries.sql")
    assert "shop/sql/queries.sql" in str(refused.value)


def test_a_query_that_is_missing_is_told_with_the_names_that_are_there() -> None:
    with pytest.raises(QueryMissingError, match=r"x\.sql has no query 'lode_orders', only load_orders, count"):
        parse_queries(TEXT, "x.sql")["lode_orders"]


def test_queries_are_found_in_the_sql_folder_of_a_package() -> None:
    package = "orderflow.core.postgres"
    assert load_queries(package)["ping"] == "SELECT 1"
    assert "letters" in load_queries(package, "recovery.sql")
    with pytest.raises(FileNotFoundError):
        load_queries(package, "nothing.sql")
