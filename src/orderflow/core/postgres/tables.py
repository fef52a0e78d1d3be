"""How a service's rows and facts stand in tables: the statements that load and write them, made from their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from types import MappingProxyType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from orderflow.core.service import Fact, Row

SCALARS = (str, int, bool, float, bytes, UUID, datetime, date)
COLUMN_TYPES: Mapping[type, str] = MappingProxyType(
    {
        bool: "boolean",
        bytes: "bytea",
        date: "date",
        datetime: "timestamptz",
        float: "double precision",
        int: "bigint",
        str: "text",
        UUID: "uuid",
    }
)


@dataclass(frozen=True, slots=True)
class Table:
    """The table of a row type. What is not given is made from what the type declares.

    `load` takes one array of ids ($1) and selects the struct's fields in their order. `insert` takes one array
    a field, in the same order ($1, $2, …); `update` one for each field that `changing` names, in its order, the key
    first (empty: every field). Both must touch one row for each element.
    Text, numbers, UUIDs, times and enums are passed as they are; anything nested as JSON text
    (`$4::text[]::jsonb[]`). With `stepwise` every version of a row is written, in waves (the first version
    of each row in one statement, then the second), so that a trigger sees each change of state;
    without it only the last one is.
    """

    row_type: type[Row]
    load: str = ""
    update: str = ""
    insert: str = ""
    stepwise: bool = False
    changing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        row = self.row_type
        if not row.KEY:
            return
        changing = self.changing or ((row.KEY, *row.CHANGES) if row.CHANGES else ())
        made = {
            "load": self.load or load_statement(row),
            "insert": self.insert or insert_statement(row),
            "update": self.update or update_statement(row, changing),
            "stepwise": self.stepwise or row.STEPWISE,
            "changing": changing,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class Facts:
    """The table of a fact type: `append` takes one array a field, like `Table.insert`, and is made from its type."""

    fact_type: type[Fact]
    append: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "append", self.append or insert_statement(self.fact_type))


def tables_of(types: Iterable[type[Row] | type[Fact]]) -> tuple[Table | Facts, ...]:
    """How the rows and facts of a service stand in the database, in the order in which they are written."""
    return tuple(Table(each) if issubclass(each, Row) else Facts(each) for each in types)


def load_statement(row: type[Row]) -> str:
    """`SELECT` of the rows whose ids are in `$1`, fields in the order of the struct."""
    key = column_types(row)[row.KEY]
    return f"SELECT {', '.join(column_types(row))} FROM {row.TABLE} WHERE {row.KEY} = ANY ($1::{key}[])"  # noqa: S608  (names of classes)


def insert_statement(struct: type[Row] | type[Fact]) -> str:
    """`INSERT` of one array a field ($1, $2, …). What is nested comes as JSON text."""
    types = column_types(struct)
    values = ", ".join(map(_value, types, types.values()))
    return f"INSERT INTO {struct.TABLE} ({', '.join(types)}) SELECT {values} FROM {_arrays(types)}"  # noqa: S608  (names of classes)


def update_statement(row: type[Row], changing: Sequence[str] = ()) -> str:
    """`UPDATE` by one array for each field of `changing` (empty: of the struct), among them the key."""
    types = column_types(row)
    types = {name: types[name] for name in changing or types}
    changes = [f"{name} = {_value(f'new.{name}', kind)}" for name, kind in types.items() if name != row.KEY]
    changes += [f"{row.CHANGED_AT} = now()"] if row.CHANGED_AT else []
    found = f"{row.TABLE}.{row.KEY} = new.{row.KEY}"
    return f"UPDATE {row.TABLE} SET {', '.join(changes)} FROM {_arrays(types)} WHERE {found}"  # noqa: S608  (as above)


def column_types(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Column → its type in PostgreSQL."""
    hints = get_type_hints(struct)
    plain = {field.name: plain_type(hints[field.name]) for field in msgspec.structs.fields(struct)}
    return {name: "jsonb" if kind is None else _column_type(kind) for name, kind in plain.items()}


def field_types(struct: type[msgspec.Struct]) -> list[str]:
    """What PostgreSQL calls the fields as they are passed: text for what is nested."""
    return ["text" if kind == "jsonb" else kind for kind in column_types(struct).values()]


def _column_type(kind: type) -> str:
    """Enums of text and of numbers are these. Raises TypeError: an enum of anything else."""
    for base in kind.__mro__:
        if base in COLUMN_TYPES:
            return COLUMN_TYPES[base]
    raise TypeError(f"{kind.__name__} fits no column: derive it from str or int")


def _value(name: str, kind: str) -> str:
    return f"{name}::jsonb" if kind == "jsonb" else name


def _arrays(types: Mapping[str, str]) -> str:
    arrays = ", ".join(
        f"${number}::{'text' if kind == 'jsonb' else kind}[]" for number, kind in enumerate(types.values(), 1)
    )
    return f"unnest({arrays}) AS new ({', '.join(types)})"


def plain_type(hint: Any) -> type | None:
    """The scalar type that a column holds as it is (None may stand beside it); None for anything nested."""
    hint = getattr(hint, "__supertype__", hint)
    if get_origin(hint) in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        return plain_type(members[0]) if len(members) == 1 else None
    if get_origin(hint) is Literal:
        return str if all(isinstance(value, str) for value in get_args(hint)) else None
    if isinstance(hint, type) and (issubclass(hint, SCALARS) or issubclass(hint, Enum)):
        return hint
    return None
