"""Rows of the operators' queries."""

from __future__ import annotations

import asyncpg

from orderflow.messaging.store import ParkedSummary, ParkedView
from orderflow.messaging.stores.postgres.core_rows import read_parked


def read_view(row: asyncpg.Record) -> ParkedView:
    return ParkedView(
        consumer=row["consumer"],
        event=read_parked(row),
        parked_at=row["parked_at"],
        first_failed_at=row["first_failed_at"],
        last_failed_at=row["last_failed_at"],
        next_attempt_at=row["next_attempt_at"],
    )


def read_summary(row: asyncpg.Record) -> ParkedSummary:
    return ParkedSummary(
        consumer=row["consumer"],
        keys=row["keys"],
        retrying=row["retrying"],
        dead=row["dead"],
        held=row["held"],
        oldest=row["oldest"],
    )
