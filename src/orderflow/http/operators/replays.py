"""`/ops/rehearsals`, `/ops/replays`: what a replay would do; send dead events through their consumer again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orderflow.core.operations.model import Rehearsed, Replay, ReplayPlan
from orderflow.core.operations.recovery import Recovery
from orderflow.http.operation import Operation, Parameter, Reply, Request, Response
from orderflow.http.operators.asking import (
    CONFIRM,
    NOT_THERE,
    Limit,
    Position,
    Selection,
    Text,
    act_of,
    operator,
    route,
)
from orderflow.http.operators.examples import CONFIRMED, FILTER, REHEARSED, REPLAY, REPLAY_WANTED

NOTHING = Response(409, "No dead event matches")
NOT_SO = Response(409, "The replay is not in a state that allows this")


class RehearsalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events, and how many at most. The events before and behind them in their keys are rehearsed with them."""

    filter: Selection
    limit: Limit = 100


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead events, how and why. `confirmed`: a person has confirmed it."""

    filter: Selection
    plan: ReplayPlan = ReplayPlan()
    reason: Text = ""
    confirmed: bool = False


class ControlRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; `confirmed`: a person has confirmed it."""

    reason: Text = ""
    confirmed: bool = False


_LIMIT = Parameter("limit", "query", "Maximum number of entries", Limit, default=20)
_NUMBER = Parameter("number", "path", "The replay's number", Position)
_BEGUN = Response(201, "The replay has begun", Replay, example=REPLAY)
_TOLD = Response(200, "The replay", Replay, example=REPLAY)
_LATEST = Response(200, "Latest first", list[Replay], example=[REPLAY])
_VERDICTS = Response(200, "Key by key, in order", list[Rehearsed], example=REHEARSED)


class Replays:
    """Rehearses, starts and steers replays; the engine carries them out."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery

    async def rehearse(self, request: Request[RehearsalRequest]) -> Reply:
        """What a replay would do; nothing is changed.

        Handles the events against the current rows, in a transaction that is rolled back. The outside world is not
        asked.
        """
        return Reply(body=await self._recovery.rehearse(request.body.filter.to_filter(), request.body.limit))

    async def begin(self, request: Request[ReplayRequest]) -> Reply:
        """Send dead events through their consumer again.

        Only the consumer that failed gets them, each key from head to tail, with what is held behind. A replay with
        too many failures stops by itself.
        """
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        replay = await self._recovery.replay(asked.filter.to_filter(), asked.plan, act)
        return Reply(201, replay)

    async def listed(self, request: Request[None]) -> Reply:
        """The latest replays.

        Each with how many of its events succeeded, failed again or still wait.
        """
        return Reply(body=await self._recovery.store.replays(request.values["limit"]))

    async def one(self, request: Request[None]) -> Reply:
        """The state of a replay.

        Its state, why it stopped if it did, and what became of its events.
        """
        return Reply(body=await self._recovery.find_replay(request.values["number"]))

    async def pause(self, request: Request[ControlRequest]) -> Reply:
        """Pause a replay after the events under way.

        Takes effect at once, and is logged. A resumed replay continues where it was paused.
        """
        act = act_of(request, reason=request.body.reason, confirmed=request.body.confirmed)
        return Reply(body=await self._recovery.pause(request.values["number"], act))

    async def resume(self, request: Request[ControlRequest]) -> Reply:
        """Resume a paused or stopped replay.

        Takes effect at once, and is logged. A resumed replay continues where it was paused.
        """
        act = act_of(request, reason=request.body.reason, confirmed=request.body.confirmed)
        return Reply(body=await self._recovery.resume(request.values["number"], act))

    def operations(self) -> Sequence[Operation]:
        held = (_TOLD, NOT_THERE, NOT_SO)
        one = (_NUMBER, operator)
        limit = {"filter": FILTER, "limit": 100}
        return (
            route("POST /ops/rehearsals", self.rehearse, _VERDICTS, example=limit),
            route(
                "POST /ops/replays",
                self.begin,
                _BEGUN,
                NOTHING,
                CONFIRM,
                parameters=(operator,),
                example=REPLAY_WANTED,
            ),
            route("GET /ops/replays", self.listed, _LATEST, parameters=(_LIMIT,)),
            route("GET /ops/replays/{number}", self.one, _TOLD, NOT_THERE, parameters=(_NUMBER,)),
            route("POST /ops/replays/{number}/pause", self.pause, *held, parameters=one, example=CONFIRMED),
            route(
                "POST /ops/replays/{number}/resume", self.resume, *held, CONFIRM, parameters=one, example=CONFIRMED
            ),
        )
