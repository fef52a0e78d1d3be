"""`/ops/actions`: the operators' log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from orderflow.messaging.recovery.port import RecoveryStore
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.operators.asking import TAG, Limit, Position
from orderflow.runtime.operators.examples import ACTIONS
from orderflow.runtime.operators.views import shown


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did, when, to what, why, and with what result."""

    number: int
    at: datetime
    who: str
    action: str
    target: str
    reason: str
    result: str


class Actions:
    """Answers from the service's own database."""

    def __init__(self, store: RecoveryStore) -> None:
        self._store = store

    async def listed(self, request: Request[None]) -> Reply:
        before: int | None = request.values["before"]
        found = await self._store.actions(request.values["limit"], before)
        return Reply(body=shown(found, list[Action]))

    def operations(self) -> Sequence[Operation]:
        listing = (
            Parameter(name="limit", where="query", description="Most entries", type=Limit, default=100),
            Parameter(name="before", where="query", description="Only before this number", type=Position),
        )
        return (
            Operation(
                method="GET",
                path="/ops/actions",
                summary="What operators did",
                description="The operators' log of this service: who did what, when, why, and with what result.",
                tag=TAG,
                handler=self.listed,
                parameters=listing,
                responses=[Response(status=200, description="Latest first", type=list[Action], example=ACTIONS)],
            ),
        )
