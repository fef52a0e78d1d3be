"""`/ops/dead-letters`, `/ops/dead-letter-groups`: what was given up or waits, and how it is fixed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec

from orderflow.core.access import INSPECT
from orderflow.core.inbox import InboxState
from orderflow.core.operations.model import (
    Content,
    DeadLetter,
    DeadLetterDetails,
    DeadLetterGroup,
    DeadLetterPage,
    FieldChange,
    Follower,
    HistoryEntry,
    LetterFilter,
    Original,
    Reproduction,
    StoredLetter,
    headers_of,
)
from orderflow.core.operations.recovery import Recovery
from orderflow.core.service import Service
from orderflow.http.operation import (
    EDIT_REFUSED,
    INVALID_REQUEST,
    Example,
    Operation,
    Parameter,
    Reply,
    Request,
    Response,
)
from orderflow.http.operators import examples
from orderflow.http.operators.asking import (
    CONFIRM,
    NOT_THERE,
    Limit,
    Millis,
    Position,
    Text,
    act_of,
    one_event,
    operator,
    route,
)
from orderflow.http.problems import FieldError, ProblemError
from orderflow.http.validation import IdEnd, Raw

FOLLOWERS_SHOWN = 100
ENDING_SHOWN = 10
VERSION = re.compile(r"\.v\d+$")

Wish = Literal["dead", "retrying", "held", "parked", "all"]
STATES: Mapping[str, InboxState | None] = MappingProxyType(
    {
        "dead": InboxState.DEAD,
        "retrying": InboxState.PARKED,
        "held": InboxState.PARKED,
        "parked": InboxState.PARKED,
        "all": None,
    }
)

REFUSED = Response(
    422,
    "A field is not valid, or the event cannot have this value; `detail` says why",
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
    """The new value, as text or base64; why; `confirmed`: a person has confirmed it.

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


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The id of the event as it stands, and what an edit would change of it."""

    event_id: UUID
    changes: Sequence[FieldChange]


class DiscardRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; `confirmed`: a person has confirmed it."""

    reason: Text
    confirmed: bool = False


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """The event was given up for good: what was held behind it goes on."""

    discarded: bool = True


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people know about a group; "" removes the note."""

    note: Text


_PAGE = Response(200, "In order of position", DeadLetterPage, example=examples.PAGE)
_DETAILS = Response(200, "The event", DeadLetterDetails, example=examples.DETAILS)
_IDS = Response(200, "A few matching ids", list[UUID], example=[Example.PAID_BY])
_HISTORY = Response(200, "Oldest first", list[HistoryEntry], example=examples.HISTORY)
_GROUPS = Response(200, "Largest first", list[DeadLetterGroup], example=[examples.GROUP])
_GROUP = Response(200, "The group", DeadLetterGroup, example=examples.GROUP)
_DISCARDED = Response(200, "It is discarded", Discarded, example=Discarded())
_REPRODUCTION = Response(200, "Event and rows", Reproduction, example=examples.REPRODUCTION)
_EDITED = Response(200, "The event as it is now", DeadLetter, example={**examples.LETTER, "edited": True})
_PREVIEWED = Response(200, "What it would change", Preview, example=examples.PREVIEW)


class DeadLetterOperations:
    """Answers from the service's own database; what changes something is done by the core."""

    def __init__(self, service: Service, recovery: Recovery) -> None:
        self._confirm = service.confirm
        self._recovery = recovery
        self._store = recovery.store

    async def page(self, request: Request[None]) -> Reply:
        """Dead events, and those that wait.

        Every event that a consumer of this service could not handle; the filters narrow it.
        """
        limit: int = request.values["limit"]
        found = await self._store.letters(_filter_of(request.values), limit, request.values["after"])
        return Reply(
            body=DeadLetterPage(
                dead_letters=[letter for letter in found if _is_meant(letter, request.values)],
                next=found[-1].position if len(found) == limit else None,
                confirm=self._confirm,
            )
        )

    async def one(self, request: Request[None]) -> Reply:
        """One dead or parked event, with its record and its history.

        Its record, edits, history, and what waits behind it.
        """
        found = await self._store.letter(request.values["id"])
        if found is None:
            raise ProblemError(404, "there is no such dead or parked event")
        letter, record = found.letter, found.event.record
        same_key = LetterFilter(state=None, consumer=letter.consumer, key=letter.key)
        followers = await self._store.letters(same_key, FOLLOWERS_SHOWN, letter.position)
        return Reply(
            body=DeadLetterDetails(
                letter=letter,
                value=Content.of(record.value),
                headers=headers_of(record),
                original=_original_of(found),
                history=await self._store.history(letter.position),
                followers=msgspec.convert(followers, list[Follower], from_attributes=True),
                confirm=self._confirm,
            )
        )

    async def ending(self, request: Request[None]) -> Reply:
        """Which events a short id stands for.

        Searches the events that wait or ever failed at this service.
        """
        return Reply(body=await self._store.events_ending(request.values["ends"], ENDING_SHOWN))

    async def history(self, request: Request[None]) -> Reply:
        """What happened to an event, even if it no longer waits.

        Each time it failed, was given up, edited, replayed or discarded, and by whom.
        """
        found = await self._store.history(request.values["id"])
        if not found:
            raise ProblemError(404, "no such event was ever dead or parked")
        return Reply(body=found)

    async def groups(self, _: Request[None]) -> Reply:
        """Dead events that failed alike.

        Events with the same fingerprint failed with the same error at the same place: what fixes one fixes all.
        """
        return Reply(body=await self._store.groups(LetterFilter()))

    async def annotate(self, request: Request[Note]) -> Reply:
        """Attach a note to a group.

        The note is shown with the group, including events that join it later.
        """
        fingerprint: str = request.values["fingerprint"]
        act = act_of(request)
        groups = await self._store.groups(LetterFilter(fingerprint=fingerprint))
        if not groups:
            raise ProblemError(404, "there is no such group of dead events")
        await self._recovery.annotate(fingerprint, request.body.note, act)
        return Reply(body=msgspec.structs.replace(groups[0], note=request.body.note))

    async def edit(self, request: Request[EditRequest]) -> Reply:
        """Correct the value of an event; the original is kept.

        The event stays dead, with a new value and a new id, until it is replayed. It is validated as its
        consumer would read it. Give `text` or `base64`, not both.
        """
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        edited = await self._recovery.edit(request.values["id"], _value_of(asked), act, asked.seen)
        return Reply(body=edited.letter)

    async def preview(self, request: Request[PreviewRequest]) -> Reply:
        """What another value would change in an event, field by field; nothing is stored.

        Look at it before you edit: an edit that names the `event_id` as `seen` is refused if the event has
        changed since. Give `text` or `base64`, not both.
        """
        found, changes = await self._recovery.preview(request.values["id"], _value_of(request.body))
        return Reply(body=Preview(event_id=found.event.event_id, changes=changes))

    async def discard(self, request: Request[DiscardRequest]) -> Reply:
        """Give up an event for good.

        It is never retried. The events of its key that wait behind it go on.
        """
        act = act_of(request, reason=request.body.reason, confirmed=request.body.confirmed)
        await self._recovery.discard(request.values["id"], act)
        return Reply(body=Discarded())

    async def reproduce(self, request: Request[None]) -> Reply:
        """What is needed to reproduce the failure.

        The event as it is parked, and the rows that it touches: enough for a test that fails in the same way.
        """
        return Reply(body=await self._recovery.reproduce(request.values["id"]))

    def operations(self) -> Sequence[Operation]:
        return (*self._looking(), *self._acting())

    def _looking(self) -> Sequence[Operation]:
        return (
            route("GET /ops/dead-letters", self.page, _PAGE, parameters=_LISTING),
            route("GET /ops/event-ids/{ends}", self.ending, _IDS, parameters=(_ENDS,)),
            route("GET /ops/dead-letters/{id}", self.one, _DETAILS, NOT_THERE, parameters=(one_event,)),
            route("GET /ops/dead-letters/{id}/history", self.history, _HISTORY, NOT_THERE, parameters=(one_event,)),
            route(
                "GET /ops/dead-letters/{id}/reproduction",
                self.reproduce,
                _REPRODUCTION,
                NOT_THERE,
                parameters=(one_event,),
                permission=INSPECT,
            ),
            route("GET /ops/dead-letter-groups", self.groups, _GROUPS),
        )

    def _acting(self) -> Sequence[Operation]:
        return (
            route(
                "PUT /ops/dead-letter-groups/{fingerprint}/note",
                self.annotate,
                _GROUP,
                NOT_THERE,
                parameters=(_FINGERPRINT, operator),
                example={"note": examples.GROUP["note"]},
            ),
            route(
                "PUT /ops/dead-letters/{id}/value",
                self.edit,
                _EDITED,
                NOT_THERE,
                REFUSED,
                CONFIRM,
                parameters=(one_event, operator),
                example=examples.EDIT,
            ),
            route(
                "POST /ops/dead-letters/{id}/preview",
                self.preview,
                _PREVIEWED,
                NOT_THERE,
                REFUSED,
                parameters=(one_event,),
                example={"text": examples.EDIT["text"]},
            ),
            route(
                "POST /ops/dead-letters/{id}/discard",
                self.discard,
                _DISCARDED,
                NOT_THERE,
                CONFIRM,
                parameters=(one_event, operator),
                example=examples.CONFIRMED,
            ),
        )


