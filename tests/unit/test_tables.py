"""How rows become column arrays and statements."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar, Literal
from uuid import UUID

import msgspec
import pytest

from orderflow.messaging.rows import Fact, Row
from orderflow.messaging.store import Changes
from orderflow.messaging.stores.postgres.tables import Columns, Facts, Mappings, Table


class Size(StrEnum):
    BIG = "BIG"


class Part(msgspec.Struct, frozen=True):
    name: str


class Thing(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "things"

    thing_id: UUID
    size: Size
    kind: Literal["a", "b"]
    count: int | None
    at: datetime
    part: Part | None
    parts: tuple[Part, ...]
    notes: dict[str, int]

    @property
    def id(self) -> UUID:
        return self.thing_id


class Level(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "levels"

    name: str
    height: int = 0

    @property
    def id(self) -> str:
        return self.name


class Mark(Fact, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "marks"

    name: str

    @property
    def id(self) -> str:
        return self.name


AT = datetime(2024, 1, 2, tzinfo=UTC)
THING = Thing(
    thing_id=UUID(int=1),
    size=Size.BIG,
    kind="a",
    count=None,
    at=AT,
    part=Part("x"),
    parts=(Part("y"), Part("z")),
    notes={"n": 1},
)
STEPS = Table(Level, load="load", insert="insert", update="update", stepwise=True)
LAST = Table(Level, load="load", insert="insert", update="update")


def level(name: str, height: int) -> Level:
    return Level(name=name, height=height)


def planned(table: Table, changes: Changes) -> list[tuple[str, object]]:
    return [(each.sql, list(each.arguments[1])) for each in Mappings([table]).statements(changes)]


def test_scalars_stay_as_they_are_and_the_nested_become_json_text() -> None:
    first, *_, parts, notes = Columns(Thing).arrays([THING, msgspec.structs.replace(THING, part=None)])
    assert first == (UUID(int=1), UUID(int=1))
    assert parts == ['[{"name":"y"},{"name":"z"}]'] * 2
    assert notes == ['{"n":1}'] * 2
    assert Columns(Thing).arrays([msgspec.structs.replace(THING, part=None)])[5] == [None]


def test_a_record_becomes_the_row_that_it_was_written_from() -> None:
    columns = Columns(Thing)
    (record,) = zip(*columns.arrays([THING]), strict=True)
    assert columns.build([str(value) if value is Size.BIG else value for value in record]) == THING


def test_a_record_with_a_column_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Columns(Level).build(["a"])


def test_a_struct_of_one_field_is_one_array() -> None:
    assert Columns(Mark).arrays([Mark(name="a"), Mark(name="b")]) == [["a", "b"]]


def test_only_the_last_version_of_a_row_is_written() -> None:
    changes = Changes(
        consumer="c",
        rows=[level("new", 1), level("old", 1), level("new", 2), level("old", 3)],
        existing=frozenset({level("old", 0).ref}),
    )
    assert planned(LAST, changes) == [("insert", [2]), ("update", [3])]


def test_versions_of_a_stepwise_table_are_written_in_waves() -> None:
    changes = Changes(
        consumer="c",
        rows=[level("new", 1), level("new", 2), level("old", 5), level("new", 3), level("old", 6)],
        existing=frozenset({level("old", 0).ref}),
    )
    assert planned(STEPS, changes) == [("insert", [1]), ("update", [5]), ("update", [2, 6]), ("update", [3])]


def test_tables_are_written_in_the_order_given_and_each_statement_says_how_many_rows_it_must_touch() -> None:
    mappings = Mappings([Facts(Mark, append="append"), LAST])
    changes = Changes(consumer="c", rows=[level("a", 1)], facts=[Mark(name="a"), Mark(name="b")])
    statements = mappings.statements(changes)
    assert [(each.table, each.sql, each.rows) for each in statements] == [
        ("marks", "append", 2),
        ("levels", "insert", 1),
    ]


def test_a_type_without_a_table_is_told_and_never_dropped() -> None:
    with pytest.raises(LookupError, match="Mark"):
        Mappings([LAST]).statements(Changes(consumer="c", facts=[Mark(name="a")]))
    with pytest.raises(LookupError, match="Thing"):
        Mappings([LAST]).load(Thing)
