"""`/ops/rehearsals`: what a replay would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from orderflow.messaging.recovery.prediction import Rehearsed
from orderflow.messaging.recovery.recovery import Recovery
from orderflow.runtime.operation import Operation, Reply, Request, Response
from orderflow.runtime.operators.asking import TAG, Limit, Wanted
from orderflow.runtime.operators.examples import FILTER, REHEARSED


class RehearsalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events, and how many at most. The events before and behind them in their keys are rehearsed with them."""

    filter: Wanted
    limit: Limit = 100


class ChangedRow(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a row that would change; `before` null: a new row."""

    table: str
    id: Any
    before: dict[str, Any] | None
    after: dict[str, Any]


class Caused(msgspec.Struct, frozen=True, kw_only=True):
    """An event that would be published."""

    type: str
    topic: str
    payload: Any


class RehearsedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of one event.

    `verdict`: succeeds, fails, illegal (not in the state that the rows are in), duplicate (it was handled before),
    held (behind one that fails), busy (live traffic held its key: ask again). `error` and `message` say how it would
    fail; `intents` are what would be asked of the outside world.
    """

    position: int
    consumer: str
    key: str
    event_id: str
    event_type: str
    verdict: str
    error: str
    message: str
    rows: list[ChangedRow]
    events: list[Caused]
    intents: list[str]


class Rehearsals:
    """Asks the core; nothing of it stays."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery

    async def rehearse(self, request: Request[RehearsalRequest]) -> Reply:
        found = await self._recovery.rehearse(request.body.filter.to_filter(), request.body.limit)
        return Reply(body=[_told(each) for each in found])

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                method="POST",
                path="/ops/rehearsals",
                summary="What a replay would do; nothing is changed",
                description=(
                    "Handles the events in a transaction that is rolled back, against the rows as they stand. Nobody "
                    "outside is asked."
                ),
                tag=TAG,
                handler=self.rehearse,
                request=RehearsalRequest,
                example={"filter": FILTER, "limit": 100},
                responses=[
                    Response(
                        status=200,
                        description="Key by key, in order",
                        type=list[RehearsedEvent],
                        example=REHEARSED,
                    )
                ],
            ),
        )


def _told(rehearsed: Rehearsed) -> RehearsedEvent:
    failure = rehearsed.failure
    return RehearsedEvent(
        position=rehearsed.position,
        consumer=rehearsed.consumer,
        key=rehearsed.key,
        event_id=rehearsed.event_id,
        event_type=rehearsed.event_type,
        verdict=rehearsed.verdict.value,
        error=failure.error if failure else "",
        message=failure.message if failure else "",
        rows=[
            ChangedRow(
                table=row.table,
                id=row.id,
                before=None if row.before is None else dict(row.before),
                after=dict(row.after),
            )
            for row in rehearsed.rows
        ],
        events=[Caused(type=each.type, topic=each.topic, payload=each.payload) for each in rehearsed.events],
        intents=list(rehearsed.intents),
    )
