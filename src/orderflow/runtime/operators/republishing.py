"""`/ops/outbox/...`: see what was published, and publish it again when the log has lost it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from orderflow.messaging.recovery.recovery import Recovery
from orderflow.messaging.store import OutboxFilter, Store
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.operators.asking import CONFIRM, TAG, Text, act_of, operator
from orderflow.runtime.operators.examples import PUBLISHED, REPUBLISH
from orderflow.runtime.operators.views import shown

Instant = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""In ms since the epoch, up to the end of the year 9999."""


class PublishedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Published events of one topic that the outbox still has, and when the oldest and the newest were written."""

    topic: str
    count: int
    oldest: datetime
    newest: datetime


class RepublishRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which published events; what is absent does not narrow. `key` is the id of an order.

    `from_ms` (included) and `to_ms` (not) are when they were written, in ms since the epoch. Why; `confirmed`: a
    person was asked and means it.
    """

    topic: Text | None = None
    key: Text | None = None
    from_ms: Instant | None = None
    to_ms: Instant | None = None
    reason: Text
    confirmed: bool = False


class Republished(msgspec.Struct, frozen=True, kw_only=True):
    """How many events are published again, as soon as the relay comes to them."""

    republished: int


class Republishing:
    """Asks the core."""

    def __init__(self, recovery: Recovery, store: Store) -> None:
        self._recovery = recovery
        self._store = store

    async def published(self, request: Request[None]) -> Reply:
        found = await self._store.published(_filter_of(request.values))
        return Reply(
            body=[
                PublishedRows(
                    topic=rows.topic, count=rows.count, oldest=_moment(rows.oldest_ms), newest=_moment(rows.newest_ms)
                )
                for rows in found
            ]
        )

    async def republish(self, request: Request[RepublishRequest]) -> Reply:
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        count = await self._recovery.republish(shown(asked, OutboxFilter), act)
        return Reply(body=Republished(republished=count))

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                method="GET",
                path="/ops/outbox/published",
                summary="Published events that the outbox still has",
                description=(
                    "What could be published again, by topic. The outbox keeps events for "
                    "ORDERFLOW_OUTBOX_KEEP_HOURS."
                ),
                tag=TAG,
                handler=self.published,
                parameters=_NARROWING,
                responses=[Response(status=200, description="By topic", type=list[PublishedRows], example=PUBLISHED)],
            ),
            Operation(
                method="POST",
                path="/ops/outbox/republish",
                summary="Publish events once more; consumers drop what they know",
                description=(
                    "For when the log has lost them. Each keeps its id, so that whoever has handled it does nothing."
                ),
                tag=TAG,
                handler=self.republish,
                request=RepublishRequest,
                example=REPUBLISH,
                parameters=(operator,),
                responses=[
                    Response(
                        status=200,
                        description="They are unsent again",
                        type=Republished,
                        example=Republished(republished=4),
                    ),
                    Response(status=409, description="The outbox has none of that kind"),
                    CONFIRM,
                ],
            ),
        )


_NARROWING = (
    Parameter(name="topic", where="query", description="Only of this topic", type=Text),
    Parameter(name="key", where="query", description="Only of this key, which is an order's id", type=Text),
    Parameter(name="from_ms", where="query", description="Only written since (ms since the epoch)", type=Instant),
    Parameter(name="to_ms", where="query", description="Only written before (ms since the epoch)", type=Instant),
)


def _filter_of(values: Mapping[str, Any]) -> OutboxFilter:
    return OutboxFilter(**{name: values[name] for name in ("topic", "key", "from_ms", "to_ms")})


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
