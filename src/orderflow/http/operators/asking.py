"""What operators' requests have in common: which events they mean, who asks, and why."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, cast, get_args, get_type_hints
from uuid import UUID

import msgspec

from orderflow.core.access import Permission
from orderflow.core.inbox import InboxState
from orderflow.core.operations.model import LetterFilter
from orderflow.core.store import Act
from orderflow.http import validation
from orderflow.http.operation import Handler, Method, Operation, Parameter, Request, Response

OPERATORS_TAG = "operators"
OPERATOR = "x-orderflow-operator"
EVENTS_MAX = 1000

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Text = Annotated[validation.Text, msgspec.Meta(max_length=500)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
EventId = UUID | Position
Listed = Annotated[tuple[EventId, ...], msgspec.Meta(max_length=EVENTS_MAX)]

one_event = Parameter(name="id", where="path", description="Event id or position", type=EventId)
key_of = Parameter(name="key", where="path", description="The key, an order's id", type=Text)
operator = Parameter(
    name=OPERATOR,
    where="header",
    description="name for the operators' log, besides the caller's; it proves nothing",
    type=Annotated[validation.Text, msgspec.Meta(min_length=1, max_length=500, examples=["anna@desk"])],
    default="",
)

NOT_THERE = Response(status=404, description="There is no such thing")
CONFIRM = Response(status=428, description="This needs a confirmation and a reason; `detail` says why")


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


def route(
    line: str,
    handler: Handler,
    *responses: Response,
    parameters: Sequence[Parameter] = (),
    example: Any = None,
    permission: Permission | None = None,
) -> Operation:
    """`METHOD /path`, answered by a handler whose docstring is the summary and the description of the operation, and
    whose annotation `Request[Body]` says what its body is.
    """
    body = next(get_args(hint)[0] for name, hint in get_type_hints(handler).items() if name != "return")
    method, path = line.split(" ")
    summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n\n")
    return Operation(
        method=cast("Method", method),
        path=path,
        summary=summary.removesuffix("."),
        description=" ".join(description.split()),
        tag=OPERATORS_TAG,
        handler=handler,
        responses=responses,
        parameters=parameters,
        request=None if body is NoneType else body,
        example=example,
        permission=permission,
    )


def act_of(request: Request[Any], *, reason: str = "", confirmed: bool = False) -> Act:
    """Who asks, and why."""
    said: str = request.values[OPERATOR]
    return Act(caller=request.caller, reason=reason, confirmed=confirmed, said=said, approves=request.approves)
