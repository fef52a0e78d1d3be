"""What operators' requests have in common: which events they mean, who asks, and why."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec

from orderflow.core.inbox import InboxState
from orderflow.core.operations.model import LetterFilter
from orderflow.core.store import Act
from orderflow.http import operation, validation
from orderflow.http.operation import Parameter, Request, Response

OPERATORS_TAG = "operators"
route = partial(operation.route, tag=OPERATORS_TAG)
OPERATOR = "x-orderflow-operator"
EVENTS_MAX = 1000

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Text = Annotated[validation.Text, msgspec.Meta(max_length=500)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
EventId = UUID | Position
Listed = Annotated[tuple[EventId, ...], msgspec.Meta(max_length=EVENTS_MAX)]

one_event = Parameter("id", "path", "Event id or position", EventId)
key_of = Parameter("key", "path", "The key, an order's id", Text)
operator = Parameter(
    OPERATOR,
    "header",
    "name for the operators' log, besides the caller's; it proves nothing",
    Annotated[validation.Text, msgspec.Meta(min_length=1, max_length=500, examples=["anna@desk"])],
    default="",
)

NOT_THERE = Response(404, "There is no such thing")
CONFIRM = Response(428, "This needs a confirmation and a reason; `detail` says why")


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead events are meant; what is absent does not narrow. With `events` (ids or positions) any state is."""

    events: Listed | None = None
    consumer: Text | None = None
    topic: Text | None = None
    type: Text | None = None
    fingerprint: Text | None = None
    key: Text | None = None
    older_than_ms: Millis | None = None

    def to_filter(self) -> LetterFilter:
        return LetterFilter(
            state=InboxState.DEAD if self.events is None else None,
            consumer=self.consumer,
            topic=self.topic,
            event_type=self.type,
            fingerprint=self.fingerprint,
            key=self.key,
            older_than_ms=self.older_than_ms,
            events=self.events,
        )


def act_of(request: Request[Any], *, reason: str = "", confirmed: bool = False) -> Act:
    """Who asks, and why."""
    said: str = request.values[OPERATOR]
    return Act(caller=request.caller, reason=reason, confirmed=confirmed, operator=said, approves=request.approves)
