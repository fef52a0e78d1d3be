"""`/ops/repairs/{key}/…`: what a service says of a key, and what it can say or take again where that was lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from orderflow.core.access import APPROVE, INSPECT, Permission
from orderflow.core.operations.repairing import Regarded, Repairs, Said, Standing
from orderflow.http.operation import Operation, Reply, Request, Response
from orderflow.http.operators import examples
from orderflow.http.operators.asking import CONFIRM, Text, act_of, key_of, operator, route
from orderflow.http.operators.proposals import PROPOSED
from orderflow.http.validation import Raw

SAID_MAX = 20
UNREAD = Response(409, "The service does not read such an event, or it is not of this key")

Number = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class SaidView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event as its service says it: wire name, topic, id, source, number among the source's events of the key, and
    value (JSON as text).
    """

    type: Text
    topic: Text
    event_id: Text
    source: Text
    sequence: Number
    value: Raw


class Regarding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events as their services say them."""

    said: Annotated[list[SaidView], msgspec.Meta(max_length=SAID_MAX)]


class Restating(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events to publish once more (wire names); `ask`: ask the outside world for what is open; `flow`: say how
    each consumer stands to the key. Why; `confirmed`: a person has confirmed it.
    """

    types: Annotated[list[Text], msgspec.Meta(max_length=SAID_MAX)] = []
    ask: bool = False
    flow: bool = False
    reason: Text
    confirmed: bool = False


class Retaking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The event to take again, as its service says it. Why; `confirmed`: a person has confirmed it."""

    said: SaidView
    reason: Text
    confirmed: bool = False


class RepairOperations:
    """Asks the core."""

    def __init__(self, repairs: Repairs) -> None:
        self._repairs = repairs

    async def standing(self, request: Request[None]) -> Reply:
        """What the service's rows of a key stand for.

        The events it published for the key, made again from its rows with their old ids, and what it must ask the
        outside world. Nothing if it does not know the key.
        """
        return Reply(body=await self._repairs.standing(request.values["key"]))

    async def regard(self, request: Request[Regarding]) -> Reply:
        """How the service's consumers stand to events that others say.

        `known`: it has had its effect; `missing`: it never came; `lost`: it came, its effect is not there and can be
        had again; `refused`: it never came and would be refused; `waits`: it waits behind what failed; `given_up`:
        it was discarded. Each is tried through the real processor, in a transaction that is rolled back: nothing is
        changed. Events that it does not read are left out.
        """
        said = [_said(each) for each in request.body.said]
        return Reply(body=list(await self._repairs.regard(request.values["key"], said)))

    async def say_again(self, request: Request[Restating]) -> Reply:
        """Publish once more what the service's rows stand for.

        For an event that was never sent. It keeps its id and number, so consumers that have handled it do nothing. A
        question to the outside world keeps its idempotency key.
        """
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        key: str = request.values["key"]
        return Reply(body=await self._repairs.say_again(key, asked.types, act, ask=asked.ask, flow=asked.flow))

    async def take_again(self, request: Request[Retaking]) -> Reply:
        """Redo the lost effect of an event.

        For an event that the inbox knows but whose effect is missing. If the effect is there, the service's own
        rules refuse it, and nothing is changed.
        """
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        return Reply(body=list(await self._repairs.take_again(request.values["key"], _said(asked.said), act)))

    def operations(self) -> Sequence[Operation]:
        return (*self._looking(), self._saying(), self._taking())

    def _looking(self) -> Sequence[Operation]:
        return (
            route(
                "GET /ops/repairs/{key}",
                self.standing,
                Response(200, "What it says", Standing, example=examples.STANDING),
                parameters=(key_of,),
                permission=INSPECT,
            ),
            route(
                "POST /ops/repairs/{key}/regard",
                self.regard,
                Response(200, "By event", list[Regarded], example=[examples.REGARDED]),
                UNREAD,
                parameters=(key_of,),
                example={"said": [examples.SAID]},
                permission=Permission(INSPECT.roles),
            ),
        )

    def _saying(self) -> Operation:
        return route(
            "POST /ops/repairs/{key}/say-again",
            self.say_again,
            Response(200, "What was said", Standing, example=examples.STANDING),
            PROPOSED,
            CONFIRM,
            parameters=(key_of, operator),
            example={"types": [examples.SAID["type"]], **examples.CONFIRMED},
            permission=APPROVE,
        )

    def _taking(self) -> Operation:
        taken = [{**examples.REGARDED, "regard": "lost"}]
        told = "How each consumer stood to it; `lost`: it was taken again"
        return route(
            "POST /ops/repairs/{key}/take-again",
            self.take_again,
            Response(200, told, list[Regarded], example=taken),
            PROPOSED,
            UNREAD,
            CONFIRM,
            parameters=(key_of, operator),
            example={"said": examples.SAID, **examples.CONFIRMED},
            permission=APPROVE,
        )


def _said(view: SaidView) -> Said:
    return msgspec.convert(view, Said, from_attributes=True)
