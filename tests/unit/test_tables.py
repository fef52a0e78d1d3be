"""How rows become column arrays and statements."""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import Enum, StrEnum
from typing import ClassVar, Literal
from uuid import UUID

import msgspec
import pytest

from orderflow.core.postgres.tables import Facts, Table, tables_of
from orderflow.core.postgres.transaction import Columns, Mappings, UnitOfWork
from orderflow.core.service import Fact, Ref, Row
from orderflow.core.store import Changes, Plan


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
        UnitOfWork([Table(Parcel)]).plan(Plan(consumer="c", rows=[Ref(Thing, "x")]), 1_000)


class Parcel(Row, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "parcels"
    KEY: ClassVar[str] = "parcel_id"
    CHANGES: ClassVar[tuple[str, ...]] = ("size", "parts")
    CHANGED_AT: ClassVar[str] = "changed_at"
    STEPWISE: ClassVar[bool] = True

    parcel_id: UUID
    weight: float
    sealed: bool
    seen: date | None
    packed_at: datetime
    label: bytes
    size: Size = Size.BIG
    parts: tuple[Part, ...] = ()


PARCEL = Parcel(parcel_id=UUID(int=3), weight=0.5, sealed=True, seen=None, packed_at=AT, label=b"")


def test_the_statements_of_a_table_are_made_from_what_its_rows_declare() -> None:
    table = Table(Parcel)
    columns = "parcel_id, weight, sealed, seen, packed_at, label, size, parts"
    arrays = (
        "$1::uuid[], $2::double precision[], $3::boolean[], $4::date[], $5::timestamptz[], $6::bytea[], $7::text[], "
        "$8::text[]"
    )
    assert table.load == f"SELECT {columns} FROM parcels WHERE parcel_id = ANY ($1::uuid[])"
    assert table.insert == (
        f"INSERT INTO parcels ({columns}) SELECT {columns}::jsonb FROM unnest({arrays}) AS new ({columns})"
    )
    assert table.update == (
        "UPDATE parcels SET size = new.size, parts = new.parts::jsonb, changed_at = now() "
        "FROM unnest($1::uuid[], $2::text[], $3::text[]) AS new (parcel_id, size, parts) "
        "WHERE parcels.parcel_id = new.parcel_id"
    )
    assert (table.stepwise, table.changing) == (True, ("parcel_id", "size", "parts"))
    assert PARCEL.id == PARCEL.parcel_id
    assert PARCEL.ref == Ref(Parcel, UUID(int=3))


def test_what_is_written_by_hand_stays_as_it_is() -> None:
    table = Table(Parcel, update="by hand")
    assert (table.update, table.load) == ("by hand", Table(Parcel).load)


def test_rows_and_facts_stand_in_tables_in_the_order_in_which_they_are_named() -> None:
    tables = tables_of((Mark, Parcel))
    assert tables == (Facts(Mark), Table(Parcel))
    assert Facts(Mark).append == "INSERT INTO marks (name) SELECT name FROM unnest($1::text[]) AS new (name)"


def test_a_column_of_which_no_type_is_known_is_told() -> None:
    class Colour(Enum):
        RED = object()

    class Painted(Fact, frozen=True, kw_only=True):
        TABLE: ClassVar[str] = "painted"
        KEY: ClassVar[str] = "colour"

        colour: Colour

    Painted.__annotations__["colour"] = Colour
    with pytest.raises(TypeError, match="Colour fits no column: derive it from str or int"):
        Facts(Painted)
