"""`/ops/dead-letters/{id}/…`: correct the value of an event, give it up for good, or reproduce its failure."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec

from orderflow.messaging.recovery.recovery import Recovery
from orderflow.messaging.recovery.reproduction import Reproduction
from orderflow.runtime.operation import Operation, Reply, Request, Response
from orderflow.runtime.operators import examples, views
from orderflow.runtime.operators.asking import CONFIRM, NOT_THERE, TAG, Text, act_of, one_event, operator
from orderflow.runtime.problem_types import EDIT_REFUSED, INVALID_REQUEST
from orderflow.runtime.problems import FieldError, ProblemError
from orderflow.runtime.text import Raw

REFUSED = Response(
    status=422,
    description="A field does not fit, or the event cannot have this value; the detail says why",
    problems=(INVALID_REQUEST, EDIT_REFUSED),
)
Base64 = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
            "contentEncoding": "base64",
        }
    ),
]
_ONE_VALUE = {
    "anyOf": [
        {"required": [given], "properties": {given: {"type": "string"}, other: {"type": "null"}}}
        for given, other in (("text", "base64"), ("base64", "text"))
    ]
}


class EditRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The new value, as text or base64; why; `confirmed`: a person was asked and means it.

    `seen` is the event's id when the change was looked at: if it has another by now, nothing is done.
    """

    JSON_SCHEMA: ClassVar[Mapping[str, Any]] = _ONE_VALUE

    text: Raw | None = None
    base64: Base64 | None = None
    seen: UUID | None = None
    reason: Text = ""
    confirmed: bool = False


class PreviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The new value, as text or base64."""

    JSON_SCHEMA: ClassVar[Mapping[str, Any]] = _ONE_VALUE

    text: Raw | None = None
    base64: Base64 | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A field by its path (`items.0.quantity`; "" is the whole value) and its JSON; null: it is not there."""

    field: str
    before: str | None
    after: str | None


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The id of the event as it stands, and what an edit would change of it."""

    event_id: UUID
    changes: list[Change]


class DiscardRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; `confirmed`: a person was asked and means it."""

    reason: Text
    confirmed: bool = False


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """The event was given up for good: what was held behind it goes on."""

    discarded: bool = True


class StoredRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it stands. `type` is `module:Class`."""

    type: str
    values: dict[str, Any]


class ReproductionView(msgspec.Struct, frozen=True, kw_only=True):
    """What makes an event fail again elsewhere: the event as it is parked, and the rows that it touches."""

    service: str
    consumer: str
    key: str
    identity: str
    event_id: str
    event_type: str
    attempts: int
    intent: str | None
    error: str
    message: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    record_key: views.Content
    value: views.Content
    headers: list[tuple[str, views.Content]]
    rows: list[StoredRow]


_EDITED = Response(
    status=200,
    description="As it stands now",
    type=views.DeadLetter,
    example={**examples.LETTER, "edited": True},
)
_PREVIEWED = Response(status=200, description="What it would change", type=Preview, example=examples.PREVIEW)


class Mending:
    """Asks the core for changes of single events."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery

    async def edit(self, request: Request[EditRequest]) -> Reply:
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        edited = await self._recovery.edit(request.values["id"], _value_of(asked), act, asked.seen)
        return Reply(body=views.letter_of(edited))

    async def preview(self, request: Request[PreviewRequest]) -> Reply:
        letter, changes = await self._recovery.preview(request.values["id"], _value_of(request.body))
        return Reply(body=Preview(event_id=letter.event.event_id, changes=views.shown(changes, list[Change])))

    async def discard(self, request: Request[DiscardRequest]) -> Reply:
        act = act_of(request, reason=request.body.reason, confirmed=request.body.confirmed)
        await self._recovery.discard(request.values["id"], act)
        return Reply(body=Discarded())

    async def reproduce(self, request: Request[None]) -> Reply:
        return Reply(body=_told(await self._recovery.reproduce(request.values["id"])))

    def operations(self) -> Sequence[Operation]:
        return (*self._editing(), *self._others())

    def _editing(self) -> Sequence[Operation]:
        return (
            Operation(
                method="PUT",
                path="/ops/dead-letters/{id}/value",
                summary="Correct the value of an event; what came in is kept",
                description=(
                    "The event stays dead, with a new value and a new id, until it is replayed. It is validated as "
                    "its consumer would read it. Give `text` or `base64`, not both."
                ),
                tag=TAG,
                handler=self.edit,
                request=EditRequest,
                example=examples.EDIT,
                parameters=(one_event, operator),
                responses=[_EDITED, NOT_THERE, REFUSED, CONFIRM],
            ),
            Operation(
                method="POST",
                path="/ops/dead-letters/{id}/preview",
                summary="What another value would change of an event, field by field; nothing is stored",
                description=(
                    "Look at it before you edit: an edit that names the `event_id` as `seen` is refused if the event "
                    "has changed since. Give `text` or `base64`, not both."
                ),
                tag=TAG,
                handler=self.preview,
                request=PreviewRequest,
                example={"text": examples.EDIT["text"]},
                parameters=(one_event,),
                responses=[_PREVIEWED, NOT_THERE, REFUSED],
            ),
        )

    def _others(self) -> Sequence[Operation]:
        return (
            Operation(
                method="POST",
                path="/ops/dead-letters/{id}/discard",
                summary="Give an event up for good",
                description="It is never tried again. The events of its key that wait behind it go on.",
                tag=TAG,
                handler=self.discard,
                request=DiscardRequest,
                example=examples.CONFIRMED,
                parameters=(one_event, operator),
                responses=[
                    Response(status=200, description="It is", type=Discarded, example=Discarded()),
                    NOT_THERE,
                    CONFIRM,
                ],
            ),
            Operation(
                method="GET",
                path="/ops/dead-letters/{id}/reproduction",
                summary="What is needed to reproduce the failure",
                description=(
                    "The event as it is parked, and the rows that it touches: enough for a test that fails in the "
                    "same way."
                ),
                tag=TAG,
                handler=self.reproduce,
                parameters=(one_event,),
                responses=[
                    Response(
                        status=200,
                        description="Event and rows",
                        type=ReproductionView,
                        example=examples.REPRODUCTION,
                    ),
                    NOT_THERE,
                ],
            ),
        )


def _value_of(asked: EditRequest | PreviewRequest) -> bytes:
    """Raises ProblemError: none or two are given, or what is given is not base64."""
    if (asked.text is None) == (asked.base64 is None):
        detail = "give the value either as text or as base64"
        raise ProblemError(422, f"/text: {detail}", errors=[FieldError(detail=detail, pointer="/text")])
    if asked.text is not None:
        return asked.text.encode()
    try:
        return b64decode(asked.base64 or "", validate=True)
    except (Base64Error, ValueError) as error:
        detail = f"not base64: {error}"
        raise ProblemError(
            422, f"/base64: {detail}", errors=[FieldError(detail=detail, pointer="/base64")]
        ) from error


def _told(found: Reproduction) -> ReproductionView:
    event, record, failure = found.event, found.event.record, found.event.failure
    return ReproductionView(
        service=found.service,
        consumer=found.consumer,
        key=event.key,
        identity=event.identity,
        event_id=str(event.event_id),
        event_type=event.event_type,
        attempts=event.attempts,
        intent=event.intent,
        error=failure.error if failure else "",
        message=failure.message if failure else "",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        record_key=views.content_of(record.key),
        value=views.content_of(record.value),
        headers=views.headers_of(record),
        rows=[StoredRow(type=row.type, values=dict(row.values)) for row in found.rows],
    )
