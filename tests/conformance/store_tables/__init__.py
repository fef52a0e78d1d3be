"""Rows and tables of an imaginary service, with the same rules in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.tables import Facts, Table
from orderflow.core.service import Fact, Row
from orderflow.core.store import DataRefusedError, TransitionRefusedError


class ParcelState(StrEnum):
    PACKED = "PACKED"
    SENT = "SENT"
    ARRIVED = "ARRIVED"


class Line(msgspec.Struct, frozen=True):
    sku: str
    quantity: int


class Parcel(Row, frozen=True, kw_only=True):
    """Every kind of column; its states are checked step by step."""

    TABLE: ClassVar[str] = "parcels"

    parcel_id: str
    state: ParcelState = ParcelState.PACKED
    weight: int = 1
    fragile: bool = False
    owner: UUID | None = None
    packed_at: datetime | None = None
    note: str | None = None
    lines: tuple[Line, ...] = ()

    @property
    def id(self) -> str:
        return self.parcel_id


class Counter(Row, frozen=True, kw_only=True):
    """Only its last version in a batch is written."""

    TABLE: ClassVar[str] = "counters"

    counter_id: str
    value: int

    @property
    def id(self) -> str:
        return self.counter_id


class Move(Fact, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "moves"

    parcel_id: str
    number: int
    place: str

    @property
    def id(self) -> Hashable:
        return (self.parcel_id, self.number)


NEXT_STATES = {
    None: {ParcelState.PACKED},
    ParcelState.PACKED: {ParcelState.SENT},
    ParcelState.SENT: {ParcelState.ARRIVED},
    ParcelState.ARRIVED: set(),
}


def check_state(before: Row | None, after: Row) -> None:
    """The twin of the trigger `parcels_state`."""
    if isinstance(after, Parcel):
        state = before.state if isinstance(before, Parcel) else None
        if after.state not in NEXT_STATES[state]:
            raise TransitionRefusedError(f"{state} -> {after.state}", "OF001")


def check_value(before: Row | None, after: Row) -> None:
    """The twin of the constraint `counters_value_not_negative`."""
    if isinstance(after, Counter) and after.value < 0:
        raise DataRefusedError("negative", "23514", "counters_value_not_negative")


def tables() -> Sequence[Table | Facts]:
    queries = load_queries(__name__)
    return (
        Table(
            Parcel,
            load=queries["load_parcels"],
            insert=queries["insert_parcels"],
            update=queries["update_parcels"],
            stepwise=True,
        ),
        Table(
            Counter,
            load=queries["load_counters"],
            insert=queries["insert_counters"],
            update=queries["update_counters"],
        ),
        Facts(Move, append=queries["append_moves"]),
    )
