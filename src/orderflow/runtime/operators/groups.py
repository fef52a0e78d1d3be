"""`/ops/dead-letter-groups`: dead events that failed alike, and what people noted of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from orderflow.messaging.recovery.port import LetterFilter, RecoveryStore
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.operators.asking import NOT_THERE, TAG, Text, act_of, operator
from orderflow.runtime.operators.examples import GROUP
from orderflow.runtime.operators.views import shown
from orderflow.runtime.problems import ProblemError


class DeadLetterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead events with one fingerprint. `keys`: of so many orders. `example`: the position of one of them."""

    fingerprint: str
    error: str
    message: str
    count: int
    keys: int
    consumers: list[str]
    event_types: list[str]
    first_seen: datetime
    last_seen: datetime
    example: int
    note: str


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people know of a group; "" takes the note away."""

    note: Text


class Groups:
    """Answers from the service's own database."""

    def __init__(self, store: RecoveryStore) -> None:
        self._store = store

    async def listed(self, _: Request[None]) -> Reply:
        return Reply(body=shown(await self._store.groups(LetterFilter()), list[DeadLetterGroup]))

    async def annotate(self, request: Request[Note]) -> Reply:
        fingerprint: str = request.values["fingerprint"]
        act = act_of(request)
        groups = await self._store.groups(LetterFilter(fingerprint=fingerprint))
        if not groups:
            raise ProblemError(404, "there is no such group of dead events")
        await self._store.annotate(fingerprint, request.body.note, act)
        return Reply(body=shown(replace(groups[0], note=request.body.note), DeadLetterGroup))

    def operations(self) -> Sequence[Operation]:
        fingerprint = Parameter(name="fingerprint", where="path", description="The group", type=Text)
        return (
            Operation(
                method="GET",
                path="/ops/dead-letter-groups",
                summary="Dead events that failed alike",
                description=(
                    "Events with one fingerprint failed with the same error at the same place: what mends one mends "
                    "all."
                ),
                tag=TAG,
                handler=self.listed,
                responses=[
                    Response(status=200, description="Largest first", type=list[DeadLetterGroup], example=[GROUP])
                ],
            ),
            Operation(
                method="PUT",
                path="/ops/dead-letter-groups/{fingerprint}/note",
                summary="Note what is known of a group",
                description="The note is shown with the group, also for events that join it later.",
                tag=TAG,
                handler=self.annotate,
                request=Note,
                example={"note": GROUP["note"]},
                parameters=(fingerprint, operator),
                responses=[
                    Response(status=200, description="The group", type=DeadLetterGroup, example=GROUP),
                    NOT_THERE,
                ],
            ),
        )