def _original_of(found: StoredLetter) -> Original | None:
    if found.original is None:
        return None
    value = Content.of(found.original.value)
    return Original(event_id=found.original_id, value=value, headers=headers_of(found.original))


def _value_of(asked: EditRequest | PreviewRequest) -> bytes:
    """Raises ProblemError: none or two are given, or what is given is not base64."""
    if (asked.text is None) == (asked.base64 is None):
        raise _refused("text", "give the value either as text or as base64")
    try:
        return Content(text=asked.text, base64=asked.base64).to_bytes() or b""
    except ValueError as error:
        raise _refused("base64", f"not base64: {error}") from error


def _refused(field: str, why: str) -> ProblemError:
    return ProblemError(422, f"/{field}: {why}", errors=[FieldError(detail=why, pointer=f"/{field}")])


_LISTING = (
    Parameter("state", "query", "Which ones; parked: retrying or held", Wish, "dead"),
    Parameter("consumer", "query", "Only events of this consumer", Text),
    Parameter("topic", "query", "Only events from this topic", Text),
    Parameter(
        "type",
        "query",
        "Only events of this type: orderflow.OrderPlaced.v1, orderflow.OrderPlaced or OrderPlaced",
        Text,
    ),
    Parameter("fingerprint", "query", "Only events of this group", Text),
    Parameter("key", "query", "Only events of this key, an order's id", Text),
    Parameter("older_than_ms", "query", "Only events parked at least this long ago", Millis),
    Parameter("limit", "query", "Maximum number of entries", Limit, 100),
    Parameter("after", "query", "Start after this position", Position, 0),
)


_FINGERPRINT = Parameter("fingerprint", "path", "The group", Text)
_ENDS = Parameter("ends", "path", "The last digits of an id", IdEnd)


def _filter_of(values: Mapping[str, Any]) -> LetterFilter:
    wanted: str | None = values["type"]
    return LetterFilter(
        state=STATES[values["state"]],
        consumer=values["consumer"],
        topic=values["topic"],
        event_type=wanted if wanted and VERSION.search(wanted) else None,
        fingerprint=values["fingerprint"],
        key=values["key"],
        older_than_ms=values["older_than_ms"],
    )


def _is_meant(letter: DeadLetter, values: Mapping[str, Any]) -> bool:
    """What the store does not filter by: `retrying` and `held` differ by their attempts, and a type may be named
    without its version.
    """
    state, wanted = values["state"], values["type"]
    in_state = state not in {"retrying", "held"} or letter.state == state
    return in_state and (wanted is None or wanted in _names_of(letter.event_type))


def _names_of(event_type: str) -> tuple[str, str, str]:
    unversioned = VERSION.sub("", event_type)
    return event_type, unversioned, unversioned.rpartition(".")[2]
