"""`/ops/outages`: which failures are taken for an outage, and an operator's word against it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec

from orderflow.core.access import PERSONAL
from orderflow.core.failures import Verdict
from orderflow.core.operations.model import OVERRULE_HOLDS_MS, Overrule
from orderflow.core.operations.overruling import Outage, Overruling
from orderflow.http.operation import Operation, Reply, Request, Response
from orderflow.http.operators.asking import CONFIRM, Text, act_of, operator, route
from orderflow.http.operators.examples import OUTAGES, OVERRULE, OVERRULED


class OverruleView(msgspec.Struct, frozen=True, kw_only=True):
    """Who overruled how failures are judged, why, and until when."""

    verdict: Verdict
    who: str
    reason: str
    until: datetime


class OutageView(msgspec.Struct, frozen=True, kw_only=True):
    """How failures of an event type stand at a consumer, in the process that answers.

    `state`: outage (judged so `for_ms` ago), in doubt (keys fail alike, and nothing of the type has succeeded since),
    none (nothing of it fails here). Of `tried` keys, `failing` failed alike with `error`. Texts come from outside.
    """

    consumer: str
    event_type: str
    state: Literal["outage", "in doubt", "none"]
    for_ms: int | None
    failing: int
    tried: int
    error: Annotated[str, PERSONAL]
    fingerprint: str
    overruled: OverruleView | None


class OutageList(msgspec.Struct, frozen=True, kw_only=True):
    """What is judged, in doubt or overruled, and the consumers of the service."""

    consumers: list[str]
    outages: list[OutageView]


class OverruleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`event_type`: a wire name (`orderflow.OrderPlaced.v1`), the name without its version, or its last part."""

    consumer: Text
    event_type: Text
    verdict: Verdict
    reason: Text


class Overruled(msgspec.Struct, frozen=True, kw_only=True):
    """What holds from now on. Each process of the service follows it within seconds."""

    consumer: str
    event_type: str
    overruled: OverruleView


_LISTED = Response(200, "As the answering process sees it", OutageList, example=OUTAGES)
_HOLDS = Response(200, "It is in force", Overruled, example=OVERRULED)
_UNKNOWN = Response(422, "A field is not valid, or the service has no such consumer or type; `detail` names it")


class Outages:
    """Asks the core."""

    def __init__(self, overruling: Overruling) -> None:
        self._overruling = overruling

    async def listed(self, _: Request[None]) -> Reply:
        """Failures that are judged an outage, are in doubt, or were overruled.

        If events of a type fail alike for many keys, that is judged an outage: they wait, and use up no attempts.
        Shows what the answering process judged, and how operators overruled it.
        """
        found = [_view(each) for each in await self._overruling.outages()]
        return Reply(body=OutageList(consumers=list(self._overruling.consumers), outages=found))

    async def overrule(self, request: Request[OverruleRequest]) -> Reply:
        """Declare failures of an event type an outage or poison, for an hour.

        Poison uses up its attempts and ends as dead letters; an outage waits and uses up none. Every process of the
        service follows within seconds, and it is logged.
        """
        asked = request.body
        act = act_of(request, reason=asked.reason)
        made = await self._overruling.overrule(asked.consumer, asked.event_type, asked.verdict, act)
        return Reply(
            body=Overruled(consumer=made.consumer, event_type=made.event_type, overruled=_overrule_view(made))
        )

    def operations(self) -> Sequence[Operation]:
        return (
            route("GET /ops/outages", self.listed, _LISTED),
            route(
                "POST /ops/outages",
                self.overrule,
                _HOLDS,
                _UNKNOWN,
                CONFIRM,
                parameters=(operator,),
                example=OVERRULE,
            ),
        )


def _view(outage: Outage) -> OutageView:
    standing = outage.standing
    evidence = standing.evidence if standing else None
    for_s = standing.for_s if standing else None
    return OutageView(
        consumer=outage.consumer,
        event_type=outage.event_type,
        state="none" if standing is None else "in doubt" if for_s is None else "outage",
        for_ms=None if for_s is None else round(for_s * 1000),
        failing=evidence.failing if evidence else 0,
        tried=evidence.tried if evidence else 0,
        error=evidence.error if evidence else "",
        fingerprint=evidence.fingerprint if evidence else "",
        overruled=_overrule_view(outage.overrule) if outage.overrule else None,
    )


def _overrule_view(overrule: Overrule) -> OverruleView:
    assert overrule.made_at is not None
    until = overrule.made_at + timedelta(milliseconds=OVERRULE_HOLDS_MS)
    return OverruleView(verdict=overrule.verdict, who=overrule.who, reason=overrule.reason, until=until)
