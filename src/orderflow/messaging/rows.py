"""State as immutable rows. A service says which rows a message touches; the core locks, loads and saves them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from operator import attrgetter
from typing import ClassVar, NamedTuple, TypeVar

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row that can change: a new version replaces the old one.

    Its class declares how it stands in the database, and every statement is made from that. The fields are the
    columns of `TABLE`; `KEY` is the one that names the row. `CHANGES` are the columns that an update writes (none
    named: all of them), and `CHANGED_AT` is a column that an update sets to the database's time. With `STEPWISE`
    every version is written, one after the other, so that a trigger sees each change of state; else only the last one
    of a batch.
    """

    TABLE: ClassVar[str]
    KEY: ClassVar[str] = ""
    CHANGES: ClassVar[tuple[str, ...]] = ()
    CHANGED_AT: ClassVar[str] = ""
    STEPWISE: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "KEY" in cls.__dict__:
            cls.id = property(attrgetter(cls.KEY))  # type: ignore[assignment,method-assign]

    @property
    def id(self) -> Hashable:
        raise NotImplementedError

    @property
    def ref(self) -> Ref:
        return Ref(type(self), self.id)


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is only ever added (a transition, a stock movement).

    `id` is its natural unique key: the value of the column `KEY`, or a property of its own where that has several.
    """

    TABLE: ClassVar[str]
    KEY: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if "KEY" in cls.__dict__:
            cls.id = property(attrgetter(cls.KEY))  # type: ignore[assignment,method-assign]

    @property
    def id(self) -> Hashable:
        raise NotImplementedError


class Ref(NamedTuple):
    """The name of a row: its type and its id."""

    type: type[Row]
    id: Hashable


R = TypeVar("R", bound=Row)


class Rows:
    """The working set that a decision sees: rows as loaded, under the changes of this batch so far."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[Ref, Row]) -> None:
        self._rows = rows

    def get(self, row_type: type[R], row_id: Hashable) -> R | None:
        """The row, or None if it does not exist. Only rows named by `touches` are there."""
        row = self._rows.get(Ref(row_type, row_id))
        return row if isinstance(row, row_type) else None
