"""`/ops/replays`: send dead events through their consumer again, and see what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec

from orderflow.messaging.recovery.port import Replay, ReplayPlan
from orderflow.messaging.recovery.recovery import Recovery
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.operators.asking import (
    CONFIRM,
    NOT_THERE,
    TAG,
    Limit,
    Position,
    Text,
    Wanted,
    act_of,
    operator,
)
from orderflow.runtime.operators.examples import CONFIRMED, REPLAY, REPLAY_WANTED
from orderflow.runtime.operators.views import shown

Rate = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


NOTHING = Response(status=409, description="No dead event is meant")
NOT_SO = Response(status=409, description="The replay is not in a state for that")


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to replay. `rate_per_s` null: as fast as it goes. `canary`: 1, 2, 5, 10, ... at a time, and no more than
    200, each step judged before the next; else up to 200 are sent before the first has its outcome.

    `failing_share_max`: stop when more than this share has failed again. `lag_growth_max`: stop when the consumer is
    so many records further behind than at the beginning (null: not looked at).
    """

    rate_per_s: Rate | None = None
    canary: bool = True
    failing_share_max: Share = 0.05
    lag_growth_max: Count | None = 1_000


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead events, how and why. `confirmed`: a person was asked and means it."""

    filter: Wanted
    plan: Plan = Plan()
    reason: Text = ""
    confirmed: bool = False


class ControlRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; `confirmed`: a person was asked and means it."""

    reason: Text = ""
    confirmed: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How the events of a replay stand. `gone`: it was no longer dead when its turn came."""

    waiting: int
    under_way: int
    succeeded: int
    failed_again: int
    discarded: int
    gone: int


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """A replay. `state`: running, paused (by a person), stopped (a gate closed: `why`), done."""

    number: int
    state: str
    why: str
    who: str
    reason: str
    plan: Plan
    created_at: datetime
    step: int
    progress: Progress


_LIMIT = Parameter(name="limit", where="query", description="Most entries", type=Limit, default=20)
_NUMBER = Parameter(name="number", where="path", description="The replay's number", type=Position)
_BEGUN = Response(status=201, description="It has begun", type=ReplayView, example=REPLAY)
_TOLD = Response(status=200, description="The replay", type=ReplayView, example=REPLAY)


class Replays:
    """Starts and steers replays; the engine carries them out."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery

    async def begin(self, request: Request[ReplayRequest]) -> Reply:
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        plan = shown(asked.plan, ReplayPlan)
        replay = await self._recovery.replay(asked.filter.to_filter(), plan, act)
        return Reply(201, _view(replay))

    async def listed(self, request: Request[None]) -> Reply:
        return Reply(body=[_view(each) for each in await self._recovery.store.replays(request.values["limit"])])

    async def one(self, request: Request[None]) -> Reply:
        return Reply(body=_view(await self._recovery.find_replay(request.values["number"])))

    async def pause(self, request: Request[ControlRequest]) -> Reply:
        act = act_of(request, reason=request.body.reason, confirmed=request.body.confirmed)
        return Reply(body=_view(await self._recovery.pause(request.values["number"], act)))

    async def resume(self, request: Request[ControlRequest]) -> Reply:
        act = act_of(request, reason=request.body.reason, confirmed=request.body.confirmed)
        return Reply(body=_view(await self._recovery.resume(request.values["number"], act)))

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                method="POST",
                path="/ops/replays",
                summary="Send dead events through their consumer again",
                description=(
                    "Only the consumer that failed gets them, each key from its head to its tail, with what waits "
                    "behind. A replay that fails too often stops by itself."
                ),
                tag=TAG,
                handler=self.begin,
                request=ReplayRequest,
                example=REPLAY_WANTED,
                parameters=(operator,),
                responses=[_BEGUN, NOTHING, CONFIRM],
            ),
            Operation(
                method="GET",
                path="/ops/replays",
                summary="The latest replays",
                description="Each with how many of its events have succeeded, failed again or still wait.",
                tag=TAG,
                handler=self.listed,
                parameters=(_LIMIT,),
                responses=[Response(status=200, description="Latest first", type=list[ReplayView], example=[REPLAY])],
            ),
            Operation(
                method="GET",
                path="/ops/replays/{number}",
                summary="How a replay stands",
                description="Its state, why it stopped if it did, and how its events fare.",
                tag=TAG,
                handler=self.one,
                parameters=(_NUMBER,),
                responses=[_TOLD, NOT_THERE],
            ),
            self._control("pause", "Hold a replay after what is under way", ()),
            self._control("resume", "Go on with a paused or stopped replay", (CONFIRM,)),
        )

    def _control(self, verb: str, summary: str, responses: Sequence[Response]) -> Operation:
        return Operation(
            method="POST",
            path=f"/ops/replays/{{number}}/{verb}",
            summary=summary,
            description="Takes effect at once, and is logged. A replay goes on where it was held.",
            example=CONFIRMED,
            tag=TAG,
            handler=self.pause if verb == "pause" else self.resume,
            request=ControlRequest,
            parameters=(_NUMBER, operator),
            responses=[_TOLD, NOT_THERE, NOT_SO, *responses],
        )


def _view(replay: Replay) -> ReplayView:
    return ReplayView(
        number=replay.number,
        state=replay.state.value,
        why=replay.why,
        who=replay.act.who,
        reason=replay.act.reason,
        plan=shown(replay.plan, Plan),
        created_at=replay.created_at,
        step=replay.step,
        progress=shown(replay.progress, Progress),
    )
