"""`/ops/dead-letters`: what was given up or waits, and one of them with all that is known of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID

from orderflow.messaging.decision import Service
from orderflow.messaging.inbox import InboxState
from orderflow.messaging.recovery.port import Letter, LetterFilter, RecoveryStore, is_last_page
from orderflow.runtime.examples import PAID_BY
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.operators import views
from orderflow.runtime.operators.asking import NOT_THERE, TAG, Limit, Millis, Position, Text, one_event
from orderflow.runtime.operators.examples import DETAILS, HISTORY, PAGE
from orderflow.runtime.problems import ProblemError
from orderflow.runtime.text import IdEnd

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


_PAGE = Response(status=200, description="In order of position", type=views.DeadLetterPage, example=PAGE)
_DETAILS = Response(status=200, description="The event", type=views.DeadLetterDetails, example=DETAILS)
_IDS = Response(status=200, description="A few ids that end so", type=list[UUID], example=[PAID_BY])
_HISTORY = Response(status=200, description="Oldest first", type=list[views.Happening], example=HISTORY)


class Letters:
    """Answers from the service's own database."""

    def __init__(self, service: Service, store: RecoveryStore) -> None:
        self._service = service
        self._store = store

    async def page(self, request: Request[None]) -> Reply:
        limit: int = request.values["limit"]
        found = await self._store.letters(_filter_of(request.values), limit, request.values["after"])
        following = None if is_last_page(found, limit) else found[-1].event.position
        return Reply(
            body=views.DeadLetterPage(
                dead_letters=[views.letter_of(view) for view in found if _is_meant(view, request.values)],
                next=following,
                confirm=self._service.confirm,
            )
        )

    async def one(self, request: Request[None]) -> Reply:
        view = await self._store.letter(request.values["id"])
        if view is None:
            raise ProblemError(404, "there is no such dead or parked event")
        position = view.event.position
        followers = await self._store.letters(
            LetterFilter(state=None, consumer=view.consumer, key=view.event.key), FOLLOWERS_SHOWN, position
        )
        return Reply(
            body=views.DeadLetterDetails(
                letter=views.letter_of(view),
                value=views.content_of(view.event.record.value),
                headers=views.headers_of(view.event.record),
                original=views.original_of(view),
                history=views.shown(await self._store.history(position), list[views.Happening]),
                followers=[views.follower_of(each) for each in followers],
                confirm=self._service.confirm,
            )
        )

    async def ending(self, request: Request[None]) -> Reply:
        return Reply(body=list(await self._store.events_ending(request.values["ends"], ENDING_SHOWN)))

    async def history(self, request: Request[None]) -> Reply:
        found = await self._store.history(request.values["id"])
        if not found:
            raise ProblemError(404, "no such event was ever dead or parked")
        return Reply(body=views.shown(found, list[views.Happening]))

    def operations(self) -> Sequence[Operation]:
        return (*self._finding(), *self._showing())

    def _finding(self) -> Sequence[Operation]:
        return (
            Operation(
                method="GET",
                path="/ops/dead-letters",
                summary="Events that were given up, or wait",
                description="Every event that a consumer of this service could not handle; the filters narrow it.",
                tag=TAG,
                handler=self.page,
                parameters=_LISTING,
                responses=[_PAGE],
            ),
            Operation(
                method="GET",
                path="/ops/event-ids/{ends}",
                summary="Which events a short id means",
                description="Looked for among the events that wait or have ever failed at this service.",
                tag=TAG,
                handler=self.ending,
                parameters=(_ENDS,),
                responses=[
                    Response(status=200, description="A few ids that end so", type=list[UUID], example=[PAID_BY])
                ],
            ),
        )

    def _showing(self) -> Sequence[Operation]:
        return (
            Operation(
                method="GET",
                path="/ops/dead-letters/{id}",
                summary="One dead or parked event, with its record and its history",
                description="Its record, what was edited since, what has happened to it, and what waits behind it.",
                tag=TAG,
                handler=self.one,
                parameters=(one_event,),
                responses=[_DETAILS, NOT_THERE],
            ),
            Operation(
                method="GET",
                path="/ops/dead-letters/{id}/history",
                summary="What has happened to an event, also when it waits no longer",
                description="Each time that it failed, was given up, edited, replayed or discarded, and by whom.",
                tag=TAG,
                handler=self.history,
                parameters=(one_event,),
                responses=[_HISTORY, NOT_THERE],
            ),
        )


def _query(name: str, description: str, wanted: Any, default: Any = None) -> Parameter:
    return Parameter(name=name, where="query", description=description, type=wanted, default=default)


_LISTING = (
    _query("state", "Which ones; parked: retrying or held", Wish, "dead"),
    _query("consumer", "Only of this consumer", Text),
    _query("topic", "Only from this topic", Text),
    _query("type", "Only of this event type: orderflow.OrderPlaced.v1, orderflow.OrderPlaced or OrderPlaced", Text),
    _query("fingerprint", "Only of this group", Text),
    _query("key", "Only of this key, which is an order's id", Text),
    _query("older_than_ms", "Only what was parked so long ago", Millis),
    _query("limit", "Most entries", Limit, 100),
    _query("after", "Start after this position", Position, 0),
)


_ENDS = Parameter(name="ends", where="path", description="The last digits of an id", type=IdEnd)


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


def _is_meant(view: Letter, values: Mapping[str, Any]) -> bool:
    """What the store does not filter by: `retrying` and `held` differ by their attempts, and a type may be named
    without its version.
    """
    state, wanted = values["state"], values["type"]
    in_state = state not in {"retrying", "held"} or views.state_of(view) == state
    return in_state and (wanted is None or wanted in _names_of(view.event.event_type))


def _names_of(event_type: str) -> tuple[str, str, str]:
    unversioned = VERSION.sub("", event_type)
    return event_type, unversioned, unversioned.rpartition(".")[2]
