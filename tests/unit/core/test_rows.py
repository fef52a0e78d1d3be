"""What rows and facts are named by."""

from __future__ import annotations

from typing import ClassVar

import pytest

from orderflow import Fact, Ref, Row
from orderflow.core.postgres.tables import Table
from tests.unit.core.toy import Movement, Tally


class Crate(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "crates"
    KEY: ClassVar[str] = "label"

    label: str


class Weighing(Fact, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "weighings"
    KEY: ClassVar[str] = "number"

    number: int


class UnnamedRow(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "unnamed_rows"


class UnnamedFact(Fact, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "unnamed_facts"


def test_a_row_and_a_fact_are_named_by_their_key_column() -> None:
    assert Crate(label="c").ref == Ref(Crate, "c")
    assert Weighing(number=7).id == 7


def test_where_no_column_is_the_key_the_class_says_what_the_name_is() -> None:
    assert Tally(name="k", total=1).ref == Ref(Tally, "k")
    assert Movement(name="k", number=1).id == ("k", 1)


@pytest.mark.parametrize("unnamed", [UnnamedRow(), UnnamedFact()])
def test_without_either_it_has_no_name(unnamed: Row | Fact) -> None:
    with pytest.raises(NotImplementedError):
        _ = unnamed.id


def test_statements_are_made_by_the_key_column_and_without_one_they_have_to_be_given() -> None:
    assert Table(Crate).load == "SELECT label FROM crates WHERE label = ANY ($1::text[])"
    assert Table(Tally).load == ""
