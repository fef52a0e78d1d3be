"""How a service's rows and facts stand in tables: one array a column, one statement a table a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from operator import attrgetter
from types import MappingProxyType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from orderflow.core.service import Fact, Ref, Row
from orderflow.core.store import Changes

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
    key = _column_types(row)[row.KEY]
    return f"SELECT {', '.join(_column_types(row))} FROM {row.TABLE} WHERE {row.KEY} = ANY ($1::{key}[])"  # noqa: S608  (names of classes)


def insert_statement(struct: type[Row] | type[Fact]) -> str:
    """`INSERT` of one array a field ($1, $2, …). What is nested comes as JSON text."""
    types = _column_types(struct)
    values = ", ".join(map(_value, types, types.values()))
    return f"INSERT INTO {struct.TABLE} ({', '.join(types)}) SELECT {values} FROM {_arrays(types)}"  # noqa: S608  (names of classes)


def update_statement(row: type[Row], changing: Sequence[str] = ()) -> str:
    """`UPDATE` by one array for each field of `changing` (empty: of the struct), among them the key."""
    types = _column_types(row)
    types = {name: types[name] for name in changing or types}
    changes = [f"{name} = {_value(f'new.{name}', kind)}" for name, kind in types.items() if name != row.KEY]
    changes += [f"{row.CHANGED_AT} = now()"] if row.CHANGED_AT else []
    found = f"{row.TABLE}.{row.KEY} = new.{row.KEY}"
    return f"UPDATE {row.TABLE} SET {', '.join(changes)} FROM {_arrays(types)} WHERE {found}"  # noqa: S608  (as above)


def _column_types(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Column → its type in PostgreSQL."""
    hints = get_type_hints(struct)
    plain = {field.name: _plain(hints[field.name]) for field in msgspec.structs.fields(struct)}
    return {name: "jsonb" if kind is None else _column_type(kind) for name, kind in plain.items()}


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


@dataclass(frozen=True, slots=True)
class Statement:
    """A set-based statement that must touch exactly `rows` rows."""

    table: str
    sql: str
    arguments: Sequence[Sequence[object]]
    rows: int


class Columns:
    """Turns structs of one type into column arrays and a loaded record into a struct."""

    def __init__(self, struct: type[msgspec.Struct], only: Sequence[str] = ()) -> None:
        self._struct = struct
        self._names = tuple(only) or tuple(field.name for field in msgspec.structs.fields(struct))
        self._get = attrgetter(*self._names)
        hints = get_type_hints(struct)
        types = _column_types(struct)
        self.types = tuple("text" if types[name] == "jsonb" else types[name] for name in self._names)
        """What PostgreSQL calls the columns' types; text for what is nested."""

        self._nested: list[int] = []
        self._readers: list[tuple[int, Callable[[Any], object]]] = []
        for index, name in enumerate(self._names):
            plain = _plain(hints[name])
            if plain is None:
                self._nested.append(index)
                self._readers.append((index, msgspec.json.Decoder(hints[name]).decode))
            elif issubclass(plain, Enum):
                self._readers.append((index, plain))

    def arrays(self, structs: Iterable[msgspec.Struct]) -> list[Sequence[object]]:
        """One array a field."""
        if len(self._names) == 1:
            columns: list[Sequence[object]] = [[self._get(struct) for struct in structs]]
        else:
            columns = list(zip(*map(self._get, structs), strict=True))
        for index in self._nested:
            columns[index] = [None if v is None else msgspec.json.encode(v).decode() for v in columns[index]]
        return columns

    def build(self, record: Iterable[object]) -> msgspec.Struct:
        """The struct of a record whose columns are the fields, in order. Raises ValueError if they are not."""
        values = list(record)
        for index, read in self._readers:
            if values[index] is not None:
                values[index] = read(values[index])
        return self._struct(**dict(zip(self._names, values, strict=True)))


class Mappings:
    """The tables of a service, in the order in which they are written."""

    def __init__(self, tables: Sequence[Table | Facts]) -> None:
        self._tables = tuple(tables)
        self._columns = {_type_of(table): Columns(_type_of(table)) for table in tables}
        self._changing = {
            table.row_type: Columns(table.row_type, table.changing) for table in tables if isinstance(table, Table)
        }
        self._loads: Mapping[type[Row], str] = {
            table.row_type: table.load for table in tables if isinstance(table, Table)
        }

    def load(self, row_type: type[Row]) -> tuple[str, Columns]:
        """The query and the reader of a row type. Raises LookupError for one that was not given."""
        sql = self._loads.get(row_type)
        if sql is None:
            raise LookupError(f"no Table was given for {row_type.__name__}")
        return sql, self._columns[row_type]

    def statements(self, changes: Changes) -> list[Statement]:
        """What to run, in order, for the rows and facts of a batch. Raises LookupError for unknown types."""
        written: dict[type, list[Any]] = {}
        for struct in (*changes.rows, *changes.facts):
            written.setdefault(type(struct), []).append(struct)
        planned: list[Statement] = []
        for table in self._tables:
            structs = written.pop(_type_of(table), None)
            if structs and isinstance(table, Table):
                planned.extend(self._row_statements(table, structs, changes.existing))
            elif structs and isinstance(table, Facts):
                arrays = self._columns[table.fact_type].arrays(structs)
                planned.append(Statement(table.fact_type.TABLE, table.append, arrays, len(structs)))
        if written:
            raise LookupError(f"no Table or Facts was given for {', '.join(t.__name__ for t in written)}")
        return planned

    def _row_statements(self, table: Table, rows: Sequence[Row], existing: frozenset[Ref]) -> Iterable[Statement]:
        for number, wave in enumerate(_waves(rows) if table.stepwise else [{row.id: row for row in rows}]):
            fresh = [row for row in wave.values() if number == 0 and Ref(table.row_type, row.id) not in existing]
            known = [row for row in wave.values() if number or Ref(table.row_type, row.id) in existing]
            if fresh:
                arrays = self._columns[table.row_type].arrays(fresh)
                yield Statement(table.row_type.TABLE, table.insert, arrays, len(fresh))
            if known:
                arrays = self._changing[table.row_type].arrays(known)
                yield Statement(table.row_type.TABLE, table.update, arrays, len(known))


def _type_of(table: Table | Facts) -> type[Row] | type[Fact]:
    return table.row_type if isinstance(table, Table) else table.fact_type


def _waves(rows: Sequence[Row]) -> list[dict[object, Row]]:
    """The first version of each row, then the second, and so on."""
    waves: list[dict[object, Row]] = []
    seen: dict[object, int] = {}
    for row in rows:
        number = seen.get(row.id, 0)
        seen[row.id] = number + 1
        if number == len(waves):
            waves.append({})
        waves[number][row.id] = row
    return waves


def _plain(hint: Any) -> type | None:
    """The scalar type that a column holds as it is (None may stand beside it); None for anything nested."""
    hint = getattr(hint, "__supertype__", hint)
    if get_origin(hint) in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        return _plain(members[0]) if len(members) == 1 else None
    if get_origin(hint) is Literal:
        return str if all(isinstance(value, str) for value in get_args(hint)) else None
    if isinstance(hint, type) and (issubclass(hint, SCALARS) or issubclass(hint, Enum)):
        return hint
    return None
